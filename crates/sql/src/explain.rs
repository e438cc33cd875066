//! What each part of a statement is for one message: `iotedgectl rule test --explain`.

use crate::ast::{Expr, Statement};
use crate::eval::{Context, Scope};
use crate::parser::{Parser, Traced};
use crate::value::Value;
use crate::{Input, SqlError, SqlVersion};

/// Longest value that is shown, in characters.
const SHOWN: usize = 200;

/// A part of a statement and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    /// `SET`, `FROM`, `WHERE` or `SELECT`.
    pub clause: &'static str,
    /// 0 for a variable, a condition or an item; one more for each part within a part.
    pub depth: usize,
    /// The part as written.
    pub text: String,
    /// Its value as JSON, `undefined`, or `error: ` and why. Long ones are cut.
    pub value: String,
}

/// Every part of a statement with its value for a message, in the order in which AWS IoT evaluates
/// them: FROM, SET, WHERE, SELECT. Nested queries are one part each.
///
/// # Errors
/// Where the statement is none.
pub fn explain(sql: &str, version: SqlVersion, input: &Input<'_>) -> Result<Vec<Clause>, SqlError> {
    let mut parser = Parser::new(sql, 0, version)?;
    parser.trace();
    let (statement, traced) = parser.statement()?;
    let mut out = vec![from(&statement, input)];
    for clause in ["SET", "WHERE", "SELECT"] {
        let mut parts: Vec<&Traced> = traced.iter().filter(|t| t.clause == clause).collect();
        // A part stands behind the one that it is within.
        parts.sort_by_key(|t| (t.start, std::cmp::Reverse(t.end)));
        parts.dedup_by_key(|t| (t.start, t.end));
        let mut open: Vec<usize> = Vec::new();
        for part in parts {
            open.retain(|end| *end > part.start);
            out.push(Clause {
                clause,
                depth: open.len(),
                text: sql
                    .get(part.start..part.end)
                    .unwrap_or("")
                    .trim()
                    .to_owned(),
                value: value(&statement, &part.expr, input),
            });
            open.push(part.end);
        }
    }
    Ok(out)
}

fn from(statement: &Statement, input: &Input<'_>) -> Clause {
    let text = match statement.filter() {
        Some(filter) => format!("'{}'", filter.as_str()),
        None => "(none: only $aws/rules/NAME/…)".into(),
    };
    Clause {
        clause: "FROM",
        depth: 0,
        text,
        value: statement.takes(input).to_string(),
    }
}

fn value<'a>(statement: &'a Statement, expr: &'a Expr, input: &'a Input<'a>) -> String {
    let context = Context::new(input, statement.version());
    let found = statement
        .set_variables(&context, input)
        .and_then(|()| context.evaluate(expr, &Scope::payload(input)));
    let text = match found {
        Ok(Value::Undefined) => "undefined".to_owned(),
        Ok(value) => value
            .into_json(statement.version())
            .map_or_else(|| "undefined".to_owned(), |json| json.to_string()),
        Err(error) => format!("error: {error}"),
    };
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or("")),
        None => text,
    }
}
