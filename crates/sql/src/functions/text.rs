//! Strings. Arguments of other types are converted to strings first; Null and Undefined have none.

use super::Arguments;
use crate::EvalError;
use crate::eval::Context;
use crate::value::Value;

type Out<'a> = Result<Value<'a>, EvalError>;

/// Most spaces that lpad() and rpad() add.
const MAX_PAD: i64 = 1000;

/// One string in.
fn one<'a>(
    context: &Context<'a>,
    arguments: Arguments<'a>,
    f: impl FnOnce(&str) -> Value<'a>,
) -> Out<'a> {
    let Some([value]) = arguments.exactly() else {
        return Ok(Value::Undefined);
    };
    let text = value.to_text(context.version);
    context.charge_bytes(text.as_ref().map_or(0, |t| t.len()))?;
    Ok(text.map_or(Value::Undefined, |t| f(&t)))
}

/// Two strings in.
fn two<'a>(
    context: &Context<'a>,
    arguments: Arguments<'a>,
    f: impl FnOnce(&str, &str) -> Value<'a>,
) -> Out<'a> {
    let Some([a, b]) = arguments.exactly() else {
        return Ok(Value::Undefined);
    };
    let (Some(a), Some(b)) = (a.to_text(context.version), b.to_text(context.version)) else {
        return Ok(Value::Undefined);
    };
    context.charge_bytes(a.len() + b.len())?;
    Ok(f(&a, &b))
}

pub(super) fn lower<'a>(context: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    one(context, arguments, |t| Value::text(t.to_lowercase()))
}

pub(super) fn upper<'a>(context: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    one(context, arguments, |t| Value::text(t.to_uppercase()))
}

/// Tabs and spaces (amb-sql-014).
fn is_blank(c: char) -> bool {
    c == ' ' || c == '\t'
}

pub(super) fn ltrim<'a>(context: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    one(context, arguments, |t| {
        Value::text(t.trim_start_matches(is_blank).to_owned())
    })
}

pub(super) fn rtrim<'a>(context: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    one(context, arguments, |t| {
        Value::text(t.trim_end_matches(is_blank).to_owned())
    })
}

/// "All leading and trailing white space".
pub(super) fn trim<'a>(context: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    one(context, arguments, |t| Value::text(t.trim().to_owned()))
}

/// Characters, not UTF-16 units (amb-sql-019).
pub(super) fn length<'a>(context: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    one(context, arguments, |t| Value::count(t.chars().count()))
}

/// Bytes of its UTF-8.
pub(super) fn numbytes<'a>(context: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    one(context, arguments, |t| Value::count(t.len()))
}

pub(super) fn startswith<'a>(context: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    two(context, arguments, |a, b| Value::Bool(a.starts_with(b)))
}

pub(super) fn endswith<'a>(context: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    two(context, arguments, |a, b| Value::Bool(a.ends_with(b)))
}

/// In characters, -1 where it is not (amb-sql-020).
pub(super) fn indexof<'a>(context: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    two(context, arguments, |a, b| match a.split_once(b) {
        Some((before, _)) => Value::count(before.chars().count()),
        None => Value::int(-1),
    })
}

/// The character of an ASCII code, 0 to 127 (amb-sql-015).
pub(super) fn chr<'a>(_: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    let code = arguments.exactly().and_then(|[v]| v.to_index());
    let ascii = code.and_then(|c| u8::try_from(c).ok()).filter(u8::is_ascii);
    Ok(ascii.map_or(Value::Undefined, |c| Value::text(char::from(c).to_string())))
}

pub(super) fn lpad<'a>(context: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    pad(context, arguments, |text, spaces| format!("{spaces}{text}"))
}

pub(super) fn rpad<'a>(context: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    pad(context, arguments, |text, spaces| format!("{text}{spaces}"))
}

fn pad<'a>(
    context: &Context<'a>,
    arguments: Arguments<'a>,
    join: fn(&str, &str) -> String,
) -> Out<'a> {
    let Some([value, count]) = arguments.exactly() else {
        return Ok(Value::Undefined);
    };
    let (Some(text), Some(count)) = (value.to_text(context.version), count.to_index()) else {
        return Ok(Value::Undefined);
    };
    let count = usize::try_from(count.clamp(0, MAX_PAD)).unwrap_or(0);
    context.charge_bytes(text.len() + count)?;
    Ok(Value::text(join(&text, &" ".repeat(count))))
}

/// One argument: itself (amb-sql-016). An array among them: one array of all. A string among
/// them: one string of all (amb-sql-017, amb-sql-018).
pub(super) fn concat<'a>(context: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    let mut values = arguments.values;
    if values.len() < 2 {
        return Ok(values.pop().unwrap_or_default());
    }
    context.charge_bytes(values.iter().map(Value::size).sum())?;
    if values.iter().any(|v| matches!(v, Value::Array(_))) {
        let mut out = Vec::new();
        for value in values {
            match value {
                Value::Array(items) => out.extend(items.iter().cloned()),
                other => out.extend(other.into_json(context.version)),
            }
        }
        return Ok(Value::array(out));
    }
    if !values.iter().any(|v| matches!(v, Value::Text(_))) {
        return Ok(Value::Undefined);
    }
    let mut out = String::new();
    for value in &values {
        match value.to_text(context.version) {
            Some(text) => out.push_str(&text),
            None => return Ok(Value::Undefined),
        }
    }
    Ok(Value::text(out))
}

pub(super) fn replace<'a>(context: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    let Some([source, what, with]) = arguments.exactly() else {
        return Ok(Value::Undefined);
    };
    let text = |v: &Value<'a>| v.to_text(context.version).map(|t| t.into_owned());
    let (Some(source), Some(what), Some(with)) = (text(&source), text(&what), text(&with)) else {
        return Ok(Value::Undefined);
    };
    context.charge_bytes(source.len())?;
    let count = source.matches(what.as_str()).count();
    context.charge_bytes(
        source
            .len()
            .saturating_add(count.saturating_mul(with.len())),
    )?;
    Ok(Value::text(source.replace(&what, &with)))
}

/// From a position, and up to another: counted from 0, held at the string's ends.
pub(super) fn substring<'a>(context: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    let mut values = arguments.values.into_iter();
    let (Some(value), Some(from), to, None) =
        (values.next(), values.next(), values.next(), values.next())
    else {
        return Ok(Value::Undefined);
    };
    let (Some(text), Some(from)) = (value.to_text(context.version), from.to_index()) else {
        return Ok(Value::Undefined);
    };
    let to = match to.map(|t| t.to_index()) {
        None => i64::MAX,
        Some(Some(to)) => to,
        Some(None) => return Ok(Value::Undefined),
    };
    context.charge_bytes(text.len())?;
    let from = from.max(0);
    let count = to.saturating_sub(from).max(0);
    let at = |n: i64| usize::try_from(n).unwrap_or(usize::MAX);
    let out: String = text.chars().skip(at(from)).take(at(count)).collect();
    Ok(Value::text(out))
}
