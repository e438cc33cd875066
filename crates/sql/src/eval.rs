//! Evaluation: a [`Statement`] and an [`Input`] to an outgoing payload.

mod expression;
mod operator;
mod select;

use std::borrow::Cow;
use std::cell::Cell;

use bytes::Bytes;
use serde_json::Value as Json;

use crate::ast::{Item, Select, Statement};
use crate::value::Value;
use crate::{EvalError, Input, SqlVersion};

/// Largest value, in bytes, that a function or operator may make.
pub(crate) const MAX_VALUE: usize = 1024 * 1024;
/// Most steps of one evaluation: nodes visited plus one for each 64 bytes made.
pub(crate) const MAX_STEPS: u64 = 1_000_000;

/// What all parts of one evaluation share.
pub(crate) struct Context<'a> {
    pub(crate) input: &'a Input<'a>,
    pub(crate) version: SqlVersion,
    steps: Cell<u64>,
}

impl<'a> Context<'a> {
    pub(crate) fn new(input: &'a Input<'a>, version: SqlVersion) -> Self {
        Self {
            input,
            version,
            steps: Cell::new(0),
        }
    }

    /// Counts work against the limit.
    pub(crate) fn charge(&self, steps: u64) -> Result<(), EvalError> {
        let sum = self.steps.get().saturating_add(steps);
        self.steps.set(sum);
        if sum > MAX_STEPS {
            return Err(EvalError::TooMuchWork(MAX_STEPS));
        }
        Ok(())
    }

    /// Counts bytes about to be made.
    pub(crate) fn charge_bytes(&self, bytes: usize) -> Result<(), EvalError> {
        if bytes > MAX_VALUE {
            return Err(EvalError::TooLarge(MAX_VALUE));
        }
        self.charge(bytes as u64 / 64)
    }
}

/// Where attribute names are looked up: the payload, or a nested query's element before it.
pub(crate) struct Scope<'s, 'a> {
    /// Always borrowed from the payload, so a copy costs nothing.
    pub(crate) object: Value<'a>,
    pub(crate) outer: Option<&'s Scope<'s, 'a>>,
}

impl<'a> Scope<'_, 'a> {
    /// The message's payload; Undefined if it is no JSON.
    pub(crate) fn payload(input: &Input<'a>) -> Self {
        Self {
            object: input
                .payload
                .json()
                .map_or(Value::Undefined, Value::borrowed),
            outer: None,
        }
    }

    /// The attribute; the inner query sees the outer attributes where its own object has none of
    /// that name (amb-sql-066).
    pub(crate) fn attribute(&self, name: &str) -> Value<'a> {
        let mut scope = Some(self);
        while let Some(current) = scope {
            let found = match &current.object {
                Value::Object(Cow::Borrowed(members)) => members.get(name),
                _ => None,
            };
            if let Some(found) = found {
                return Value::borrowed(found);
            }
            scope = current.outer;
        }
        Value::Undefined
    }
}

impl Statement {
    /// Whether the message is meant: the topic against FROM. Without FROM only messages on
    /// `$aws/rules/NAME/…` are.
    pub fn takes(&self, input: &Input<'_>) -> bool {
        match (&self.filter, input.basic_ingest()) {
            (None, ingest) => ingest.is_some(),
            (Some(filter), _) => filter.matches(input.effective_topic()),
        }
    }

    /// The outgoing payload for a message; `None` if FROM or WHERE is not satisfied.
    pub fn evaluate(&self, input: &Input<'_>) -> Result<Option<Bytes>, EvalError> {
        if !self.takes(input) {
            return Ok(None);
        }
        let context = Context::new(input, self.version);
        self.set_variables(&context, input)?;
        if let Some(condition) = &self.condition {
            let scope = Scope::payload(input);
            if context.evaluate(condition, &scope)?.to_bool() != Some(true) {
                return Ok(None);
            }
        }
        context.output(&self.select).map(Some)
    }
}

impl<'a> Context<'a> {
    fn output(&self, select: &'a Select) -> Result<Bytes, EvalError> {
        // The message can be returned without parsing (guide, "SELECT Clause").
        let only_star = match select {
            Select::Value(item) => matches!(item, Item::Star),
            Select::Items(items) => matches!(items.as_slice(), [Item::Star]),
        };
        if only_star {
            return Ok(self.input.payload.bytes().clone());
        }
        let scope = Scope::payload(self.input);
        if let Some(out) = self.beside_star(select, &scope)? {
            return Ok(out);
        }
        let value = self.select(select, &scope, true)?;
        if matches!((&value, self.version), (Value::Array(_), SqlVersion::V2015)) {
            return Err(EvalError::ArrayOutput);
        }
        self.charge_bytes(value.size())?;
        let json = match (select, value) {
            // Its members are spelled already: those of '*' as received, the others anew.
            (Select::Items(_), Value::Object(Cow::Owned(members))) => Some(Json::Object(members)),
            (_, value) => value.into_json(self.version),
        };
        Ok(match json {
            // "Undefined is converted to an empty string when serialized by itself."
            None => Bytes::new(),
            Some(json) => Bytes::from(json.to_string()),
        })
    }
}
