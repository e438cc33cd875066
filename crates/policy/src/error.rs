//! Why a document is refused.

use thiserror::Error;

/// Why a text is no policy document that can be attached.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PolicyError {
    /// Not JSON, or a member stands there twice.
    #[error("line {line}, column {column}: {reason}")]
    Json {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// The parser's words.
        reason: String,
    },
    /// More than AWS IoT takes ("Limits": 2048 characters without white space).
    #[error("the document has {length} characters without white space; at most {max} are allowed")]
    TooLong {
        /// What it has.
        length: usize,
        /// The limit.
        max: usize,
    },
    /// Something beside the statements.
    #[error("{field}: {problem}")]
    Document {
        /// The member.
        field: String,
        /// What is wrong with it.
        problem: Problem,
    },
    /// Something in one statement.
    #[error("statement {statement}: {field}: {problem}")]
    Statement {
        /// Which, from 1.
        statement: usize,
        /// The member, with the path inside it.
        field: String,
        /// What is wrong with it.
        problem: Problem,
    },
}

/// What is wrong with a member.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Problem {
    /// It is needed and not there.
    #[error("is missing")]
    Missing,
    /// It has nothing in it.
    #[error("must not be empty")]
    Empty,
    /// It is of another JSON type.
    #[error("must be {expected}")]
    WrongType {
        /// What it should be.
        expected: &'static str,
    },
    /// No member of that name exists here.
    #[error("is not known here; there are {known}")]
    UnknownMember {
        /// What there is.
        known: &'static str,
    },
    /// Two members of which only one may stand there.
    #[error("must not stand beside {other}")]
    Both {
        /// The other one.
        other: &'static str,
    },
    /// `Version`.
    #[error("must be \"2012-10-17\", not {found:?}")]
    Version {
        /// What it is.
        found: String,
    },
    /// `Effect`.
    #[error("must be \"Allow\" or \"Deny\", not {found:?}")]
    Effect {
        /// What it is.
        found: String,
    },
    /// Not `iot:NAME`.
    #[error("{found:?} is no action: it must be \"iot:\" and the name of an operation")]
    Action {
        /// What it is.
        found: String,
    },
    /// `iot:NAME` with a name that is nothing in AWS IoT.
    #[error("{found:?} is no operation of AWS IoT that this gateway knows")]
    UnknownAction {
        /// What it is.
        found: String,
    },
    /// Neither `*` nor an ARN.
    #[error(
        "{found:?} is no resource: it must be \"*\" or an ARN like arn:aws:iot:REGION:ACCOUNT:topic/NAME"
    )]
    Resource {
        /// What it is.
        found: String,
    },
    /// `${` without `}`.
    #[error("{found:?} has a \"${{\" without its \"}}\"; a plain dollar sign is \"${{$}}\"")]
    OpenVariable {
        /// The text.
        found: String,
    },
    /// What stands between `${` and `}` cannot be a variable.
    #[error("${{{name}}} is no variable: names are letters, digits and : . _ - [ ]")]
    VariableName {
        /// What stands there.
        name: String,
    },
    /// The operator of a condition.
    #[error("{found:?} is no condition operator that this gateway knows")]
    Operator {
        /// What it is.
        found: String,
    },
    /// The value of a condition.
    #[error("{found:?} is no {expected}")]
    Value {
        /// What it is.
        found: String,
        /// What the operator asks for.
        expected: &'static str,
    },
}
