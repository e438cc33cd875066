//! `--explain`: every part of a statement with its value.
#![allow(clippy::unwrap_used)]

mod support;

use bytes::Bytes;
use iotedge_sql::{Payload, SqlVersion, Variables, explain};
use support::input;

/// A line for each part: clause, depth, text, value.
fn lines(sql: &str, payload: &str) -> Vec<String> {
    let payload = Payload::new(Bytes::copy_from_slice(payload.as_bytes()));
    let variables = Variables::default();
    let input = input("a/b", &payload, &variables);
    explain(sql, SqlVersion::V2016, &input)
        .unwrap()
        .into_iter()
        .map(|c| format!("{} {} {} => {}", c.clause, c.depth, c.text, c.value))
        .collect()
}

#[test]
fn every_part_has_its_value() {
    assert_eq!(
        lines(
            "SET @c = t * 2 SELECT *, upper(unit) AS u, [1] AS l FROM 'a/+' \
             WHERE @c > 20 AND (room = 'hall' OR NOT isUndefined(x.y))",
            r#"{"t":25.5,"unit":"c"}"#
        ),
        [
            "FROM 0 'a/+' => true",
            "SET 0 @c = t * 2 => 51",
            "SET 1 t * 2 => 51",
            "SET 2 t => 25.5",
            "WHERE 0 @c > 20 AND (room = 'hall' OR NOT isUndefined(x.y)) => undefined",
            "WHERE 1 @c > 20 => true",
            "WHERE 2 @c => 51",
            "WHERE 1 (room = 'hall' OR NOT isUndefined(x.y)) => undefined",
            "WHERE 2 room = 'hall' OR NOT isUndefined(x.y) => undefined",
            "WHERE 3 room = 'hall' => undefined",
            "WHERE 4 room => undefined",
            "WHERE 3 NOT isUndefined(x.y) => false",
            "WHERE 4 isUndefined(x.y) => true",
            "WHERE 5 x.y => undefined",
            r#"SELECT 0 * => {"t":25.5,"unit":"c"}"#,
            r#"SELECT 0 upper(unit) => "C""#,
            r#"SELECT 1 unit => "c""#,
            "SELECT 0 [1] => [1]",
        ]
    );
}

#[test]
fn failures_and_queries_are_one_part_each() {
    assert_eq!(
        lines(
            "SELECT get_secret('s', 'SecretString', 'r') AS s, (SELECT VALUE v FROM e WHERE v > 1) AS q \
             FROM 'other'",
            r#"{"e":[{"v":1},{"v":2}]}"#
        ),
        [
            "FROM 0 'other' => false",
            "SELECT 0 get_secret('s', 'SecretString', 'r') => error: get_secret() asks AWS Secrets \
             Manager, which nothing on this gateway answers",
            "SELECT 0 (SELECT VALUE v FROM e WHERE v > 1) => [2]",
        ]
    );
}

#[test]
fn long_values_are_cut() {
    let payload = format!(r#"{{"s":"{}"}}"#, "é".repeat(1000));
    let found = lines("SELECT s FROM 'a/b'", &payload);
    assert_eq!(found[1], format!("SELECT 0 s => \"{}…", "é".repeat(199)));
}
