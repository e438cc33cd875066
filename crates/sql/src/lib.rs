//! AWS IoT SQL: the statement of a topic rule and the substitution templates of its actions.
//!
//! Pure: a [`Statement`] and an [`Input`] give an outgoing payload. No clock, no socket, no random
//! source inside; what a statement needs of them stands in the input. What it costs is bounded:
//! nesting, the size of every value, and the steps of one evaluation.
//!
//! The language is the guide's "AWS IoT SQL Reference" in both versions, [`SqlVersion::V2015`] and
//! [`SqlVersion::V2016`]. What is not there is an error, never a wrong value.
#![forbid(unsafe_code)]

mod ast;
pub mod decimal;
mod error;
mod eval;
mod explain;
mod functions;
mod input;
mod lexer;
mod parser;
mod template;
mod value;
mod variables;
mod version;

pub use ast::Statement;
pub use error::{EvalError, SqlError, SqlErrorKind};
pub use explain::{Clause, explain};
pub use input::{Host, Input, Payload, Via};
pub use template::Template;
pub use variables::Variables;
pub use version::SqlVersion;
