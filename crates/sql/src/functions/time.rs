//! `parse_time()` and `time_to_epoch()` with Joda-Time's patterns, which the guide points to.

mod calendar;
mod pattern;
mod read;
mod write;
mod zone;

use super::Arguments;
use crate::EvalError;
use crate::eval::Context;
use crate::value::Value;
use pattern::{Use, parse_pattern};
use zone::Zone;

type Out<'a> = Result<Value<'a>, EvalError>;

/// Why a pattern that stands in a statement cannot be used: Joda-Time knows it, this gateway does
/// not. What Joda-Time does not know either is an invalid argument and gives Undefined.
pub(crate) fn check_write_pattern(text: &str) -> Result<(), String> {
    check(text, Use::Write)
}

/// The same for reading.
pub(crate) fn check_read_pattern(text: &str) -> Result<(), String> {
    check(text, Use::Read)
}

fn check(text: &str, for_use: Use) -> Result<(), String> {
    match parse_pattern(text) {
        Some(elements) => match elements.iter().find(|e| !e.is_supported(for_use)) {
            Some(element) => Err(format!("{element} in the date pattern")),
            None => Ok(()),
        },
        None => Ok(()),
    }
}

/// `parse_time(pattern, milliseconds[, zone])`: a moment as text, in UTC unless said otherwise.
pub(super) fn parse_time<'a>(context: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    let mut values = arguments.values.into_iter();
    let (Some(Value::Text(pattern)), Some(moment), zone, None) =
        (values.next(), values.next(), values.next(), values.next())
    else {
        return Ok(Value::Undefined);
    };
    context.charge_bytes(pattern.len())?;
    let zone = match zone {
        None => Some(Zone::Utc),
        Some(Value::Text(name)) => Zone::find(&name),
        Some(_) => None,
    };
    let moment = moment.to_decimal().and_then(|n| n.floor_i64());
    let (Some(moment), Some(zone)) = (moment, zone) else {
        return Ok(Value::Undefined);
    };
    let text = parse_pattern(&pattern)
        .filter(|elements| elements.iter().all(|e| e.is_supported(Use::Write)))
        .and_then(|elements| write::write(&elements, moment, &zone));
    Ok(text.map_or(Value::Undefined, Value::text))
}

/// `time_to_epoch(text, pattern)`: milliseconds since 1970, in UTC unless the text says otherwise.
pub(super) fn time_to_epoch<'a>(context: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    let Some([Value::Text(text), Value::Text(pattern)]) = arguments.exactly() else {
        return Ok(Value::Undefined);
    };
    context.charge_bytes(text.len() + pattern.len())?;
    let now = i64::try_from(context.input.now.0).unwrap_or(0);
    let moment = parse_pattern(&pattern)
        .filter(|elements| elements.iter().all(|e| e.is_supported(Use::Read)))
        .and_then(|elements| read::read(&elements, &text, now));
    Ok(moment.map_or(Value::Undefined, Value::int))
}
