//! Decisions where the guides contradict themselves or are silent; each by its id.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use iotedge_model::{TraceId, UnixMillis};
use iotedge_sql::decimal::Decimal;
use iotedge_sql::{Host, Input, Payload, SqlVersion, Statement, Template, Variables, Via};
use serde_json::Value as Json;

struct Nothing;

impl Host for Nothing {
    fn random(&self) -> u128 {
        1
    }
    fn shadow(&self, _: &str, _: Option<&str>) -> Option<Json> {
        None
    }
    fn thing(&self, _: &str) -> Option<Json> {
        None
    }
}

fn with_input<T>(topic: &str, via: Via, payload: &[u8], f: impl FnOnce(&Input<'_>) -> T) -> T {
    let payload = Payload::new(Bytes::copy_from_slice(payload));
    f(&Input {
        topic,
        payload: &payload,
        client_id: "c",
        principal: "p",
        via,
        now: UnixMillis(1_700_000_000_000),
        account_id: "123456789012",
        trace: TraceId(1),
        rule_name: "r",
        properties: None,
        source_ip: None,
        variables: &Variables::default(),
        host: &Nothing,
    })
}

/// The output as text; `no match`, `refused` or `failed`.
fn run(sql: &str, version: SqlVersion, topic: &str, via: Via, payload: &[u8]) -> String {
    let Ok(statement) = Statement::parse(sql, version) else {
        return "refused".into();
    };
    match with_input(topic, via, payload, |i| statement.evaluate(i)) {
        Ok(Some(out)) => String::from_utf8_lossy(&out).into_owned(),
        Ok(None) => "no match".into(),
        Err(_) => "failed".into(),
    }
}

/// The value of one expression; `undefined` where there is none.
fn value(expr: &str, payload: &str) -> String {
    let sql = format!("SELECT {expr} AS r FROM 'a/b'");
    let out = run(
        &sql,
        SqlVersion::V2016,
        "a/b",
        Via::Mqtt,
        payload.as_bytes(),
    );
    if out == "{}" {
        return "undefined".into();
    }
    match out
        .strip_prefix("{\"r\":")
        .and_then(|o| o.strip_suffix('}'))
    {
        Some(value) => value.to_owned(),
        None => out,
    }
}

#[test]
fn values() {
    let wrong: Vec<String> = [
        ("amb-sql-001", "round(v)", r#"{"v":-1.5}"#, "-2"),
        ("amb-sql-002", "round(v)", r#"{"v":1.7}"#, "2"),
        ("amb-sql-003", "sqrt(-4)", "{}", "undefined"),
        ("amb-sql-004", "ln(-1)", "{}", "undefined"),
        ("amb-sql-005", "ln(0)", "{}", "undefined"),
        ("amb-sql-006", "log(0)", "{}", "undefined"),
        ("amb-sql-007", "bitnot(13)", "{}", "-14"),
        ("amb-sql-008", "bitnot(v)", r#"{"v":true}"#, "undefined"),
        ("amb-sql-009", "bitand(v, 255)", r#"{"v":-1.5}"#, "254"),
        ("amb-sql-010", "mod(a, b)", r#"{"a":-7,"b":3}"#, "-1"),
        ("amb-sql-011", "a / b", r#"{"a":1,"b":0}"#, "undefined"),
        ("amb-sql-011", "a % b", r#"{"a":1,"b":0}"#, "undefined"),
        ("amb-sql-011", "mod(a, b)", r#"{"a":1,"b":0}"#, "undefined"),
        ("amb-sql-012", "trunc(2.888, '1')", "{}", "undefined"),
        ("amb-sql-013", "trunc(123, -1)", "{}", "123"),
        ("amb-sql-014", "ltrim(v)", r#"{"v":"\n x"}"#, r#""\n x""#),
        ("amb-sql-015", "chr(v)", r#"{"v":200}"#, "undefined"),
        ("amb-sql-016", "concat(v)", r#"{"v":1}"#, "1"),
        (
            "amb-sql-017",
            "concat(a, b)",
            r#"{"a":1,"b":2}"#,
            "undefined",
        ),
        (
            "amb-sql-018",
            "concat(a, b)",
            r#"{"a":"x","b":null}"#,
            "undefined",
        ),
        ("amb-sql-019", "length(v)", r#"{"v":"a😀"}"#, "2"),
        ("amb-sql-020", "indexof('abcd', 'x')", "{}", "-1"),
        ("amb-sql-021", "get('abc', 1)", "{}", r#""b""#),
        (
            "amb-sql-022",
            "get(arr, 1.7)",
            r#"{"arr":["a","b","c"]}"#,
            r#""b""#,
        ),
        ("amb-sql-023", "arr[1]", r#"{"arr":["a","b"]}"#, r#""b""#),
        (
            "amb-sql-024",
            "regexp_substr('abc', 'x')",
            "{}",
            "undefined",
        ),
        (
            "amb-sql-025",
            "cast(v as String)",
            r#"{"v":"hello"}"#,
            r#""hello""#,
        ),
        ("amb-sql-026", "cast(v as Int)", r#"{"v":-2.7}"#, "-3"),
        ("amb-sql-027", "cast(v as Float)", r#"{"v":"2.5"}"#, "2.5"),
        (
            "amb-sql-029",
            "decode(v, 'hex')",
            r#"{"v":"6869"}"#,
            "undefined",
        ),
        (
            "amb-sql-030",
            "decode(v, 'base64')",
            r#"{"v":"//4="}"#,
            "null",
        ),
        (
            "amb-sql-031",
            "encode(*, 'base64')",
            r#"{ "a" : 1 }"#,
            r#""eyAiYSIgOiAxIH0=""#,
        ),
        ("amb-sql-034", "timestamp()", "{}", "1700000000000"),
        ("amb-sql-035", "topic(0)", "{}", "undefined"),
        ("amb-sql-036", "topic(3)", "{}", "undefined"),
        ("amb-sql-037", "topic(-1)", "{}", "undefined"),
        (
            "amb-sql-039",
            "transform('enrichArray', o, arr)",
            r#"{"o":{"a":9},"arr":[{"a":1}]}"#,
            r#"[{"a":9}]"#,
        ),
        ("amb-sql-040", "a OR missing", r#"{"a":true}"#, "true"),
        ("amb-sql-040", "missing OR a", r#"{"a":true}"#, "true"),
        ("amb-sql-040", "missing OR a", r#"{"a":false}"#, "undefined"),
        ("amb-sql-041", "a AND missing", r#"{"a":false}"#, "false"),
        ("amb-sql-041", "missing AND a", r#"{"a":false}"#, "false"),
        ("amb-sql-042", "a <> b", r#"{"a":[1,2],"b":[2,1]}"#, "true"),
        (
            "amb-sql-043",
            "a <> b",
            r#"{"a":{"x":1,"y":2},"b":{"x":1,"y":3}}"#,
            "true",
        ),
        ("amb-sql-044", "a + b", r#"{"a":"x","b":null}"#, "undefined"),
        ("amb-sql-045", "a / b", r#"{"a":-7,"b":2}"#, "-3"),
        ("amb-sql-046", "a / b", r#"{"a":10.0,"b":4}"#, "2"),
        (
            "amb-sql-064",
            "attributes.data1",
            r#"{"attributes":{"data1":1}}"#,
            "1",
        ),
        (
            "amb-sql-065",
            "get((SELECT v FROM e WHERE n = 't'), 1).v",
            r#"{"e":[{"n":"t","v":1}]}"#,
            "undefined",
        ),
        (
            "amb-sql-066",
            "(SELECT VALUE v FROM e WHERE v > lim)",
            r#"{"e":[{"v":1},{"v":9}],"lim":5}"#,
            "[9]",
        ),
        (
            "amb-sql-067",
            "(SELECT v FROM zz)",
            r#"{"e":1}"#,
            "undefined",
        ),
        (
            "amb-sql-067",
            "(SELECT v FROM e)",
            r#"{"e":1}"#,
            "undefined",
        ),
        (
            "amb-sql-068",
            "(SELECT VALUE v FROM e)",
            r#"{"e":[{"v":1},{"w":2}]}"#,
            "[1]",
        ),
        ("amb-sql-085", "a > b", r#"{"a":"abc","b":1}"#, "undefined"),
        (
            "amb-sql-086",
            "[a, missing, b]",
            r#"{"a":1,"b":2}"#,
            "[1,2]",
        ),
        ("amb-sql-088", "log(8, 2)", "{}", "3"),
        ("amb-sql-089", "round(2.346, 2)", "{}", "2.35"),
    ]
    .into_iter()
    .filter_map(|(id, expr, payload, expected)| {
        let actual = value(expr, payload);
        (actual != expected).then(|| format!("{id}: {expr} = {actual}, not {expected}"))
    })
    .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn statements() {
    const P: &str = r#"{"color":"red","temperature":60,"s":"true"}"#;
    let wrong: Vec<String> = [
        (
            "amb-sql-038",
            "SELECT topic(2) AS r FROM '$aws/things/+/x'",
            "$aws/things/t/x",
            "{}",
            r#"{"r":"things"}"#,
        ),
        (
            "amb-sql-047",
            "SELECT VALUE missing FROM 'a/b'",
            "a/b",
            P,
            "",
        ),
        ("amb-sql-048", "SELECT missing FROM 'a/b'", "a/b", P, "{}"),
        (
            "amb-sql-050",
            "SELECT * FROM 'a/b'",
            "a/b",
            r#"{"v":10.0}"#,
            r#"{"v":10.0}"#,
        ),
        (
            "amb-sql-051",
            "SELECT VALUE color, temperature FROM 'a/b'",
            "a/b",
            P,
            "refused",
        ),
        (
            "amb-sql-053",
            "SELECT color AS bar.baz FROM 'a/b'",
            "a/b",
            P,
            r#"{"bar":{"baz":"red"}}"#,
        ),
        (
            "amb-sql-054",
            "SELECT *, 9 AS o.y FROM 'a/b'",
            "a/b",
            r#"{"o":{"x":1}}"#,
            r#"{"o":{"x":1,"y":9}}"#,
        ),
        (
            "amb-sql-055",
            "SELECT a.b FROM 'a/b'",
            "a/b",
            r#"{"a":{"b":5}}"#,
            r#"{"b":5}"#,
        ),
        (
            "amb-sql-056",
            "SELECT upper(color) FROM 'a/b'",
            "a/b",
            P,
            r#"{"upper(color)":"RED"}"#,
        ),
        (
            "amb-sql-057",
            "SELECT * AS m FROM 'a/b'",
            "a/b",
            r#"{"a":1}"#,
            r#"{"m":{"a":1}}"#,
        ),
        (
            "amb-sql-058",
            "SELECT * FROM 'a/b'",
            "a/b",
            "[1, 2]",
            "[1, 2]",
        ),
        (
            "amb-sql-059",
            "SELECT temp FROM topic/#",
            "topic/x",
            "{}",
            "refused",
        ),
        (
            "amb-sql-060",
            "SELECT * FROM mqtt('com.example/sensors/+')",
            "com.example/sensors/x",
            "{}",
            "{}",
        ),
        (
            "amb-sql-061",
            "SELECT * FROM '#'",
            "$aws/x",
            "{}",
            "no match",
        ),
        (
            "amb-sql-061",
            "SELECT * FROM '+/x'",
            "$aws/x",
            "{}",
            "no match",
        ),
        (
            "amb-sql-062",
            "SELECT color AS c FROM 'a/b' WHERE s",
            "a/b",
            P,
            r#"{"c":"red"}"#,
        ),
        (
            "amb-sql-063",
            "SELECT CASE WHEN a > 1 THEN 'x' ELSE 'y' END AS r FROM 'a/b'",
            "a/b",
            P,
            "refused",
        ),
        (
            "amb-sql-069",
            "SELECT *, 1 AS k FROM 'a/b'",
            "a/b",
            "no json",
            "failed",
        ),
        (
            "amb-sql-070",
            "SELECT * FROM 'a/b' WHERE d = 't'",
            "a/b",
            "no json",
            "no match",
        ),
        (
            "amb-sql-087",
            "SELECT nosuchfunction(v) AS r FROM 'a/b'",
            "a/b",
            P,
            "refused",
        ),
        (
            "amb-sql-090",
            "SELECT rpadd('a', 1) AS r FROM 'a/b'",
            "a/b",
            P,
            "refused",
        ),
    ]
    .into_iter()
    .filter_map(|(id, sql, topic, payload, expected)| {
        let actual = run(sql, SqlVersion::V2016, topic, Via::Mqtt, payload.as_bytes());
        (actual != expected).then(|| format!("{id}: {sql} gives {actual}, not {expected}"))
    })
    .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_did_not_come_over_mqtt() {
    let run = |sql| run(sql, SqlVersion::V2016, "a/b", Via::Other, b"{}");
    // amb-sql-032, amb-sql-033
    assert_eq!(run("SELECT clientid() AS r FROM 'a/b'"), r#"{"r":"n/a"}"#);
    assert_eq!(
        run("SELECT accountid() AS r FROM 'a/b'"),
        r#"{"r":"123456789012"}"#
    );
}

#[test]
fn amb_sql_049_precision_has_a_limit() {
    let out = value("v * 10.5", r#"{"v":9999999999999999999999999999999999}"#);
    let expected = Decimal::parse_json("104999999999999999999999999999999999.99").unwrap();
    assert_eq!(Decimal::parse_json(&out).unwrap(), expected, "{out}");
}

#[test]
fn the_first_version_refuses_what_came_later() {
    let v2015 = |sql: &str| {
        run(
            sql,
            SqlVersion::V2015,
            "a/b",
            Via::Mqtt,
            br#"{"arr":[1,2],"v":1}"#,
        )
    };
    for (id, expr) in [
        ("amb-sql-028", "cast(v as Boolean)"),
        ("amb-sql-074", "indexof('abc', 'b')"),
        ("amb-sql-075", "length('abc')"),
        ("amb-sql-076", "numbytes('abc')"),
        ("amb-sql-077", "isUndefined(missing)"),
        ("amb-sql-078", "encode('a', 'base64')"),
        ("amb-sql-079", "decode('YQ==', 'base64')"),
        ("amb-sql-080", "transform('enrichArray', o, arr)"),
        ("amb-sql-081", "parse_time('yyyy', 0)"),
        ("amb-sql-082", "time_to_epoch('1970', 'yyyy')"),
        ("nested queries", "(SELECT v FROM arr)"),
        ("literal arrays", "[1, 2]"),
        ("literal objects", "{'a': 1}"),
    ] {
        assert_eq!(
            v2015(&format!("SELECT {expr} AS r FROM 'a/b'")),
            "refused",
            "{id}"
        );
    }
    // amb-sql-052
    assert_eq!(v2015("SELECT VALUE arr FROM 'a/b'"), "failed");
}

#[test]
fn versions_and_their_names() {
    // amb-sql-083, amb-sql-084
    assert_eq!(
        SqlVersion::parse("2016-03-23-beta").unwrap(),
        SqlVersion::V2016
    );
    assert_eq!(SqlVersion::default(), SqlVersion::V2015);
    assert!(SqlVersion::parse("2016").is_err());
}

#[test]
fn templates() {
    let text = |template: &str| {
        let template = Template::parse(template, SqlVersion::V2016).unwrap();
        with_input("a/b", Via::Mqtt, br#"{"deviceid":"iot123"}"#, |i| {
            template.evaluate(i)
        })
        .unwrap()
    };
    // amb-sql-071, amb-sql-072, amb-sql-073
    assert_eq!(text("x/${d}"), "x/");
    assert_eq!(
        text("$aws/things/x/shadow/update"),
        "$aws/things/x/shadow/update"
    );
    assert_eq!(text("$$aws/${deviceid}$"), "$aws/iot123$");
    assert_eq!(text("${get({'a':'}'}, 'a')}/${deviceid}"), "}/iot123");
}

#[test]
fn dates_are_written_as_joda_time_does() {
    // 2021-03-04 05:06:07.089 UTC, a Thursday
    let written = |pattern: &str, zone: &str| {
        value(
            &format!("parse_time(\"{pattern}\", 1614834367089, '{zone}')"),
            "{}",
        )
    };
    for (pattern, zone, expected) in [
        (
            "yyyy-MM-dd'T'HH:mm:ss.SSSZ",
            "UTC",
            "2021-03-04T05:06:07.089+0000",
        ),
        ("yy M d H m s S SSSSS", "UTC", "21 3 4 5 6 7 0 08900"),
        (
            "EEE E EEEE e D w xxxx",
            "UTC",
            "Thu Thu Thursday 4 63 9 2021",
        ),
        ("h K k a", "Asia/Tokyo", "2 2 14 PM"),
        ("G C Y ''", "UTC", "AD 20 2021 '"),
        (
            "HH:mm z ZZ ZZZ",
            "America/New_York",
            "00:06 EST -05:00 America/New_York",
        ),
        ("HH:mm z Z", "+05:30", "10:36 +05:30 +0530"),
    ] {
        assert_eq!(
            written(pattern, zone),
            format!("\"{expected}\""),
            "{pattern}"
        );
    }
    assert_eq!(written("yyyy", "Nowhere/Land"), "undefined");
    assert_eq!(written("yyyy b", "UTC"), "undefined");
    assert_eq!(written("HH zzzz", "UTC"), "refused");
}
