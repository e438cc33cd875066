//! Nothing that a rule's author or a device writes makes the evaluator panic, grow or hang.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use iotedge_model::{TraceId, UnixMillis};
use iotedge_sql::{
    EvalError, Host, Input, Payload, SqlErrorKind, SqlVersion, Statement, Template, Variables, Via,
};
use proptest::prelude::*;
use serde_json::Value as Json;

struct Nothing;

impl Host for Nothing {
    fn random(&self) -> u128 {
        u128::MAX
    }
    fn shadow(&self, _: &str, _: Option<&str>) -> Option<Json> {
        None
    }
    fn thing(&self, _: &str) -> Option<Json> {
        None
    }
}

fn with_input<T>(payload: &[u8], f: impl FnOnce(&Input<'_>) -> T) -> T {
    let payload = Payload::new(Bytes::copy_from_slice(payload));
    f(&Input {
        topic: "a/b",
        payload: &payload,
        client_id: "c",
        principal: "p",
        via: Via::Mqtt,
        now: UnixMillis(1),
        account_id: "1",
        trace: TraceId(1),
        rule_name: "r",
        properties: None,
        source_ip: None,
        variables: &Variables::default(),
        host: &Nothing,
    })
}

fn evaluate(sql: &str, payload: &[u8]) -> Result<Option<Bytes>, EvalError> {
    let statement = Statement::parse(sql, SqlVersion::V2016).unwrap();
    with_input(payload, |input| statement.evaluate(input))
}

#[test]
fn nesting_is_bounded_when_parsed() {
    for (open, close) in [
        ("(", ")"),
        ("[", "]"),
        ("-", ""),
        ("NOT ", ""),
        ("{'a':", "}"),
        ("abs(", ")"),
    ] {
        let sql = format!(
            "SELECT {}1{} AS a FROM 'a'",
            open.repeat(100_000 / open.len()),
            close.repeat(100_000 / open.len())
        );
        let error = Statement::parse(&sql, SqlVersion::V2016).unwrap_err();
        assert!(
            matches!(error.reason, SqlErrorKind::TooDeep(_)),
            "{open}: {error}"
        );
    }
}

#[test]
fn the_deepest_nesting_that_is_parsed_is_evaluated() {
    for (open, close) in [
        ("(", ")"),
        ("[", "]"),
        ("NOT ", ""),
        ("{'a':", "}"),
        ("abs(", ")"),
        ("(SELECT VALUE ", " FROM o)"),
    ] {
        let sql = (1..100)
            .rev()
            .map(|n| {
                format!(
                    "SELECT {}o.a.b{} AS a FROM 'a/b'",
                    open.repeat(n),
                    close.repeat(n)
                )
            })
            .find(|sql| Statement::parse(sql, SqlVersion::V2016).is_ok())
            .unwrap();
        evaluate(&sql, br#"{"o":{"a":true}}"#).unwrap();
    }
}

#[test]
fn long_flat_lists_are_no_nesting() {
    let ids: Vec<String> = (0..2000).map(|n| format!("id = 'device-{n}'")).collect();
    let sql = format!(
        "SELECT {} AS s FROM 'a/b' WHERE {}",
        vec!["1"; 2000].join(" + "),
        ids.join(" OR ")
    );
    let out = evaluate(&sql, br#"{"id":"device-1999"}"#).unwrap().unwrap();
    assert_eq!(out, r#"{"s":2000}"#);
}

#[test]
fn a_value_that_doubles_is_stopped() {
    let mut expr = "s".to_owned();
    for _ in 0..40 {
        expr = format!("regexp_replace({expr}, '.', 'xxxxxxxxxx')");
    }
    let sql = format!("SELECT {expr} AS s FROM 'a/b'");
    assert!(matches!(
        evaluate(&sql, br#"{"s":"y"}"#),
        Err(EvalError::TooLarge(_) | EvalError::TooMuchWork(_))
    ));
    let sql = sql
        .replace("regexp_replace", "replace")
        .replace("'.'", "'x'");
    assert!(matches!(
        evaluate(&sql, br#"{"s":"x"}"#),
        Err(EvalError::TooLarge(_) | EvalError::TooMuchWork(_))
    ));
}

#[test]
fn nested_queries_that_multiply_are_stopped() {
    let sql = "SELECT (SELECT VALUE (SELECT VALUE (SELECT VALUE (SELECT VALUE 1 FROM e) FROM e) FROM e) FROM e) AS r FROM 'a/b'";
    let payload = format!("{{\"e\":[{}]}}", vec!["0"; 1000].join(","));
    assert!(matches!(
        evaluate(sql, payload.as_bytes()),
        Err(EvalError::TooMuchWork(_) | EvalError::TooLarge(_))
    ));
}

#[test]
fn errors_point_at_the_column() {
    for (sql, column, text) in [
        ("SELECT a FROM 'x' WHERE", 24, "an expression"),
        (
            "SELECT é, nosuch(v) AS r FROM 'x'",
            11,
            "no function nosuch()",
        ),
        ("SELECT a FROM \"x\"", 15, "single quotes"),
        ("SELECT a FROM 'a/#/b'", 15, "not valid"),
        ("SELECT 'abc FROM x", 8, "no closing '"),
        (
            "SELECT a b FROM 'x'",
            10,
            "expected ',', FROM or WHERE, found b",
        ),
        (
            "SELECT a FROM 'x' WHERE b ~ c",
            27,
            "unexpected character '~'",
        ),
        (
            "SELECT regexp_matches(a, '(?=b)') AS r FROM 'x'",
            26,
            "look-ahead and look-behind, is not supported",
        ),
        ("SELECT @a AS r FROM 'x'", 8, "@a has no value here"),
        ("SET @a = @a SELECT 1 AS r", 10, "@a has no value here"),
        (
            "SET @a = 1, @a = 2 SELECT 1 AS r",
            13,
            "@a has a value already",
        ),
        (
            "SET a = 1 SELECT 1 AS r",
            5,
            "expected a variable, @name, found a",
        ),
        ("SET @a 1 SELECT 1 AS r", 8, "expected '='"),
        (
            "SET @a = 1 SET @b = 2 SELECT 1 AS r",
            12,
            "expected ',' or SELECT, found SET",
        ),
        (
            "SELECT a.* AS r FROM 'x'",
            12,
            "expected ',', FROM or WHERE, found AS",
        ),
        ("SELECT upper(*) AS r FROM 'x'", 14, "'*' can only be"),
        (
            "SELECT get_or_default(a, get_secret('s', 'SecretString', 'r')) AS r FROM 'x'",
            26,
            "get_secret() cannot be in the default",
        ),
        ("", 1, "expected SELECT, found the end"),
    ] {
        let error = Statement::parse(sql, SqlVersion::V2016).unwrap_err();
        assert_eq!(error.column, column, "{sql}: {error}");
        assert!(error.to_string().contains(text), "{sql}: {error}");
    }
    let error = Template::parse("a/${topic(}/b", SqlVersion::V2016).unwrap_err();
    assert_eq!(error.column, 11, "{error}");
}

/// Words of the language in any order.
fn soup() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "SELECT",
        "FROM",
        "WHERE",
        "AS",
        "VALUE",
        "AND",
        "OR",
        "NOT",
        "CASE",
        "WHEN",
        "THEN",
        "ELSE",
        "END",
        "*",
        ",",
        ".",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ":",
        "+",
        "-",
        "/",
        "%",
        "=",
        "<>",
        "<",
        "a",
        "b",
        "e",
        "'a/b'",
        "'x'",
        "\"y\"",
        "1",
        "2.5",
        "1e900",
        "-1",
        "null",
        "true",
        "get(",
        "topic(",
        "concat(",
        "substring(",
        "cast(",
        "as",
        "Int",
        "String",
        "encode(*,",
        "'base64'",
        "regexp_replace(",
        "lpad(",
        "round(",
        "trunc(",
        "é",
        "$",
        "'",
    ]);
    prop::collection::vec(words, 0..40).prop_map(|w| w.join(" "))
}

fn json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Bool),
        "-?[0-9]{1,40}(\\.[0-9]{1,40})?(e-?[0-9]{1,5})?"
            .prop_map(|n| serde_json::from_str(&n).unwrap_or(Json::Null)),
        ".{0,8}".prop_map(Json::String),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Json::Array),
            prop::collection::vec(("[abe]", inner), 0..5)
                .prop_map(|m| Json::Object(m.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_text_panics(sql in ".{0,60}", payload in prop::collection::vec(any::<u8>(), 0..40)) {
        for version in [SqlVersion::V2015, SqlVersion::V2016] {
            if let Ok(statement) = Statement::parse(&sql, version) {
                let _ = with_input(&payload, |i| statement.evaluate(i));
            }
            if let Ok(template) = Template::parse(&sql, version) {
                let _ = with_input(&payload, |i| template.evaluate(i));
            }
        }
    }

    #[test]
    fn no_soup_of_words_panics(words in soup(), payload in json()) {
        let payload = payload.to_string();
        for sql in [words.clone(), format!("SELECT {words} FROM 'a/b'"), format!("SELECT * FROM 'a/b' WHERE {words}")] {
            if let Ok(statement) = Statement::parse(&sql, SqlVersion::V2016) {
                let _ = with_input(payload.as_bytes(), |i| statement.evaluate(i));
            }
        }
        if let Ok(template) = Template::parse(&format!("${{{words}}}"), SqlVersion::V2016) {
            let _ = with_input(payload.as_bytes(), |i| template.evaluate(i));
        }
    }

    #[test]
    fn dates_take_anything(text in ".{0,30}", pattern in "[GCYxweEyDMdaKhHkmsSzZ' :/.-]{0,20}", moment in any::<i64>(), zone in "(UTC|[A-Z][a-z]{2,6}/[A-Z][a-z]{2,8}|[+-][0-9:]{0,6}|.{0,6})") {
        let payload = serde_json::json!({"t": text, "p": pattern, "m": moment, "z": zone}).to_string();
        let sql = "SELECT parse_time(p, m, z) AS a, parse_time(p, m) AS b, time_to_epoch(t, p) AS c, time_to_epoch(parse_time(p, m), p) AS d FROM 'a/b'";
        evaluate(sql, payload.as_bytes()).unwrap();
    }

    #[test]
    fn functions_take_any_values(a in json(), b in json(), e in json(), function in prop::sample::select(vec![
        "abs", "atan2", "bitand", "bitnot", "ceil", "chr", "concat", "decode", "encode", "endswith",
        "floor", "get", "indexof", "length", "log", "lpad", "md5", "mod", "nanvl", "power",
        "regexp_matches", "regexp_replace", "regexp_substr", "replace", "round", "rpad", "sign",
        "substring", "topic", "transform", "trunc", "upper",
    ])) {
        let payload = serde_json::json!({"a": a, "b": b, "e": e}).to_string();
        for arguments in ["", "a", "a, b", "a, b, e", "a, 'base64'", "'enrichArray', a, b"] {
            let sql = format!("SELECT {function}({arguments}) AS r, a + b AS p, a * b AS m, a / b AS d, a % b AS q, a[b] AS i, a < b AS l, a = b AS s, cast(a as Int) AS c, (SELECT * FROM e WHERE a = b) AS n FROM 'a/b'");
            if let Some(out) = evaluate(&sql, payload.as_bytes()).unwrap() {
                let again: Result<Json, _> = serde_json::from_slice(&out);
                prop_assert!(again.is_ok(), "{sql}: {out:?}");
            }
        }
    }
}

#[test]
fn nesting_hidden_in_reserved_objects_ends_nothing() {
    let mut text = "1".to_owned();
    for _ in 0..60 {
        let inner = format!("{}{text}{}", "[".repeat(120), "]".repeat(120));
        let escaped = inner.replace('\\', "\\u005c").replace('"', "\\u0022");
        text = format!("{{\"$serde_json::private::RawValue\":\"{escaped}\"}}");
        if text.len() > 200_000 {
            break;
        }
    }
    let payload = iotedge_sql::Payload::new(bytes::Bytes::from(text));
    assert!(payload.json().is_none(), "no JSON to look into");
}
