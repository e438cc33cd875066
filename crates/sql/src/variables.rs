//! SET (today's guide, "SET clause"): values that a statement and its templates share.

use std::cell::OnceCell;

use serde_json::Value as Json;

use crate::ast::{Expr, Statement};
use crate::eval::{Context, Scope};
use crate::value::{Value, json_text_size};
use crate::{EvalError, Input};

/// Most variables of a statement.
pub(crate) const MAX_VARIABLES: usize = 10;
/// Longest name, in characters.
pub(crate) const MAX_NAME: usize = 64;
/// Largest value, and largest sum of all, in bytes of compact JSON.
const MAX_BYTES: usize = 128 * 1024;

/// The values of one statement's variables for one message. They are computed once, by
/// [`Statement::evaluate`], and are the same in the templates evaluated for that message after it.
#[derive(Debug, Default)]
pub struct Variables {
    values: [OnceCell<(Box<str>, Option<Json>)>; MAX_VARIABLES],
}

impl Variables {
    /// The value; Undefined before it is set.
    pub(crate) fn get(&self, name: &str) -> Value<'_> {
        self.values
            .iter()
            .map_while(OnceCell::get)
            .find(|(known, _)| **known == *name)
            .and_then(|(_, value)| value.as_ref())
            .map_or(Value::Undefined, Value::borrowed)
    }
}

impl Statement {
    /// Gives the variables their values, unless they have them.
    pub(crate) fn set_variables<'a>(
        &'a self,
        context: &Context<'a>,
        input: &Input<'a>,
    ) -> Result<(), EvalError> {
        let scope = Scope::payload(input);
        let mut sum = 0;
        for ((name, expr), cell) in self.variables.iter().zip(&input.variables.values) {
            if cell.get().is_some() {
                continue;
            }
            let value = match expr {
                Expr::Payload if scope.object.is_undefined() => {
                    return Err(EvalError::VariableNotJson(name.to_string()));
                }
                expr => context.evaluate(expr, &scope)?,
            };
            let value = value.into_json(context.version);
            sum += value.as_ref().map_or(0, json_text_size);
            if sum > MAX_BYTES {
                return Err(EvalError::VariablesTooLarge(MAX_BYTES));
            }
            // Nobody else sets it meanwhile: an input is of one evaluation.
            let _ = cell.set((name.clone(), value));
        }
        Ok(())
    }
}
