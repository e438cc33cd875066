//! Regular expressions, matched in time linear in the text.
//!
//! The guide speaks of Java's; look-around and back-references have no linear matcher and are
//! refused when the rule is created, where they stand in the statement, and are Undefined where
//! they come with the message.

use std::borrow::Cow;

use regex::{Captures, Regex, RegexBuilder};

use super::Arguments;
use crate::EvalError;
use crate::eval::Context;
use crate::value::Value;

type Out<'a> = Result<Value<'a>, EvalError>;

/// Bytes that one compiled expression may take.
const MAX_COMPILED: usize = 256 * 1024;
/// Steps that compiling one while evaluating counts for.
const COMPILE_STEPS: u64 = 1000;

fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern)
        .size_limit(MAX_COMPILED)
        .nest_limit(50)
        .build()
}

/// Compiles what stands in a statement. `None` for what is no expression at all: that is an
/// invalid argument and gives Undefined.
pub(crate) fn compile_literal(pattern: &str) -> Result<Option<Regex>, String> {
    match compile(pattern) {
        Ok(regex) => Ok(Some(regex)),
        Err(regex::Error::CompiledTooBig(_)) => Err("it is too large".into()),
        Err(error) => {
            let text = error.to_string();
            match text.lines().find(|l| l.contains("not supported")) {
                Some(reason) => Err(reason.trim_start_matches("error: ").to_owned()),
                None => Ok(None),
            }
        }
    }
}

/// A text and an expression to look for in it.
type Parts<'v, 'a> = (Cow<'v, str>, Cow<'a, Regex>);

/// The text and the expression, if both are there.
fn parts<'v, 'a>(
    context: &Context<'a>,
    text: &'v Value<'a>,
    pattern: &Value<'a>,
    compiled: Option<&'a Regex>,
) -> Result<Option<Parts<'v, 'a>>, EvalError> {
    let (Some(text), Some(pattern)) = (
        text.to_text(context.version),
        pattern.to_text(context.version),
    ) else {
        return Ok(None);
    };
    context.charge_bytes(text.len())?;
    if let Some(regex) = compiled {
        return Ok(Some((text, Cow::Borrowed(regex))));
    }
    context.charge(COMPILE_STEPS + pattern.len() as u64)?;
    Ok(compile(&pattern)
        .ok()
        .map(|regex| (text, Cow::Owned(regex))))
}

pub(super) fn matches<'a>(context: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    let compiled = arguments.regex;
    let Some([text, pattern]) = arguments.exactly() else {
        return Ok(Value::Undefined);
    };
    let found = parts(context, &text, &pattern, compiled)?;
    Ok(found.map_or(Value::Undefined, |(text, regex)| {
        Value::Bool(regex.is_match(&text))
    }))
}

/// The first match; Undefined without one (amb-sql-024).
pub(super) fn substr<'a>(context: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    let compiled = arguments.regex;
    let Some([text, pattern]) = arguments.exactly() else {
        return Ok(Value::Undefined);
    };
    let found = parts(context, &text, &pattern, compiled)?;
    Ok(found
        .and_then(|(text, regex)| Some(Value::text(regex.find(&text)?.as_str().to_owned())))
        .unwrap_or_default())
}

/// Every match; `$1` in the replacement is the first group, as in Java.
pub(super) fn replace<'a>(context: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    let compiled = arguments.regex;
    let Some([text, pattern, with]) = arguments.exactly() else {
        return Ok(Value::Undefined);
    };
    let Some(with) = with.to_text(context.version) else {
        return Ok(Value::Undefined);
    };
    let Some((text, regex)) = parts(context, &text, &pattern, compiled)? else {
        return Ok(Value::Undefined);
    };
    let mut out = String::new();
    let mut last = 0;
    for captures in regex.captures_iter(&text) {
        let Some(all) = captures.get(0) else { continue };
        out.push_str(text.get(last..all.start()).unwrap_or(""));
        if expand(&captures, &with, &mut out).is_none() {
            return Ok(Value::Undefined);
        }
        last = all.end();
        context.charge_bytes(out.len() - out.len().min(all.start()))?;
        context.charge(1)?;
    }
    out.push_str(text.get(last..).unwrap_or(""));
    context.charge_bytes(out.len())?;
    Ok(Value::text(out))
}

/// Java's replacement: `$n` a group (as many digits as name one), `\x` the character x. `None`
/// for a group that is not there.
fn expand(captures: &Captures<'_>, with: &str, out: &mut String) -> Option<()> {
    let mut rest = with.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\\' => out.push(rest.next()?),
            '$' => {
                let mut group = rest.next()?.to_digit(10)? as usize;
                while let Some(digit) = rest.peek().and_then(|c| c.to_digit(10)) {
                    let longer = group * 10 + digit as usize;
                    if longer >= captures.len() {
                        break;
                    }
                    group = longer;
                    rest.next();
                }
                if group >= captures.len() {
                    return None;
                }
                out.push_str(captures.get(group).map_or("", |m| m.as_str()));
            }
            other => out.push(other),
        }
    }
    Some(())
}
