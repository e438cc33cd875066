//! The functions of the guide's "Functions", by name.
//!
//! Names do not count letter case. "Functions called with invalid arguments return Undefined":
//! that includes a wrong number of them.

mod context;
mod encoding;
mod json;
mod number;
mod outside;
mod properties;
mod regexp;
mod text;
mod time;

use std::fmt;

use regex::Regex;

pub(crate) use json::element;
pub(crate) use regexp::compile_literal;

use crate::eval::Context;
use crate::value::Value;
use crate::{EvalError, SqlVersion};

/// What a function does.
type Body = for<'a> fn(&Context<'a>, Arguments<'a>) -> Result<Value<'a>, EvalError>;

/// Says what of a pattern is not supported.
type PatternCheck = fn(&str) -> Result<(), String>;

/// A function.
pub(crate) struct Function {
    /// Its name, in lower case.
    pub(crate) name: &'static str,
    /// The first version that has it.
    pub(crate) since: SqlVersion,
    /// Which argument may be `*`.
    pub(crate) payload_at: Option<usize>,
    /// Whether its answer comes from outside of the message and the gateway's own state.
    pub(crate) external: bool,
    /// Whether its second argument is a regular expression.
    pub(crate) takes_regex: bool,
    /// Which argument is a pattern, and what is wrong with one that is written out.
    pub(crate) pattern: Option<(usize, PatternCheck)>,
    pub(crate) call: Body,
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// What a function is called with.
pub(crate) struct Arguments<'a> {
    pub(crate) values: Vec<Value<'a>>,
    /// The first argument is `*`.
    pub(crate) payload: bool,
    /// The second argument, compiled.
    pub(crate) regex: Option<&'a Regex>,
}

impl<'a> Arguments<'a> {
    /// The arguments if there are `N` of them.
    fn exactly<const N: usize>(self) -> Option<[Value<'a>; N]> {
        self.values.try_into().ok()
    }
}

/// What a name stands for.
pub(crate) enum Found {
    Function(&'static Function),
    /// `get_or_default()`, which is no function: its arguments are not evaluated first.
    Default,
    Unknown,
}

/// Looks a name up.
pub(crate) fn find(name: &str) -> Found {
    if let Some(function) = FUNCTIONS.iter().find(|f| f.name.eq_ignore_ascii_case(name)) {
        return Found::Function(function);
    }
    if name.eq_ignore_ascii_case("get_or_default") {
        return Found::Default;
    }
    Found::Unknown
}

const fn function(name: &'static str, call: Body) -> Function {
    Function {
        name,
        since: SqlVersion::V2015,
        payload_at: None,
        external: false,
        takes_regex: false,
        pattern: None,
        call,
    }
}

const fn since_2016(name: &'static str, call: Body) -> Function {
    Function {
        since: SqlVersion::V2016,
        ..function(name, call)
    }
}

const fn with_regex(name: &'static str, call: Body) -> Function {
    Function {
        takes_regex: true,
        ..function(name, call)
    }
}

/// A function that something outside answers.
const fn external(function: Function) -> Function {
    Function {
        external: true,
        ..function
    }
}

const fn with_payload(at: usize, function: Function) -> Function {
    Function {
        payload_at: Some(at),
        ..function
    }
}

static FUNCTIONS: &[Function] = &[
    function("abs", number::abs),
    function("accountid", context::accountid),
    function("acos", number::acos),
    function("asin", number::asin),
    function("atan", number::atan),
    function("atan2", number::atan2),
    external(with_payload(1, function("aws_lambda", outside::aws_lambda))),
    function("bitand", number::bitand),
    function("bitnot", number::bitnot),
    function("bitor", number::bitor),
    function("bitxor", number::bitxor),
    function("ceil", number::ceil),
    function("chr", text::chr),
    function("clientid", context::clientid),
    function("concat", text::concat),
    function("cos", number::cos),
    function("cosh", number::cosh),
    with_payload(0, since_2016("decode", encoding::decode)),
    with_payload(0, since_2016("encode", encoding::encode)),
    function("endswith", text::endswith),
    function("exp", number::exp),
    function("floor", number::floor),
    with_payload(0, function("get", json::get)),
    external(since_2016("get_dynamodb", outside::get_dynamodb)),
    function("get_mqtt_property", properties::get_mqtt_property),
    external(since_2016("get_registry_data", outside::get_registry_data)),
    external(function("get_secret", outside::get_secret)),
    external(since_2016("get_thing_shadow", context::get_thing_shadow)),
    function("get_user_properties", properties::get_user_properties),
    since_2016("indexof", text::indexof),
    function("isnull", json::isnull),
    since_2016("isundefined", json::isundefined),
    since_2016("length", text::length),
    function("ln", number::ln),
    function("log", number::log),
    function("lower", text::lower),
    function("lpad", text::lpad),
    function("ltrim", text::ltrim),
    external(with_payload(
        2,
        function("machinelearning_predict", outside::machinelearning_predict),
    )),
    function("md2", encoding::md2),
    function("md5", encoding::md5),
    function("mod", number::remainder),
    function("nanvl", json::nanvl),
    function("newuuid", context::newuuid),
    since_2016("numbytes", text::numbytes),
    Function {
        pattern: Some((0, time::check_write_pattern)),
        ..since_2016("parse_time", time::parse_time)
    },
    function("power", number::power),
    function("principal", context::principal),
    function("rand", context::rand),
    with_regex("regexp_matches", regexp::matches),
    with_regex("regexp_replace", regexp::replace),
    with_regex("regexp_substr", regexp::substr),
    function("remainder", number::remainder),
    function("replace", text::replace),
    function("round", number::round),
    function("rpad", text::rpad),
    function("rtrim", text::rtrim),
    function("sha1", encoding::sha1),
    function("sha224", encoding::sha224),
    function("sha256", encoding::sha256),
    function("sha384", encoding::sha384),
    function("sha512", encoding::sha512),
    function("sign", number::sign),
    function("sin", number::sin),
    function("sinh", number::sinh),
    since_2016("sourceip", context::sourceip),
    function("sql_version", context::sql_version),
    function("sqrt", number::sqrt),
    function("startswith", text::startswith),
    function("substring", text::substring),
    function("tan", number::tan),
    function("tanh", number::tanh),
    Function {
        pattern: Some((1, time::check_read_pattern)),
        ..since_2016("time_to_epoch", time::time_to_epoch)
    },
    function("timestamp", context::timestamp),
    function("topic", context::topic),
    function("traceid", context::traceid),
    since_2016("transform", json::transform),
    function("trim", text::trim),
    function("trunc", number::trunc),
    function("upper", text::upper),
];
