//! Expressions, loosest binding first: OR, AND, NOT, comparison, sums, products, sign, `.` and
//! `[]`.

use super::Parser;
use crate::ast::{Call, CastType, Expr, Operator, Step};
use crate::functions::{self, Found};
use crate::lexer::Token;
use crate::{SqlError, SqlErrorKind, SqlVersion};

/// Words that never name an attribute at the beginning of an expression.
const RESERVED: [&str; 11] = [
    "SELECT", "FROM", "WHERE", "AS", "AND", "OR", "WHEN", "THEN", "ELSE", "END", "CASE",
];

const COMPARISONS: [(&str, Operator); 6] = [
    ("=", Operator::Equal),
    ("<>", Operator::NotEqual),
    ("<=", Operator::LessOrEqual),
    ("<", Operator::Less),
    (">=", Operator::GreaterOrEqual),
    (">", Operator::Greater),
];
const SUMS: [(&str, Operator); 2] = [("+", Operator::Add), ("-", Operator::Subtract)];
const PRODUCTS: [(&str, Operator); 3] = [
    ("*", Operator::Multiply),
    ("/", Operator::Divide),
    ("%", Operator::Remainder),
];

type Parse<'t> = fn(&mut Parser<'t>) -> Result<Expr, SqlError>;

impl<'t> Parser<'t> {
    pub(super) fn expression(&mut self) -> Result<Expr, SqlError> {
        self.nested(|p| p.list_of("OR", Self::conjunction, Expr::Or))
    }

    fn conjunction(&mut self) -> Result<Expr, SqlError> {
        self.list_of("AND", Self::negation, Expr::And)
    }

    /// `a KEYWORD b KEYWORD c` as one flat node, so that long lists cost no depth.
    fn list_of(
        &mut self,
        keyword: &str,
        next: Parse<'t>,
        build: fn(Vec<Expr>) -> Expr,
    ) -> Result<Expr, SqlError> {
        let start = self.current.start;
        let first = next(self)?;
        if !self.peek().is_word(keyword) {
            return Ok(first);
        }
        self.note(start, &first);
        let mut all = vec![first];
        while self.take_if_word(keyword)? {
            let start = self.current.start;
            let operand = next(self)?;
            self.note(start, &operand);
            all.push(operand);
        }
        let whole = build(all);
        self.note(start, &whole);
        Ok(whole)
    }

    fn negation(&mut self) -> Result<Expr, SqlError> {
        let start = self.current.start;
        if self.take_if_word("NOT")? {
            let whole = Expr::Not(Box::new(self.nested(Self::negation)?));
            self.note(start, &whole);
            return Ok(whole);
        }
        self.chain(&COMPARISONS, |p| {
            p.chain(&SUMS, |p| p.chain(&PRODUCTS, Self::sign))
        })
    }

    fn chain(
        &mut self,
        operators: &[(&str, Operator)],
        next: impl Fn(&mut Self) -> Result<Expr, SqlError>,
    ) -> Result<Expr, SqlError> {
        let start = self.current.start;
        let first = next(self)?;
        let mut rest = Vec::new();
        while let Some(operator) = self.operator(operators) {
            self.take()?;
            rest.push((operator, next(self)?));
        }
        if rest.is_empty() {
            return Ok(first);
        }
        let whole = Expr::Chain(Box::new(first), rest);
        self.note(start, &whole);
        Ok(whole)
    }

    fn operator(&self, operators: &[(&str, Operator)]) -> Option<Operator> {
        let Token::Symbol(symbol) = self.peek() else {
            return None;
        };
        operators
            .iter()
            .find(|(s, _)| s == symbol)
            .map(|(_, operator)| *operator)
    }

    fn sign(&mut self) -> Result<Expr, SqlError> {
        if self.take_if_symbol("-")? {
            return Ok(match self.nested(Self::sign)? {
                Expr::Number(number) => Expr::Number(number.negated()),
                inner => Expr::Negate(Box::new(inner)),
            });
        }
        let start = self.current.start;
        let operand = self.postfix()?;
        // What is written out is its own value, and a parenthesis has that of what stands in it.
        if let Expr::Attribute(_)
        | Expr::Variable(_)
        | Expr::Path(..)
        | Expr::Call(_)
        | Expr::Cast(..)
        | Expr::Default(..)
        | Expr::Case { .. }
        | Expr::Query(_) = operand
        {
            self.note(start, &operand);
        }
        Ok(operand)
    }

    pub(super) fn postfix(&mut self) -> Result<Expr, SqlError> {
        let base = self.primary()?;
        let mut steps = Vec::new();
        loop {
            if self.at_symbol(".") {
                if self.spreads()? {
                    // The item's `.*` is for its own parser.
                    return Ok(path(base, steps));
                }
                self.take()?;
                let Token::Word(name) = self.peek() else {
                    return Err(self.expected("an attribute's name"));
                };
                steps.push(Step::Name(name.clone()));
                self.take()?;
            } else if self.take_if_symbol("[")? {
                steps.push(Step::Index(self.expression()?));
                self.require_symbol("]", "']'")?;
            } else {
                return Ok(path(base, steps));
            }
        }
    }

    /// Whether `.*` is next.
    pub(super) fn spreads(&self) -> Result<bool, SqlError> {
        if !self.at_symbol(".") {
            return Ok(false);
        }
        let mut ahead = self.lexer.clone();
        Ok(ahead.next()?.token == Token::Symbol("*"))
    }

    /// `@name`, which SET has given a value. A template's are checked against its statement.
    fn variable(&mut self, name: String) -> Result<Expr, SqlError> {
        if let Some(known) = &self.variables {
            if !known.contains(&name) {
                return Err(self.error(SqlErrorKind::UnknownVariable(name)));
            }
        } else if !self.used.contains(&name) {
            self.used.push(name.clone());
        }
        Ok(Expr::Variable(name.into()))
    }

    fn primary(&mut self) -> Result<Expr, SqlError> {
        let expr = match self.peek().clone() {
            Token::Number(number) => Expr::Number(number),
            Token::Text { value, .. } => Expr::Text(value),
            Token::Variable(name) => self.variable(name)?,
            Token::Symbol("(") => return self.parenthesis(),
            Token::Symbol("[") => return self.array(),
            Token::Symbol("{") => return self.object(),
            Token::Symbol("*") => return Err(self.error(SqlErrorKind::Star)),
            Token::Word(word) if word.eq_ignore_ascii_case("CASE") => return self.case(),
            Token::Word(word) => return self.word(word),
            Token::Symbol(_) | Token::End => return Err(self.expected("an expression")),
        };
        self.take()?;
        Ok(expr)
    }

    fn word(&mut self, word: String) -> Result<Expr, SqlError> {
        if RESERVED.iter().any(|k| word.eq_ignore_ascii_case(k)) {
            return Err(self.expected("an expression"));
        }
        let at = self.current.start;
        self.take()?;
        if self.at_symbol("(") {
            return self.call(&word, at);
        }
        Ok(match word.to_ascii_lowercase().as_str() {
            "true" => Expr::Bool(true),
            "false" => Expr::Bool(false),
            "null" => Expr::Null,
            _ => Expr::Attribute(word),
        })
    }

    fn parenthesis(&mut self) -> Result<Expr, SqlError> {
        self.take()?;
        let inner = if self.peek().is_word("SELECT") {
            self.require_2016("a nested query")?;
            self.take()?;
            Expr::Query(Box::new(self.nested(Self::query)?))
        } else {
            self.expression()?
        };
        self.require_symbol(")", "')'")?;
        Ok(inner)
    }

    /// What today's guide says is "supported by SQL version 2016-03-23 and later".
    fn require_2016(&self, what: &str) -> Result<(), SqlError> {
        if self.version < SqlVersion::V2016 {
            let what = what.to_owned();
            return Err(self.error(SqlErrorKind::NeedsLaterVersion { what }));
        }
        Ok(())
    }

    fn array(&mut self) -> Result<Expr, SqlError> {
        self.require_2016("an array literal")?;
        self.take()?;
        let mut items = Vec::new();
        if !self.at_symbol("]") {
            items.push(self.expression()?);
            while self.take_if_symbol(",")? {
                items.push(self.expression()?);
            }
        }
        self.require_symbol("]", "',' or ']'")?;
        Ok(Expr::Array(items))
    }

    fn object(&mut self) -> Result<Expr, SqlError> {
        self.require_2016("an object literal")?;
        self.take()?;
        let mut members = Vec::new();
        while !self.at_symbol("}") {
            let Token::Text { value: key, .. } = self.peek().clone() else {
                return Err(self.expected("a member's name in quotes"));
            };
            self.take()?;
            self.require_symbol(":", "':'")?;
            members.push((key, self.payload_or_expression()?));
            if !self.take_if_symbol(",")? {
                break;
            }
        }
        self.require_symbol("}", "',' or '}'")?;
        Ok(Expr::Object(members))
    }

    fn case(&mut self) -> Result<Expr, SqlError> {
        self.take()?;
        if self.peek().is_word("WHEN") {
            return Err(self.error(SqlErrorKind::SearchedCase));
        }
        let operand = Box::new(self.expression()?);
        let mut branches = Vec::new();
        while self.take_if_word("WHEN")? {
            let when = self.expression()?;
            self.require_word("THEN", "THEN")?;
            branches.push((when, self.expression()?));
        }
        if branches.is_empty() {
            return Err(self.expected("WHEN"));
        }
        let otherwise = if self.take_if_word("ELSE")? {
            Some(Box::new(self.expression()?))
        } else {
            None
        };
        self.require_word("END", "WHEN, ELSE or END")?;
        Ok(Expr::Case {
            operand,
            branches,
            otherwise,
        })
    }

    /// A call; the name is taken, at its `(`.
    fn call(&mut self, name: &str, at: usize) -> Result<Expr, SqlError> {
        if name.eq_ignore_ascii_case("cast") {
            return self.cast();
        }
        let fail = |reason| Err(self.lexer.error(at, reason));
        let function = match functions::find(name) {
            Found::Function(function) => function,
            Found::Default => return self.default(),
            Found::Unknown => return fail(SqlErrorKind::UnknownFunction(name.into())),
        };
        if function.since > self.version {
            let what = format!("function {name}()");
            return fail(SqlErrorKind::NeedsLaterVersion { what });
        }
        if function.external {
            self.external = Some(function.name);
        }
        self.take()?;
        let mut arguments = Vec::new();
        let mut regex = None;
        if !self.at_symbol(")") {
            loop {
                let argument_at = self.current.start;
                let argument = if function.payload_at == Some(arguments.len()) {
                    self.payload_or_expression()?
                } else {
                    self.expression()?
                };
                if let (1, true, Expr::Text(pattern)) =
                    (arguments.len(), function.takes_regex, &argument)
                {
                    regex = functions::compile_literal(pattern)
                        .map_err(|e| self.lexer.error(argument_at, SqlErrorKind::Regex(e)))?;
                }
                if let (Some((n, check)), Expr::Text(pattern)) = (function.pattern, &argument) {
                    if n == arguments.len() {
                        check(pattern).map_err(|what| {
                            self.lexer.error(argument_at, SqlErrorKind::Pattern(what))
                        })?;
                    }
                }
                arguments.push(argument);
                if !self.take_if_symbol(",")? {
                    break;
                }
            }
        }
        self.require_symbol(")", "',' or ')'")?;
        Ok(Expr::Call(Box::new(Call {
            function,
            arguments,
            regex,
        })))
    }

    /// get_or_default(value, default): the value may fail, so it is not evaluated as an argument.
    /// The default may not ask something outside.
    fn default(&mut self) -> Result<Expr, SqlError> {
        self.require_2016("function get_or_default()")?;
        self.take()?;
        let value = Box::new(self.expression()?);
        let mut default = None;
        if self.take_if_symbol(",")? {
            let outer = self.external.take();
            let at = self.current.start;
            default = Some(Box::new(self.expression()?));
            if let Some(name) = self.external.take() {
                let reason = SqlErrorKind::ExternalDefault(name.into());
                return Err(self.lexer.error(at, reason));
            }
            self.external = outer;
        }
        self.require_symbol(")", "',' or ')'")?;
        Ok(Expr::Default(value, default))
    }

    pub(super) fn payload_or_expression(&mut self) -> Result<Expr, SqlError> {
        if self.take_if_symbol("*")? {
            return Ok(Expr::Payload);
        }
        self.expression()
    }

    fn cast(&mut self) -> Result<Expr, SqlError> {
        self.take()?;
        let value = self.expression()?;
        self.require_word("AS", "AS")?;
        let Token::Word(name) = self.peek().clone() else {
            return Err(self.expected("a type"));
        };
        let kind = self.cast_type(&name)?;
        self.take()?;
        self.require_symbol(")", "')'")?;
        Ok(Expr::Cast(Box::new(value), kind))
    }

    /// The keywords of both guides (amb-sql-027, amb-sql-028).
    fn cast_type(&self, name: &str) -> Result<CastType, SqlError> {
        let lower = name.to_ascii_lowercase();
        let (kind, later) = match lower.as_str() {
            "string" | "nvarchar" | "text" | "ntext" | "varchar" => (CastType::Text, false),
            "int" | "integer" => (CastType::Int, false),
            "double" | "float" | "num" | "number" => (CastType::Double, false),
            "decimal" => (CastType::Decimal, true),
            "bool" | "boolean" => (CastType::Bool, true),
            _ => return Err(self.error(SqlErrorKind::UnknownType(name.into()))),
        };
        if later && self.version < SqlVersion::V2016 {
            let what = format!("cast(… as {name})");
            return Err(self.error(SqlErrorKind::NeedsLaterVersion { what }));
        }
        Ok(kind)
    }
}

fn path(base: Expr, steps: Vec<Step>) -> Expr {
    if steps.is_empty() {
        base
    } else {
        Expr::Path(Box::new(base), steps)
    }
}
