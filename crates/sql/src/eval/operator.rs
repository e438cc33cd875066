//! Operators between two values (guide, "Expressions").

use std::cmp::Ordering;

use super::Context;
use crate::EvalError;
use crate::SqlVersion;
use crate::ast::Operator;
use crate::decimal::Decimal;
use crate::value::Value;

impl<'a> Context<'a> {
    pub(super) fn operate(
        &self,
        operator: Operator,
        left: &Value<'a>,
        right: &Value<'a>,
    ) -> Result<Value<'a>, EvalError> {
        if left.is_undefined() || right.is_undefined() {
            return Ok(Value::Undefined);
        }
        let numbers = || Some((left.to_decimal()?, right.to_decimal()?));
        let arithmetic = |f: fn(Decimal, Decimal) -> Option<Decimal>| {
            Value::number(numbers().and_then(|(a, b)| f(a, b)))
        };
        let compare = |holds: fn(Ordering) -> bool| match numbers() {
            Some((a, b)) => Value::Bool(holds(a.cmp(&b))),
            None => Value::Undefined,
        };
        Ok(match operator {
            Operator::Equal => Value::Bool(left.equals(right)),
            Operator::NotEqual => Value::Bool(!left.equals(right)),
            Operator::Less => compare(Ordering::is_lt),
            Operator::LessOrEqual => compare(Ordering::is_le),
            Operator::Greater => compare(Ordering::is_gt),
            Operator::GreaterOrEqual => compare(Ordering::is_ge),
            Operator::Add => return self.add(left, right),
            Operator::Subtract => arithmetic(Decimal::checked_sub),
            Operator::Multiply => arithmetic(Decimal::checked_mul),
            Operator::Remainder => arithmetic(Decimal::checked_rem),
            // Strings are converted to Decimals, so that only numbers divide as Ints.
            Operator::Divide => match (left, right) {
                (Value::Number(a), Value::Number(b)) => Value::number(self.divide(*a, *b)),
                _ => arithmetic(Decimal::checked_div),
            },
        })
    }

    /// Numbers are added; if either side is a String, both are concatenated as strings.
    fn add(&self, left: &Value<'a>, right: &Value<'a>) -> Result<Value<'a>, EvalError> {
        if let (Value::Number(a), Value::Number(b)) = (left, right) {
            return Ok(Value::number(a.checked_add(*b)));
        }
        if !matches!(left, Value::Text(_)) && !matches!(right, Value::Text(_)) {
            return Ok(Value::Undefined);
        }
        // Null has no string (amb-sql-044).
        let (Some(a), Some(b)) = (left.to_text(self.version), right.to_text(self.version)) else {
            return Ok(Value::Undefined);
        };
        self.charge_bytes(a.len() + b.len())?;
        Ok(Value::text(format!("{a}{b}")))
    }

    /// Int divided by Int is an Int, cut toward zero (amb-sql-045, amb-sql-046).
    fn divide(&self, a: Decimal, b: Decimal) -> Option<Decimal> {
        if self.is_int(a) && self.is_int(b) {
            a.div_int(b)
        } else {
            a.checked_div(b)
        }
    }

    /// Whether a number counts as an Int in this version.
    pub(crate) fn is_int(&self, number: Decimal) -> bool {
        match self.version {
            SqlVersion::V2015 => number.is_written_as_int(),
            SqlVersion::V2016 => number.is_whole(),
        }
    }
}
