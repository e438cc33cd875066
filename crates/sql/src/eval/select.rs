//! SELECT lists and nested queries.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::{Map, Value as Json};

use super::{Context, Scope};
use crate::EvalError;
use crate::ast::{Item, Query, Select};
use crate::value::Value;

impl<'a> Context<'a> {
    /// The selected value. `outermost` says that `*` is the message's payload.
    pub(super) fn select(
        &self,
        select: &'a Select,
        scope: &Scope<'_, 'a>,
        outermost: bool,
    ) -> Result<Value<'a>, EvalError> {
        let items = match select {
            Select::Value(Item::Expr { expr, .. }) => return self.evaluate(expr, scope),
            Select::Value(Item::Spread(expr)) => return self.evaluate(expr, scope),
            Select::Value(Item::Star | Item::StarAs(_)) => return self.star(scope, outermost),
            Select::Items(items) => items,
        };
        if let [Item::Star] = items.as_slice() {
            return self.star(scope, outermost);
        }
        let mut out = Map::new();
        for item in items {
            match item {
                Item::Star => {
                    let Value::Object(members) = self.star(scope, outermost)? else {
                        return Err(EvalError::PayloadNotAnObject);
                    };
                    self.charge_bytes(Value::Object(Cow::Borrowed(&members)).size())?;
                    out.extend(members.into_owned());
                }
                Item::StarAs(key) => {
                    let value = self.star(scope, outermost)?;
                    self.put(&mut out, key, value)?;
                }
                Item::Spread(expr) => {
                    if let Value::Object(members) = self.evaluate(expr, scope)? {
                        self.charge_bytes(Value::Object(Cow::Borrowed(&members)).size())?;
                        let members = crate::value::respelled_members(&members, self.version);
                        out.extend(members);
                    }
                }
                Item::Expr { expr, key } => {
                    let value = self.evaluate(expr, scope)?;
                    self.put(&mut out, key, value)?;
                }
            }
        }
        Ok(Value::Object(Cow::Owned(out)))
    }

    /// `*, expression AS name, …` written at once, without a copy of the payload's members. `None`
    /// for every other list.
    pub(super) fn beside_star(
        &self,
        select: &'a Select,
        scope: &Scope<'_, 'a>,
    ) -> Result<Option<Bytes>, EvalError> {
        let (Select::Items(items), Value::Object(members)) = (select, &scope.object) else {
            return Ok(None);
        };
        let Some((Item::Star, others)) = items.split_first() else {
            return Ok(None);
        };
        let mut named = Vec::with_capacity(others.len());
        for item in others {
            match item {
                Item::Expr { expr, key } => match key.as_slice() {
                    [name] => named.push((name, expr)),
                    _ => return Ok(None),
                },
                _ => return Ok(None),
            }
        }
        self.charge(1)?;
        let mut added: Vec<(&String, Json)> = Vec::with_capacity(named.len());
        for (name, expr) in named {
            let value = self.evaluate(expr, scope)?;
            self.charge_bytes(value.size())?;
            if let Some(json) = value.into_json(self.version) {
                match added.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, place)) => *place = json,
                    None => added.push((name, json)),
                }
            }
        }
        let mut out = Vec::with_capacity(self.input.payload.bytes().len() + 64 * added.len());
        out.push(b'{');
        for (name, json) in members.iter() {
            let instead = added.iter().find(|(known, _)| *known == name);
            append(&mut out, name, instead.map_or(json, |(_, json)| json));
        }
        for (name, json) in &added {
            if !members.contains_key(*name) {
                append(&mut out, name, json);
            }
        }
        out.push(b'}');
        self.charge_bytes(out.len())?;
        Ok(Some(Bytes::from(out)))
    }

    /// `*`: the whole object that names are looked up in.
    fn star(&self, scope: &Scope<'_, 'a>, outermost: bool) -> Result<Value<'a>, EvalError> {
        self.charge(1)?;
        if outermost && scope.object.is_undefined() {
            return Err(EvalError::PayloadNotAnObject);
        }
        Ok(scope.object.clone())
    }

    /// Puts a value under a path of names, into objects that are there already (amb-sql-054).
    fn put(
        &self,
        out: &mut Map<String, Json>,
        key: &'a [String],
        value: Value<'a>,
    ) -> Result<(), EvalError> {
        self.charge_bytes(value.size())?;
        let (Some(json), Some((last, parents))) = (value.into_json(self.version), key.split_last())
        else {
            return Ok(());
        };
        let mut at = out;
        for name in parents {
            let next = at.entry(name.clone()).or_insert(Json::Null);
            if !next.is_object() {
                *next = Json::Object(Map::new());
            }
            let Json::Object(members) = next else {
                return Ok(());
            };
            at = members;
        }
        at.insert(last.clone(), json);
        Ok(())
    }

    /// A nested query: over each element of an array, or over one object.
    pub(super) fn query(
        &self,
        query: &'a Query,
        outer: &Scope<'_, 'a>,
    ) -> Result<Value<'a>, EvalError> {
        // The parser lets only paths of the payload be a source, so it is borrowed.
        match self.evaluate(&query.source, outer)? {
            Value::Array(Cow::Borrowed(items)) => {
                let mut out = Vec::new();
                for item in items {
                    let value = self.query_one(query, Value::borrowed(item), outer)?;
                    self.charge_bytes(value.size())?;
                    out.extend(value.into_json(self.version));
                }
                Ok(Value::array(out))
            }
            object @ Value::Object(Cow::Borrowed(_)) => self.query_one(query, object, outer),
            _ => Ok(Value::Undefined),
        }
    }

    /// A nested query over one element: Undefined, and so left out, where WHERE is not satisfied.
    fn query_one(
        &self,
        query: &'a Query,
        object: Value<'a>,
        outer: &Scope<'_, 'a>,
    ) -> Result<Value<'a>, EvalError> {
        let scope = Scope {
            object,
            outer: Some(outer),
        };
        if let Some(condition) = &query.condition {
            if self.evaluate(condition, &scope)?.to_bool() != Some(true) {
                return Ok(Value::Undefined);
            }
        }
        self.select(&query.select, &scope, false)
    }
}

/// A member behind those that are there.
fn append(out: &mut Vec<u8>, name: &str, json: &Json) {
    if out.len() > 1 {
        out.push(b',');
    }
    // Memory takes everything, and every name and value of JSON has a text.
    let _ = serde_json::to_writer(&mut *out, name);
    out.push(b':');
    let _ = serde_json::to_writer(&mut *out, json);
}
