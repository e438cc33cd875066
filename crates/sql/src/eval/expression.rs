//! Expressions.

use serde_json::{Map, Value as Json};

use super::{Context, Scope};
use crate::EvalError;
use crate::ast::{Call, CastType, Expr, Step};
use crate::decimal::Decimal;
use crate::functions::Arguments;
use crate::value::Value;

impl<'a> Context<'a> {
    pub(crate) fn evaluate(
        &self,
        expr: &'a Expr,
        scope: &Scope<'_, 'a>,
    ) -> Result<Value<'a>, EvalError> {
        self.charge(1)?;
        Ok(match expr {
            Expr::Null => Value::Null,
            Expr::Bool(b) => Value::Bool(*b),
            Expr::Number(n) => Value::Number(*n),
            Expr::Text(s) => Value::text(s.as_str()),
            Expr::Payload => Scope::payload(self.input).object,
            Expr::Variable(name) => self.input.variables.get(name),
            Expr::Attribute(name) => scope.attribute(name),
            Expr::Path(base, steps) => self.path(base, steps, scope)?,
            Expr::Array(items) => self.array(items, scope)?,
            Expr::Object(members) => self.object(members, scope)?,
            Expr::Call(call) => self.call(call, scope)?,
            Expr::Default(value, default) => self.or_default(value, default.as_deref(), scope)?,
            Expr::Cast(inner, kind) => self.cast(&self.evaluate(inner, scope)?, *kind)?,
            Expr::Case {
                operand,
                branches,
                otherwise,
            } => self.case(operand, branches, otherwise.as_deref(), scope)?,
            Expr::Not(inner) => match self.evaluate(inner, scope)?.to_bool() {
                Some(b) => Value::Bool(!b),
                None => Value::Undefined,
            },
            Expr::Negate(inner) => Value::number(
                self.evaluate(inner, scope)?
                    .to_decimal()
                    .map(Decimal::negated),
            ),
            Expr::And(all) => self.decide(all, false, scope)?,
            Expr::Or(all) => self.decide(all, true, scope)?,
            Expr::Chain(first, rest) => {
                let mut left = self.evaluate(first, scope)?;
                for (operator, right) in rest {
                    let right = self.evaluate(right, scope)?;
                    left = self.operate(*operator, &left, &right)?;
                }
                left
            }
            Expr::Query(query) => self.query(query, scope)?,
        })
    }

    /// AND (decided by false) and OR (decided by true): an operand on either side decides, even
    /// beside Undefined (amb-sql-040, amb-sql-041).
    fn decide(
        &self,
        all: &'a [Expr],
        decisive: bool,
        scope: &Scope<'_, 'a>,
    ) -> Result<Value<'a>, EvalError> {
        let mut undefined = false;
        for expr in all {
            match self.evaluate(expr, scope)?.to_bool() {
                Some(b) if b == decisive => return Ok(Value::Bool(decisive)),
                Some(_) => {}
                None => undefined = true,
            }
        }
        Ok(if undefined {
            Value::Undefined
        } else {
            Value::Bool(!decisive)
        })
    }

    fn path(
        &self,
        base: &'a Expr,
        steps: &'a [Step],
        scope: &Scope<'_, 'a>,
    ) -> Result<Value<'a>, EvalError> {
        let mut value = self.evaluate(base, scope)?;
        for step in steps {
            value = match step {
                Step::Name(name) => value.member(name),
                Step::Index(index) => {
                    let index = self.evaluate(index, scope)?;
                    crate::functions::element(value, &index)
                }
            };
        }
        Ok(value)
    }

    /// Undefined items are left out (amb-sql-086).
    fn array(&self, items: &'a [Expr], scope: &Scope<'_, 'a>) -> Result<Value<'a>, EvalError> {
        let mut out = Vec::with_capacity(items.len());
        for item in items {
            let value = self.evaluate(item, scope)?;
            self.charge_bytes(value.size())?;
            out.extend(value.into_json(self.version));
        }
        Ok(Value::array(out))
    }

    fn object(
        &self,
        members: &'a [(String, Expr)],
        scope: &Scope<'_, 'a>,
    ) -> Result<Value<'a>, EvalError> {
        let mut out = Map::new();
        for (key, expr) in members {
            let value = self.evaluate(expr, scope)?;
            self.charge_bytes(value.size())?;
            if let Some(json) = value.into_json(self.version) {
                out.insert(key.clone(), json);
            }
        }
        Ok(Value::owned(Json::Object(out)))
    }

    fn call(&self, call: &'a Call, scope: &Scope<'_, 'a>) -> Result<Value<'a>, EvalError> {
        let mut values = Vec::with_capacity(call.arguments.len());
        for argument in &call.arguments {
            values.push(self.evaluate(argument, scope)?);
        }
        let arguments = Arguments {
            values,
            payload: matches!(call.arguments.first(), Some(Expr::Payload)),
            regex: call.regex.as_ref(),
        };
        let out = (call.function.call)(self, arguments)?;
        self.charge_bytes(out.size())?;
        Ok(out)
    }

    /// get_or_default(): the default for Undefined, Null, and a function that fails.
    fn or_default(
        &self,
        value: &'a Expr,
        default: Option<&'a Expr>,
        scope: &Scope<'_, 'a>,
    ) -> Result<Value<'a>, EvalError> {
        match self.evaluate(value, scope) {
            Ok(Value::Undefined | Value::Null) | Err(EvalError::NotBound(..)) => match default {
                Some(default) => self.evaluate(default, scope),
                None => Ok(Value::Undefined),
            },
            other => other,
        }
    }

    /// CASE value WHEN … THEN … ELSE … END; an Undefined value gives Undefined.
    fn case(
        &self,
        operand: &'a Expr,
        branches: &'a [(Expr, Expr)],
        otherwise: Option<&'a Expr>,
        scope: &Scope<'_, 'a>,
    ) -> Result<Value<'a>, EvalError> {
        let operand = self.evaluate(operand, scope)?;
        if operand.is_undefined() {
            return Ok(Value::Undefined);
        }
        for (when, then) in branches {
            if operand.equals(&self.evaluate(when, scope)?) {
                return self.evaluate(then, scope);
            }
        }
        match otherwise {
            Some(expr) => self.evaluate(expr, scope),
            None => Ok(Value::Undefined),
        }
    }

    /// The guide's tables of "cast()".
    fn cast(&self, value: &Value<'a>, kind: CastType) -> Result<Value<'a>, EvalError> {
        let number = || match value {
            Value::Bool(b) => Some(Decimal::from(i64::from(*b))),
            other => other.to_decimal(),
        };
        Ok(match kind {
            CastType::Decimal => Value::number(number()),
            CastType::Double => Value::number(number().and_then(Decimal::with_double_precision)),
            // Rounded down (amb-sql-026).
            CastType::Int => Value::number(number().and_then(Decimal::floor)),
            CastType::Bool => match value {
                Value::Number(n) => Value::Bool(!n.is_zero()),
                other => other.to_bool().map_or(Value::Undefined, Value::Bool),
            },
            CastType::Text => match value.to_text(self.version) {
                Some(text) => {
                    self.charge_bytes(text.len())?;
                    Value::text(text.into_owned())
                }
                None => Value::Undefined,
            },
        })
    }
}
