//! Properties of the conversions between types ("Data types", "Conversions", "cast").
#![allow(clippy::unwrap_used)]

mod support;

use bytes::Bytes;
use iotedge_sql::decimal::Decimal;
use iotedge_sql::{Payload, SqlVersion, Statement, Variables};
use proptest::prelude::*;
use regex::Regex;
use serde_json::{Value as Json, json};
use support::input;

/// The members of the output.
fn select(items: &str, version: SqlVersion, payload: &str) -> Json {
    let statement = Statement::parse(&format!("SELECT {items} FROM 'a'"), version).unwrap();
    let payload = Payload::new(Bytes::copy_from_slice(payload.as_bytes()));
    let variables = Variables::default();
    let input = input("a", &payload, &variables);
    let out = statement.evaluate(&input).unwrap().unwrap();
    serde_json::from_slice(&out).unwrap()
}

fn decimal(json: &Json) -> Decimal {
    Decimal::parse_json(json.as_number().unwrap().as_str()).unwrap()
}

/// A number of at most 34 digits, as text.
fn number() -> impl Strategy<Value = String> {
    let exponent = prop_oneof![
        Just(String::new()),
        (-300i32..300).prop_map(|e| format!("e{e}"))
    ];
    ("-?(0|[1-9][0-9]{0,16})", "(\\.[0-9]{1,17})?", exponent)
        .prop_map(|(whole, fraction, exponent)| format!("{whole}{fraction}{exponent}"))
}

/// Texts that are numbers, nearly numbers, and anything.
fn numeric_text() -> impl Strategy<Value = String> {
    prop_oneof![
        number(),
        "[-+]?[0-9]{0,3}\\.?[0-9]{0,3}([eE][-+]?[0-9]{0,2})?",
        ".{0,5}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_number_keeps_its_value_and_a_decimal_its_digits(text in number()) {
        let out = select("v, [v] AS l", SqlVersion::V2016, &format!("{{\"v\":{text}}}"));
        let expected = Decimal::parse_json(&text).unwrap();
        prop_assert_eq!(decimal(&out["v"]), expected);
        prop_assert_eq!(decimal(&out["l"][0]), expected);
        if !text.contains('e') && text.contains('.') {
            let out = select("v", SqlVersion::V2015, &format!("{{\"v\":{text}}}"));
            let zero = Decimal::parse_json(&text).unwrap().is_zero();
            // Zero has no sign.
            let expected = if zero { text.trim_start_matches('-') } else { &text };
            prop_assert_eq!(out["v"].to_string(), expected);
        }
    }

    #[test]
    fn a_number_is_the_same_through_a_string(text in number()) {
        let out = select(
            "cast(cast(v as String) as Decimal) AS back, abs('' + v) AS magnitude",
            SqlVersion::V2016,
            &format!("{{\"v\":{text}}}"),
        );
        let expected = Decimal::parse_json(&text).unwrap();
        // "1E+3" is how Java writes a Decimal, and not how a String may spell one.
        let written = if expected.is_whole() {
            expected.normalized()
        } else {
            expected
        };
        if written.to_string().contains('+') {
            prop_assert!(out.get("back").is_none());
        } else {
            prop_assert_eq!(decimal(&out["back"]), expected);
            prop_assert_eq!(decimal(&out["magnitude"]), expected.abs());
        }
    }

    #[test]
    fn a_string_is_a_number_as_the_guide_says(text in numeric_text()) {
        let pattern = Regex::new(r"^-?[0-9]+(\.[0-9]+)?([eE]-?[0-9]+)?$").unwrap();
        let payload = json!({ "s": text }).to_string();
        let out = select(
            "abs(s) AS f, s - 0 AS o, s >= s AS c, cast(s as Decimal) AS d",
            SqlVersion::V2016,
            &payload,
        );
        for name in ["f", "o", "c", "d"] {
            prop_assert_eq!(out.get(name).is_some(), pattern.is_match(&text), "{} {:?}", name, text);
        }
    }

    #[test]
    fn a_string_compares_as_its_number(a in number(), b in number()) {
        let payload = format!("{{\"a\":{a},\"b\":{b},\"s\":\"{a}\",\"t\":\"{b}\"}}");
        for operator in ["<", "<=", ">", ">="] {
            let items = format!("a {operator} b AS n, s {operator} b AS l, a {operator} t AS r, s {operator} t AS x");
            let out = select(&items, SqlVersion::V2016, &payload);
            let (a, b) = (Decimal::parse_json(&a).unwrap(), Decimal::parse_json(&b).unwrap());
            let expected = match operator {
                "<" => a < b,
                "<=" => a <= b,
                ">" => a > b,
                _ => a >= b,
            };
            for name in ["n", "l", "r", "x"] {
                prop_assert_eq!(&out[name], &Json::Bool(expected));
            }
        }
        // = converts nothing.
        let out = select("a = s AS mixed, a <> s AS other", SqlVersion::V2016, &payload);
        prop_assert_eq!(out, json!({"mixed": false, "other": true}));
    }

    #[test]
    fn an_int_is_rounded_down(whole in -1_000_000i64..1_000_000, fraction in 0u32..1000) {
        let text = format!("{whole}.{fraction:03}");
        let expected = if whole < 0 && fraction > 0 { whole - 1 } else { whole };
        prop_assume!(whole != 0);
        for v in [text.clone(), format!("\"{text}\"")] {
            let out = select(
                "cast(v as Int) AS c, floor(v) AS f, bitor(v, 0) AS b",
                SqlVersion::V2016,
                &format!("{{\"v\":{v}}}"),
            );
            prop_assert_eq!(out, json!({"c": expected, "f": expected, "b": expected}));
        }
    }

    #[test]
    fn only_the_two_words_are_booleans(text in "(?i)(true|false|t|yes|1|0|.{0,5})") {
        let payload = json!({ "s": text }).to_string();
        let out = select("NOT s AS n, cast(s as Boolean) AS b, s AND s AS a", SqlVersion::V2016, &payload);
        let expected = match text.to_ascii_lowercase().as_str() {
            "true" => json!({"n": false, "b": true, "a": true}),
            "false" => json!({"n": true, "b": false, "a": false}),
            _ => json!({}),
        };
        prop_assert_eq!(out, expected);
    }

    #[test]
    fn joining_is_the_strings_of_both(a in ".{0,8}", b in number()) {
        let payload = format!("{{\"a\":{},\"b\":{b}}}", json!(a));
        let out = select("a + b AS p, concat(a, b) AS c, a + cast(b as String) AS s", SqlVersion::V2016, &payload);
        prop_assert_eq!(&out["p"], &out["c"]);
        prop_assert_eq!(&out["p"], &out["s"]);
    }

    #[test]
    fn what_is_encoded_is_decoded(text in ".{0,40}") {
        prop_assume!(serde_json::from_str::<Json>(&text).is_err());
        let payload = json!({ "s": text }).to_string();
        let out = select("decode(encode(s, 'base64'), 'base64') AS s, numbytes(s) AS n", SqlVersion::V2016, &payload);
        prop_assert_eq!(out, json!({"s": text, "n": text.len()}));
    }

    #[test]
    fn substrings_are_characters_within_bounds(text in ".{0,8}", from in -5i64..12, to in -5i64..12) {
        let payload = json!({ "s": text, "f": from, "t": to }).to_string();
        let out = select("substring(s, f) AS one, substring(s, f, t) AS two, length(s) AS n", SqlVersion::V2016, &payload);
        let characters: Vec<char> = text.chars().collect();
        let at = |n: i64| usize::try_from(n.max(0)).unwrap().min(characters.len());
        let one: String = characters[at(from)..].iter().collect();
        let two: String = characters[at(from)..at(to).max(at(from))].iter().collect();
        prop_assert_eq!(out, json!({"one": one, "two": two, "n": characters.len()}));
    }
}
