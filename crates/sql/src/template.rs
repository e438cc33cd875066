//! Substitution templates (guide, "Substitution Templates"): `${expression}` inside a string.

use crate::ast::Expr;
use crate::eval::{Context, Scope};
use crate::parser::Parser;
use crate::{EvalError, Input, SqlError, SqlVersion};

/// A template, parsed.
#[derive(Debug, Clone)]
pub struct Template {
    version: SqlVersion,
    parts: Vec<Part>,
    variables: Vec<String>,
}

#[derive(Debug, Clone)]
enum Part {
    Literal(String),
    Expression(Expr),
}

impl Template {
    /// Parses a template. `$$` stands for `$`; a single `$` before anything but `{` for itself
    /// (amb-sql-072).
    pub fn parse(text: &str, version: SqlVersion) -> Result<Self, SqlError> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut variables = Vec::new();
        let mut at = 0;
        while let Some(rest) = text.get(at..) {
            let Some(dollar) = rest.find('$') else {
                literal.push_str(rest);
                break;
            };
            let (before, from_dollar) = rest.split_at(dollar);
            literal.push_str(before);
            at += dollar + 1;
            if from_dollar.starts_with("${") {
                if !literal.is_empty() {
                    parts.push(Part::Literal(std::mem::take(&mut literal)));
                }
                let found = Parser::new(text, at + 1, version)?.template_expression()?;
                parts.push(Part::Expression(found.expr));
                variables.extend(found.variables);
                at = found.end;
            } else {
                literal.push('$');
                if from_dollar.starts_with("$$") {
                    at += 1;
                }
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Self {
            version,
            parts,
            variables,
        })
    }

    /// The names of the variables in it, without `@`. They must be set by the statement that
    /// belongs to it: [`crate::Statement::sets`].
    pub fn variables(&self) -> &[String] {
        &self.variables
    }

    /// The text, if nothing in it is substituted.
    pub fn as_literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// The string for a message, whose statement was evaluated with the same input before. Names are attributes of the payload, not of the SELECT's output;
    /// Undefined and Null become nothing (amb-sql-071).
    pub fn evaluate(&self, input: &Input<'_>) -> Result<String, EvalError> {
        let context = Context::new(input, self.version);
        let scope = Scope::payload(input);
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::Expression(expr) => {
                    let value = context.evaluate(expr, &scope)?;
                    if let Some(text) = value.to_text(self.version) {
                        context.charge_bytes(out.len() + text.len())?;
                        out.push_str(&text);
                    }
                }
            }
        }
        Ok(out)
    }
}
