//! A statement, parsed.

use iotedge_model::TopicFilter;
use regex::Regex;

use crate::SqlVersion;
use crate::decimal::Decimal;
use crate::functions::Function;

/// A parsed statement (guide, "AWS IoT SQL Reference"). Made by [`Statement::parse`].
#[derive(Debug, Clone)]
pub struct Statement {
    pub(crate) version: SqlVersion,
    /// SET, in order.
    pub(crate) variables: Vec<(Box<str>, Expr)>,
    pub(crate) select: Select,
    pub(crate) filter: Option<TopicFilter>,
    pub(crate) condition: Option<Expr>,
    pub(crate) warnings: Vec<String>,
}

impl Statement {
    /// Which topics it takes; `None` without a FROM clause: then only messages on
    /// `$aws/rules/NAME/…` reach it.
    pub fn filter(&self) -> Option<&TopicFilter> {
        self.filter.as_ref()
    }

    /// The version it was parsed for.
    pub fn version(&self) -> SqlVersion {
        self.version
    }

    /// Whether SET gives a value to `@name`.
    pub fn sets(&self, name: &str) -> bool {
        self.variables.iter().any(|(known, _)| **known == *name)
    }

    /// What an author should look at again, though it is valid.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// What is selected.
#[derive(Debug, Clone)]
pub(crate) enum Select {
    /// `SELECT VALUE expression`.
    Value(Item),
    /// `SELECT a, b, …`.
    Items(Vec<Item>),
}

/// One item of a SELECT list.
#[derive(Debug, Clone)]
pub(crate) enum Item {
    /// `*` without an alias.
    Star,
    /// `* AS name`.
    StarAs(Vec<String>),
    /// `path.*`: the members of an object.
    Spread(Expr),
    /// An expression and the path of names it is put under.
    Expr { expr: Expr, key: Vec<String> },
}

/// An expression.
#[derive(Debug, Clone)]
pub(crate) enum Expr {
    Null,
    Bool(bool),
    Number(Decimal),
    Text(String),
    /// The payload: `*` as an argument.
    Payload,
    /// `@name`, set by SET.
    Variable(Box<str>),
    /// An attribute of the payload, or of the innermost nested query's element.
    Attribute(String),
    /// `base.name[index]…`: flat, so that a long path costs no depth.
    Path(Box<Expr>, Vec<Step>),
    Array(Vec<Expr>),
    Object(Vec<(String, Expr)>),
    Call(Box<Call>),
    Cast(Box<Expr>, CastType),
    /// `get_or_default(value, default)`.
    Default(Box<Expr>, Option<Box<Expr>>),
    Case {
        operand: Box<Expr>,
        branches: Vec<(Expr, Expr)>,
        otherwise: Option<Box<Expr>>,
    },
    Not(Box<Expr>),
    Negate(Box<Expr>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    /// `first op a op b …`, from left to right, all of one precedence.
    Chain(Box<Expr>, Vec<(Operator, Expr)>),
    Query(Box<Query>),
}

/// One step of a path.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// `.name`
    Name(String),
    /// `[index]`, counted from 0 (amb-sql-023).
    Index(Expr),
}

/// A function call.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) function: &'static Function,
    pub(crate) arguments: Vec<Expr>,
    /// The second argument of regexp_…(), compiled, where it is written out.
    pub(crate) regex: Option<Regex>,
}

/// A nested query: `(SELECT … FROM path WHERE …)`.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    pub(crate) select: Select,
    pub(crate) source: Expr,
    pub(crate) condition: Option<Expr>,
}

/// What cast() makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CastType {
    Text,
    Decimal,
    /// A Decimal with double precision.
    Double,
    Int,
    Bool,
}

/// An operator between two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}
