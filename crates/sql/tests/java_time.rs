//! `time_to_epoch()` reads as `java.time.format.DateTimeFormatter` does (today's guide,
//! "time_to_epoch(String, String)"). What is expected here is what OpenJDK 17 said, in English, with
//! midnight where there is no time and UTC where there is no zone.
#![allow(clippy::unwrap_used)]

mod support;

use bytes::Bytes;
use iotedge_sql::{Payload, SqlVersion, Statement, Variables};
use serde_json::{Value as Json, json};
use support::input;

/// The moment, or `undefined`.
fn read(text: &str, pattern: &str) -> String {
    let sql = "SELECT time_to_epoch(t, p) AS r FROM 'a'";
    let statement = Statement::parse(sql, SqlVersion::V2016).unwrap();
    let payload = json!({ "t": text, "p": pattern }).to_string();
    let payload = Payload::new(Bytes::from(payload));
    let variables = Variables::default();
    let input = input("a", &payload, &variables);
    let out = statement.evaluate(&input).unwrap().unwrap();
    let out: Json = serde_json::from_slice(&out).unwrap();
    out.get("r")
        .map_or_else(|| "undefined".to_owned(), ToString::to_string)
}

/// Text, pattern, milliseconds since 1970.
const JAVA: &[(&str, &str, &str)] = &[
    (
        "2020-04-03 09:45:18 UTC+01:00",
        "yyyy-MM-dd HH:mm:ss VV",
        "1585903518000",
    ),
    ("18 December 2015", "dd MMMM yyyy", "1450396800000"),
    (
        "2007-12-03 10:15:30.592 America/Los_Angeles",
        "yyyy-MM-dd HH:mm:ss.SSS z",
        "1196705730592",
    ),
    (
        "2007-07-03 10:15:30 PDT",
        "yyyy-MM-dd HH:mm:ss z",
        "1183482930000",
    ),
    (
        "2007-07-03 10:15:30 PST",
        "yyyy-MM-dd HH:mm:ss z",
        "1183482930000",
    ),
    (
        "2007-07-03 10:15:30 CEST",
        "yyyy-MM-dd HH:mm:ss z",
        "1183450530000",
    ),
    (
        "2007-07-03 10:15:30 CET",
        "yyyy-MM-dd HH:mm:ss z",
        "1183450530000",
    ),
    (
        "2007-07-03 10:15:30 UTC",
        "yyyy-MM-dd HH:mm:ss z",
        "1183457730000",
    ),
    (
        "2007-07-03 10:15:30 GMT",
        "yyyy-MM-dd HH:mm:ss z",
        "1183457730000",
    ),
    (
        "2007-07-03 10:15:30 CST",
        "yyyy-MM-dd HH:mm:ss z",
        "1183475730000",
    ),
    (
        "2007-07-03 10:15:30 EST",
        "yyyy-MM-dd HH:mm:ss z",
        "1183472130000",
    ),
    (
        "2007-07-03 10:15:30 MST",
        "yyyy-MM-dd HH:mm:ss z",
        "1183479330000",
    ),
    (
        "2007-07-03 10:15:30 JST",
        "yyyy-MM-dd HH:mm:ss z",
        "1183425330000",
    ),
    (
        "2007-07-03 10:15:30 Z",
        "yyyy-MM-dd HH:mm:ss z",
        "1183457730000",
    ),
    (
        "2007-07-03 10:15:30 +01:00",
        "yyyy-MM-dd HH:mm:ss z",
        "1183454130000",
    ),
    (
        "2007-07-03 10:15:30 UTC+1",
        "yyyy-MM-dd HH:mm:ss z",
        "undefined",
    ),
    (
        "2007-07-03 10:15:30 Pacific Standard Time",
        "yyyy-MM-dd HH:mm:ss zzzz",
        "1183482930000",
    ),
    (
        "2007-07-03 10:15:30 Pacific Daylight Time",
        "yyyy-MM-dd HH:mm:ss zzzz",
        "1183482930000",
    ),
    ("2021-02-29", "yyyy-MM-dd", "1614470400000"),
    ("2021-04-31", "yyyy-MM-dd", "1619740800000"),
    ("2021-04-32", "yyyy-MM-dd", "undefined"),
    ("2021-2-3", "yyyy-MM-dd", "undefined"),
    ("2021-2-3", "yyyy-M-d", "1612310400000"),
    ("20210203", "yyyyMMdd", "1612310400000"),
    ("20210203040506", "yyyyMMddHHmmss", "1612325106000"),
    ("20210203040506789", "yyyyMMddHHmmssSSS", "1612325106789"),
    ("21-02-03", "yy-MM-dd", "1612310400000"),
    ("99-02-03", "yy-MM-dd", "4073760000000"),
    (
        "2021-02-03T24:00:00",
        "yyyy-MM-dd'T'HH:mm:ss",
        "1612396800000",
    ),
    ("2021-02-03T24:00:01", "yyyy-MM-dd'T'HH:mm:ss", "undefined"),
    ("2021-02-03 3:07 PM", "yyyy-MM-dd h:mm a", "1612364820000"),
    ("2021-02-03 3:07 pm", "yyyy-MM-dd h:mm a", "undefined"),
    ("2021-02-03 15:07 PM", "yyyy-MM-dd HH:mm a", "1612364820000"),
    ("2021-02-03 03:07 PM", "yyyy-MM-dd HH:mm a", "undefined"),
    ("2021-034", "yyyy-DDD", "1612310400000"),
    ("2021-34", "yyyy-D", "1612310400000"),
    ("Wed 2021-02-03", "EEE yyyy-MM-dd", "1612310400000"),
    ("Thu 2021-02-03", "EEE yyyy-MM-dd", "undefined"),
    ("Wednesday 2021-02-03", "EEEE yyyy-MM-dd", "1612310400000"),
    (
        "2021-02-03T04:05:06Z",
        "yyyy-MM-dd'T'HH:mm:ssX",
        "1612325106000",
    ),
    (
        "2021-02-03T04:05:06+01",
        "yyyy-MM-dd'T'HH:mm:ssX",
        "1612321506000",
    ),
    (
        "2021-02-03T04:05:06+0130",
        "yyyy-MM-dd'T'HH:mm:ssX",
        "1612319706000",
    ),
    (
        "2021-02-03T04:05:06+0130",
        "yyyy-MM-dd'T'HH:mm:ssXX",
        "1612319706000",
    ),
    (
        "2021-02-03T04:05:06+01:30",
        "yyyy-MM-dd'T'HH:mm:ssXXX",
        "1612319706000",
    ),
    (
        "2021-02-03T04:05:06Z",
        "yyyy-MM-dd'T'HH:mm:ssXXX",
        "1612325106000",
    ),
    (
        "2021-02-03T04:05:06Z",
        "yyyy-MM-dd'T'HH:mm:ssxxx",
        "undefined",
    ),
    (
        "2021-02-03T04:05:06+00:00",
        "yyyy-MM-dd'T'HH:mm:ssxxx",
        "1612325106000",
    ),
    (
        "2021-02-03T04:05:06+0000",
        "yyyy-MM-dd'T'HH:mm:ssZ",
        "1612325106000",
    ),
    (
        "2021-02-03T04:05:06-0730",
        "yyyy-MM-dd'T'HH:mm:ssZ",
        "1612352106000",
    ),
    (
        "2021-02-03T04:05:06GMT+01:00",
        "yyyy-MM-dd'T'HH:mm:ssZZZZ",
        "1612321506000",
    ),
    (
        "2021-02-03T04:05:06+01:00",
        "yyyy-MM-dd'T'HH:mm:ssZZZZZ",
        "1612321506000",
    ),
    (
        "2021-02-03T04:05:06 GMT+1",
        "yyyy-MM-dd'T'HH:mm:ss O",
        "1612321506000",
    ),
    (
        "2021-02-03T04:05:06 GMT+01:00",
        "yyyy-MM-dd'T'HH:mm:ss OOOO",
        "1612321506000",
    ),
    ("2021-02-03 04:05", "yyyy-MM-dd HH:mm[:ss]", "1612325100000"),
    (
        "2021-02-03 04:05:06",
        "yyyy-MM-dd HH:mm[:ss]",
        "1612325106000",
    ),
    (
        "2021-02-03 04:05:06.5",
        "yyyy-MM-dd HH:mm:ss.S",
        "1612325106500",
    ),
    (
        "2021-02-03 04:05:06.123456",
        "yyyy-MM-dd HH:mm:ss.SSSSSS",
        "1612325106123",
    ),
    (
        "2021-02-03 04:05:06.12",
        "yyyy-MM-dd HH:mm:ss.SSS",
        "undefined",
    ),
    ("0044-03-15 BC", "yyyy-MM-dd G", "-63517824000000"),
    ("-0043-03-15", "uuuu-MM-dd", "-63517824000000"),
    ("Jan 5 2022 3:07 PM", "MMM d yyyy h:mm a", "1641395220000"),
    ("jan 5 2022", "MMM d yyyy", "undefined"),
    ("Sept 5 2022", "MMM d yyyy", "undefined"),
    ("Sep 5 2022", "MMM d yyyy", "1662336000000"),
    ("January 5 2022", "MMM d yyyy", "undefined"),
    ("2022-05-06 86399999", "yyyy-MM-dd A", "1651881599999"),
    ("12022-05-06", "yyyy-MM-dd", "undefined"),
    ("+12022-05-06", "yyyy-MM-dd", "317221315200000"),
    ("2021-02-03 12:00 AM", "yyyy-MM-dd hh:mm a", "1612310400000"),
    ("2021-02-03 0:00 AM", "yyyy-MM-dd K:mm a", "1612310400000"),
    ("2021-02-03 24:00", "yyyy-MM-dd kk:mm", "1612310400000"),
    (
        "2021-02-03 04:05 Europe/Berlin",
        "yyyy-MM-dd HH:mm VV",
        "1612321500000",
    ),
    (
        "2021-03-28 02:30 Europe/Berlin",
        "yyyy-MM-dd HH:mm VV",
        "1616895000000",
    ),
    (
        "2021-10-31 02:30 Europe/Berlin",
        "yyyy-MM-dd HH:mm VV",
        "1635640200000",
    ),
    (
        "2021-02-03 04:05 europe/berlin",
        "yyyy-MM-dd HH:mm VV",
        "undefined",
    ),
    (
        "2021-02-03 04:05 +05:30",
        "yyyy-MM-dd HH:mm VV",
        "1612305300000",
    ),
    (
        "2021-02-03 04:05 GMT0",
        "yyyy-MM-dd HH:mm VV",
        "1612325100000",
    ),
    (
        "2021-02-03 04:05 EST5EDT",
        "yyyy-MM-dd HH:mm VV",
        "1612343100000",
    ),
    ("2021-02-03 04:05 Z", "yyyy-MM-dd HH:mm VV", "1612325100000"),
    (
        "2021-02-03 04:05 UT",
        "yyyy-MM-dd HH:mm VV",
        "1612325100000",
    ),
    ("2021-02-03 04:05 GMT-3", "yyyy-MM-dd HH:mm VV", "undefined"),
    (
        "Feb 3, 2021, 4:05:06 AM",
        "MMM d, yyyy, h:mm:ss a",
        "1612325106000",
    ),
    ("2021-02-03   x", "yyyy-MM-dd   'x'", "1612310400000"),
    (
        "3 Feb 2021 04:05 o'clock",
        "d MMM yyyy HH:mm 'o''clock'",
        "1612325100000",
    ),
    ("02/03/21", "MM/dd/yy", "1612310400000"),
    (
        "2021-02-03T04:05:06.789+01:00",
        "yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
        "1612321506789",
    ),
    ("20210203T040506Z", "yyyyMMdd'T'HHmmssX", "1612325106000"),
    ("2021-02-03 04:60", "yyyy-MM-dd HH:mm", "undefined"),
    ("F 2021-02-03", "MMMMM yyyy-MM-dd", "1612310400000"),
    ("1612324800", "s", "undefined"),
    ("2021-2-03", "y-L-dd", "1612310400000"),
    ("2021-February-03", "y-LLLL-dd", "1612310400000"),
];

#[test]
fn texts_are_read_as_java_reads_them() {
    let wrong: Vec<String> = JAVA
        .iter()
        .filter_map(|(text, pattern, expected)| {
            let found = read(text, pattern);
            (found != *expected).then(|| format!("{text} as {pattern}: {found}, not {expected}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_is_missing_is_the_first_of_its_kind() {
    for (text, pattern, expected) in [
        ("05:00", "HH:mm", "18000000"),
        ("03-04", "MM-dd", "952128000000"),
        ("1 BC", "y G", "-62167219200000"),
        ("2022", "yyyy", "1640995200000"),
        ("2022-05", "yyyy-MM", "1651363200000"),
        ("2021-02-03 3:07", "yyyy-MM-dd h:mm", "1612321620000"),
    ] {
        assert_eq!(read(text, pattern), expected, "{text} as {pattern}");
    }
}

#[test]
fn patterns_that_java_does_not_know_are_undefined_and_those_left_out_here_are_refused() {
    for pattern in [
        "yyyy-MM-dd b",
        "VVV",
        "ddd",
        "'open",
        "a]",
        "{yyyy}",
        "SSSSSSSSSS",
        "",
    ] {
        assert_eq!(read("2021-02-03", pattern), "undefined", "{pattern}");
    }
    for pattern in ["YYYY-'W'ww", "ppd", "Q yyyy", "v"] {
        let sql = format!("SELECT time_to_epoch(t, \"{pattern}\") AS r FROM 'a'");
        let error = Statement::parse(&sql, SqlVersion::V2016).unwrap_err();
        assert_eq!(error.column, 25, "{error}");
        assert!(error.to_string().contains("not supported yet"), "{error}");
    }
}
