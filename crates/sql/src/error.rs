//! What can be wrong with a statement, and what can go wrong while it is evaluated.

use thiserror::Error;

/// Why a statement, a template or a version is refused when the rule is created.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("column {column}: {reason}")]
pub struct SqlError {
    /// Where: the character of the text, counted from 1.
    pub column: usize,
    /// Why.
    pub reason: SqlErrorKind,
}

/// Why a text is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SqlErrorKind {
    /// Something else should stand here.
    #[error("expected {expected}, found {found}")]
    Expected {
        /// What may stand here.
        expected: &'static str,
        /// What does.
        found: String,
    },
    /// A character that begins nothing.
    #[error("unexpected character {0:?}")]
    Character(char),
    /// A string without its closing quote.
    #[error("the string has no closing {0}")]
    UnclosedString(char),
    /// A number beyond what SQL can hold.
    #[error("the number is not within ±9.999E999")]
    Number,
    /// No function of this name.
    #[error("there is no function {0}()")]
    UnknownFunction(String),
    /// `@name` that SET has not given a value before.
    #[error(
        "@{0} has no value here: SET comes before SELECT, and each variable after those it uses"
    )]
    UnknownVariable(String),
    /// `SET @a = 1, @a = 2`.
    #[error("@{0} has a value already, and variables do not change")]
    VariableTwice(String),
    /// More variables than a statement may have.
    #[error("a statement has at most {0} variables")]
    TooManyVariables(usize),
    /// A longer name than a variable may have.
    #[error("a variable's name has at most {0} characters")]
    VariableName(usize),
    /// A function that asks something outside, in the default of get_or_default().
    #[error("{0}() cannot be in the default of get_or_default()")]
    ExternalDefault(String),
    /// A function or form of a later SQL version.
    #[error("{what} needs SQL version 2016-03-23, the rule has 2015-10-08")]
    NeedsLaterVersion {
        /// What.
        what: String,
    },
    /// `FROM` without single quotes.
    #[error("the topic filter of FROM must stand in single quotes")]
    FilterQuotes,
    /// `FROM` with a bad filter.
    #[error("the topic filter of FROM is not valid: {0}")]
    Filter(iotedge_model::TopicError),
    /// `SELECT VALUE a, b`.
    #[error("SELECT VALUE takes one item")]
    ValueTakesOne,
    /// `*` where there must be an expression.
    #[error(
        "'*' can only be an item of SELECT, a variable's whole value, a member of an object, or the \
         argument that encode(), decode(), get(), aws_lambda() and machinelearning_predict() take"
    )]
    Star,
    /// A CASE without an operand.
    #[error("CASE needs a value to compare: CASE value WHEN … THEN … END")]
    SearchedCase,
    /// A name of no type.
    #[error("{0} is no type that cast() knows")]
    UnknownType(String),
    /// More nesting than is evaluated.
    #[error("nested more than {0} deep")]
    TooDeep(usize),
    /// A longer text than is read.
    #[error("longer than {0} bytes")]
    TooLong(usize),
    /// A regular expression, written out in the statement, that does not compile.
    #[error("the regular expression is not supported: {0}")]
    Regex(String),
    /// A date pattern, written out in the statement, with a field that is not there yet.
    #[error("not supported yet: {0}")]
    Pattern(String),
    /// `awsIotSqlVersion` is none.
    #[error("unknown SQL version {0:?}: it is \"2015-10-08\" or \"2016-03-23\"")]
    Version(String),
}

/// Why an accepted statement gives no output for a message. The error action runs.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EvalError {
    /// `SELECT *, …` of a payload that is no JSON object.
    #[error("the payload is not a JSON object, so '*' cannot be combined with other items")]
    PayloadNotAnObject,
    /// `SELECT VALUE` of an array under 2015-10-08.
    #[error("SQL version 2015-10-08 cannot output an array as the whole payload")]
    ArrayOutput,
    /// A value grew beyond the limit.
    #[error("a value has grown beyond {0} bytes")]
    TooLarge(usize),
    /// A function whose answer is not on this gateway.
    #[error("{0}() asks {1}, which nothing on this gateway answers")]
    NotBound(&'static str, &'static str),
    /// `SET @a = *` of a payload that is no JSON.
    #[error("the payload is not JSON, so '*' cannot be the value of @{0}; encode(*, 'base64') can")]
    VariableNotJson(String),
    /// The variables hold more than they may.
    #[error("the variables have grown beyond {0} bytes")]
    VariablesTooLarge(usize),
    /// The evaluation took more steps than a statement may.
    #[error("the evaluation took more than {0} steps")]
    TooMuchWork(u64),
}
