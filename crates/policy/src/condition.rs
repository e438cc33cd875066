//! `Condition` blocks (IAM's JSON policy elements, which the AWS IoT guide refers to).

use iotedge_model::Action;

use crate::Problem;
use crate::context::{Context, Request};
use crate::json::Node;
use crate::operand::{Comparison, Operand, Order};
use crate::pattern::Match;
use crate::variable::{Values, Variable};

/// How the values of a key that has many are taken together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quantifier {
    None,
    ForAllValues,
    ForAnyValue,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Operator {
    quantifier: Quantifier,
    comparison: Comparison,
    negated: bool,
    if_exists: bool,
}

/// One key of one operator. All of a statement must hold.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Condition {
    operator: Operator,
    /// The operator as written.
    operator_text: String,
    key: Variable,
    key_text: String,
    operands: Vec<Operand>,
    values_text: Vec<String>,
}

fn comparison(name: &str) -> Option<(Comparison, bool)> {
    use Comparison as C;
    Some(match name {
        "StringEquals" => (C::Equals, false),
        "StringNotEquals" => (C::Equals, true),
        "StringEqualsIgnoreCase" => (C::EqualsIgnoreCase, false),
        "StringNotEqualsIgnoreCase" => (C::EqualsIgnoreCase, true),
        "StringLike" => (C::Like, false),
        "StringNotLike" => (C::Like, true),
        "ArnEquals" | "ArnLike" => (C::Arn, false),
        "ArnNotEquals" | "ArnNotLike" => (C::Arn, true),
        "NumericEquals" => (C::Number(Order::Equal), false),
        "NumericNotEquals" => (C::Number(Order::Equal), true),
        "NumericLessThan" => (C::Number(Order::Less), false),
        "NumericLessThanEquals" => (C::Number(Order::LessOrEqual), false),
        "NumericGreaterThan" => (C::Number(Order::Greater), false),
        "NumericGreaterThanEquals" => (C::Number(Order::GreaterOrEqual), false),
        "DateEquals" => (C::Date(Order::Equal), false),
        "DateNotEquals" => (C::Date(Order::Equal), true),
        "DateLessThan" => (C::Date(Order::Less), false),
        "DateLessThanEquals" => (C::Date(Order::LessOrEqual), false),
        "DateGreaterThan" => (C::Date(Order::Greater), false),
        "DateGreaterThanEquals" => (C::Date(Order::GreaterOrEqual), false),
        "Bool" => (C::Bool, false),
        "IpAddress" => (C::Ip, false),
        "NotIpAddress" => (C::Ip, true),
        "BinaryEquals" => (C::Binary, false),
        "Null" => (C::Null, false),
        _ => return None,
    })
}

impl Operator {
    fn parse(text: &str) -> Result<Self, Problem> {
        let unknown = || Problem::Operator {
            found: text.to_owned(),
        };
        let (quantifier, rest) = match text.split_once(':') {
            None => (Quantifier::None, text),
            Some(("ForAllValues", rest)) => (Quantifier::ForAllValues, rest),
            Some(("ForAnyValue", rest)) => (Quantifier::ForAnyValue, rest),
            Some(_) => return Err(unknown()),
        };
        let (name, if_exists) = match rest.strip_suffix("IfExists") {
            Some(name) => (name, true),
            None => (rest, false),
        };
        let (comparison, negated) = comparison(name).ok_or_else(unknown)?;
        if comparison == Comparison::Null && (if_exists || quantifier != Quantifier::None) {
            return Err(unknown());
        }
        Ok(Self {
            quantifier,
            comparison,
            negated,
            if_exists,
        })
    }
}

/// Reads the whole block. The path of the member that is wrong goes with the problem.
pub(crate) fn parse_block(node: &Node) -> Result<Vec<Condition>, (String, Problem)> {
    let object = |path: &str| {
        let problem = Problem::WrongType {
            expected: "an object",
        };
        (path.to_owned(), problem)
    };
    let Node::Object(operators) = node else {
        return Err(object("Condition"));
    };
    let mut conditions = Vec::new();
    for (operator_text, keys) in operators {
        let path = format!("Condition.{operator_text}");
        let operator = Operator::parse(operator_text).map_err(|p| (path.clone(), p))?;
        let Node::Object(keys) = keys else {
            return Err(object(&path));
        };
        if keys.is_empty() {
            return Err((path, Problem::Empty));
        }
        for (key_text, values) in keys {
            let path = format!("{path}.{key_text}");
            let values_text = scalars(values).map_err(|p| (path.clone(), p))?;
            let operands = values_text
                .iter()
                .map(|v| Operand::parse(operator.comparison, v))
                .collect::<Result<_, _>>()
                .map_err(|p| (path, p))?;
            conditions.push(Condition {
                operator,
                operator_text: operator_text.clone(),
                key: Variable::parse(key_text),
                key_text: key_text.clone(),
                operands,
                values_text,
            });
        }
    }
    Ok(conditions)
}

/// One value or a list of them; an empty list is one that nothing is in.
fn scalars(node: &Node) -> Result<Vec<String>, Problem> {
    let wrong = || Problem::WrongType {
        expected: "a string or an array of strings",
    };
    match node {
        Node::Array(items) => items.iter().map(|i| i.scalar().ok_or_else(wrong)).collect(),
        one => Ok(vec![one.scalar().ok_or_else(wrong)?]),
    }
}

impl Condition {
    /// Whether it holds; unresolved when that hangs on a variable without a value.
    pub(crate) fn check(&self, request: &Request<'_>) -> Match {
        let context = &request.context;
        // A CONNECT whose facts were not handed in must not pass for one that asks for nothing.
        let untold = request.action == Action::Connect
            && context.connect.is_none()
            && matches!(
                self.key,
                Variable::ConnectAttributes | Variable::LastWillTopic
            );
        let untold = untold || (self.key.is_time() && context.now.is_none());
        if untold || matches!(self.key, Variable::Unknown(_)) {
            return Match::Unresolved;
        }
        let values = self.key.values(context);
        if self.operator.comparison == Comparison::Null {
            let missing = values.len() == 0;
            return to_match(self.operands.contains(&Operand::Bool(missing)));
        }
        if matches!(values, Values::Missing) || values.len() == 0 {
            return to_match(match self.operator.quantifier {
                _ if self.operator.if_exists => true,
                // An empty set satisfies ForAllValues, as in IAM.
                Quantifier::ForAllValues => true,
                Quantifier::ForAnyValue => false,
                Quantifier::None => self.operator.negated,
            });
        }
        let all = match self.operator.quantifier {
            Quantifier::ForAllValues => true,
            Quantifier::ForAnyValue => false,
            Quantifier::None => self.operator.negated,
        };
        let mut unresolved = false;
        for value in values.iter() {
            match (self.check_one(value, context), all) {
                (Match::Unresolved, _) => unresolved = true,
                (Match::No, true) => return Match::No,
                (Match::Yes, false) => return Match::Yes,
                _ => {}
            }
        }
        if unresolved {
            Match::Unresolved
        } else {
            to_match(all)
        }
    }

    fn check_one(&self, value: &str, context: &Context<'_>) -> Match {
        let mut unresolved = false;
        for operand in &self.operands {
            match operand.matches(value, context) {
                Match::Yes => return to_match(!self.operator.negated),
                Match::No => {}
                Match::Unresolved => unresolved = true,
            }
        }
        if unresolved {
            Match::Unresolved
        } else {
            to_match(self.operator.negated)
        }
    }

    pub(crate) fn key(&self) -> &Variable {
        &self.key
    }

    pub(crate) fn key_text(&self) -> &str {
        &self.key_text
    }

    /// Whether it may hold now and fail later.
    pub(crate) fn uses_time(&self) -> bool {
        self.key.is_time()
            || self.operands.iter().any(|o| match o {
                Operand::Text(pattern) | Operand::TextIgnoreCase(pattern) => {
                    pattern.variables().any(Variable::is_time)
                }
                Operand::Arn(arn) => arn
                    .parts()
                    .iter()
                    .flat_map(|part| part.variables())
                    .any(Variable::is_time),
                _ => false,
            })
    }

    /// What it is compared with.
    pub(crate) fn operands(&self) -> &[Operand] {
        &self.operands
    }

    /// As written.
    pub(crate) fn values_text(&self) -> &[String] {
        &self.values_text
    }

    pub(crate) fn operator_text(&self) -> &str {
        &self.operator_text
    }

    /// Whether the values must be equal to one that is written, letter by letter.
    pub(crate) fn is_string_equality(&self) -> bool {
        !self.operator.negated
            && matches!(
                self.operator.comparison,
                Comparison::Equals | Comparison::EqualsIgnoreCase
            )
    }

    /// Holds, without a word of it in the document, when the key has no value: a negated operator,
    /// `IfExists`.
    pub(crate) fn holds_when_missing(&self) -> bool {
        self.operator.comparison != Comparison::Null
            && (self.operator.if_exists
                || (self.operator.negated && self.operator.quantifier == Quantifier::None))
    }

    /// Nothing is in an empty list.
    pub(crate) fn never_holds(&self) -> bool {
        self.operands.is_empty()
            && !self.operator.negated
            && !self.operator.if_exists
            && self.operator.quantifier != Quantifier::ForAllValues
    }

    /// `ForAllValues` without `IfExists`: holds when the key has no value at all.
    pub(crate) fn holds_for_nothing(&self) -> bool {
        self.operator.quantifier == Quantifier::ForAllValues
    }

    /// For people: `StringEquals iot:ClientId ["c9"] against ["c8"]`.
    pub(crate) fn show(&self, context: &Context<'_>) -> String {
        let values = self.key.values(context);
        let values: Vec<&str> = values.iter().collect();
        let found = if values.is_empty() {
            "which has no value here".to_owned()
        } else {
            format!("which is {values:?}")
        };
        format!(
            "{} {:?} on {}, {found}",
            self.operator_text, self.values_text, self.key_text
        )
    }
}

fn to_match(yes: bool) -> Match {
    if yes { Match::Yes } else { Match::No }
}
