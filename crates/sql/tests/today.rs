//! Today's reference beyond the 2016 guide, section by section: SET, MQTT 5 properties,
//! `get_or_default()`, functions of the cloud, and the rows of its tables that are easy to get wrong.
#![allow(clippy::unwrap_used)]

use std::net::IpAddr;

use bytes::Bytes;
use iotedge_model::{PayloadFormat, Properties, Topic, TraceId, UnixMillis, UserProperty};
use iotedge_sql::{Host, Input, Payload, SqlVersion, Statement, Template, Variables, Via};
use serde_json::{Value as Json, json};

struct Gateway;

impl Host for Gateway {
    fn random(&self) -> u128 {
        0x0123_4567_89ab_cdef_0123_4567_89ab_cdef
    }
    fn shadow(&self, _: &str, _: Option<&str>) -> Option<Json> {
        None
    }
    fn thing(&self, thing: &str) -> Option<Json> {
        (thing == "lamp").then(|| json!({"thingName": "lamp", "attributes": {"room": "hall"}}))
    }
}

/// A message of MQTT 5, from an address.
struct Message {
    payload: Vec<u8>,
    properties: Option<Properties>,
    source_ip: Option<IpAddr>,
}

impl Message {
    fn of(payload: &str) -> Self {
        Self {
            payload: payload.as_bytes().to_vec(),
            properties: None,
            source_ip: None,
        }
    }

    fn with<T>(&self, f: impl FnOnce(&Input<'_>) -> T) -> T {
        let payload = Payload::new(Bytes::from(self.payload.clone()));
        let variables = Variables::default();
        f(&Input {
            topic: "a/b",
            payload: &payload,
            client_id: "c",
            principal: "p",
            via: Via::Mqtt,
            now: UnixMillis(1_700_000_000_000),
            account_id: "123456789012",
            trace: TraceId(1),
            rule_name: "r",
            properties: self.properties.as_ref(),
            source_ip: self.source_ip,
            variables: &variables,
            host: &Gateway,
        })
    }

    /// The output as text; `no match`, `refused: …` or `failed: …`.
    fn run(&self, sql: &str, version: SqlVersion) -> String {
        let statement = match Statement::parse(sql, version) {
            Ok(statement) => statement,
            Err(error) => return format!("refused: {error}"),
        };
        match self.with(|input| statement.evaluate(input)) {
            Ok(Some(out)) => String::from_utf8_lossy(&out).into_owned(),
            Ok(None) => "no match".into(),
            Err(error) => format!("failed: {error}"),
        }
    }
}

fn run(sql: &str, payload: &str) -> String {
    Message::of(payload).run(sql, SqlVersion::V2016)
}

/// The value of an expression; `undefined` where there is none.
fn value_in(version: SqlVersion, message: &Message, expr: &str) -> String {
    let out = message.run(&format!("SELECT {expr} AS r FROM 'a/b'"), version);
    match out
        .strip_prefix("{\"r\":")
        .and_then(|o| o.strip_suffix('}'))
    {
        Some(value) => value.to_owned(),
        None if out == "{}" => "undefined".into(),
        None => out,
    }
}

fn value(expr: &str, payload: &str) -> String {
    value_in(SqlVersion::V2016, &Message::of(payload), expr)
}

#[track_caller]
fn all(cases: &[(&str, &str, &str, &str)]) {
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|(section, expr, payload, expected)| {
            let found = value(expr, payload);
            (found != *expected).then(|| format!("{section}: {expr} = {found}, not {expected}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn set_clause() {
    // The examples of "SET clause". The first prints 23.89; Int divided by Int is an Int
    // ("/ operator").
    let celsius = "SET @temp_celsius = (temp_fahrenheit - 32) * 5 / 9\n\
        SELECT @temp_celsius AS celsius, humidity FROM 'a/b'";
    assert_eq!(
        run(celsius, r#"{"temp_fahrenheit": 75, "humidity": 60}"#),
        r#"{"celsius":23,"humidity":60}"#
    );
    assert_eq!(
        run(celsius, r#"{"temp_fahrenheit": 75.5, "humidity": 60}"#),
        r#"{"celsius":24.16666666666666666666666666666667,"humidity":60}"#
    );
    assert_eq!(
        run(
            "SET @device_sensor_data = device1.deviceData.sensors\n\
             SELECT @device_sensor_data.temp_fahrenheit AS temp_fahrenheit, \
             @device_sensor_data.humidity as humidity, device1.deviceId as deviceId FROM 'a/b'",
            r#"{"device1": {"deviceId":"weather_sensor", "deviceData": {"sensors": {"temp_fahrenheit": 75, "humidity": 60}, "location": [47.606,-122.332]}}}"#
        ),
        r#"{"temp_fahrenheit":75,"humidity":60,"deviceId":"weather_sensor"}"#
    );
    for (sql, payload, expected) in [
        // "Other SET variable assignments", "WHERE clauses".
        (
            "SET @a = 50, @b = @a + 1 SELECT @b AS b FROM 'a/b' WHERE t > @a",
            r#"{"t":60}"#,
            r#"{"b":51}"#,
        ),
        (
            "SET @a = 50 SELECT * FROM 'a/b' WHERE t > @a",
            r#"{"t":10}"#,
            "no match",
        ),
        // "Nested SELECT queries", on either side of FROM.
        (
            "SET @e = e, @n = 'x' SELECT (SELECT VALUE v FROM @e WHERE n = @n) AS r FROM 'a/b'",
            r#"{"e":[{"n":"x","v":1},{"n":"y","v":2}]}"#,
            r#"{"r":[1]}"#,
        ),
        // "Function parameters", JSON extensions.
        (
            "SET @l = [3, 4] SELECT get(@l, 1) AS g, @l[0] AS i FROM 'a/b'",
            "{}",
            r#"{"g":4,"i":3}"#,
        ),
        (
            "SET @o = {'n': 1} SELECT @o.n FROM 'a/b'",
            "{}",
            r#"{"n":1}"#,
        ),
        // "Variables can accept JSON payloads directly", others "must first be encoded".
        (
            "SET @p = * SELECT @p.a AS a FROM 'a/b'",
            r#"{"a":1}"#,
            r#"{"a":1}"#,
        ),
        (
            "SET @p = encode(*, 'base64') SELECT @p AS raw_data FROM 'a/b'",
            "hi",
            r#"{"raw_data":"aGk="}"#,
        ),
        (
            "SET @p = * SELECT @p AS p FROM 'a/b'",
            "hi",
            "failed: the payload is not JSON, so '*' cannot be the value of @p; \
             encode(*, 'base64') can",
        ),
        // An Undefined variable is Undefined.
        (
            "SET @u = missing SELECT @u AS u, 1 AS k FROM 'a/b'",
            "{}",
            r#"{"k":1}"#,
        ),
        ("set @A = 1 select @A as a from 'a/b'", "{}", r#"{"a":1}"#),
    ] {
        assert_eq!(run(sql, payload), expected, "{sql}");
    }
}

#[test]
fn set_clause_limits() {
    let name = "n".repeat(64);
    let ten: Vec<String> = (0..10).map(|n| format!("@v{n} = {n}")).collect();
    for sql in [
        format!("SET @{name} = 1 SELECT @{name} AS r FROM 'a/b'"),
        format!("SET {} SELECT @v9 AS r FROM 'a/b'", ten.join(", ")),
    ] {
        assert!(run(&sql, "{}").starts_with("{\"r\":"), "{sql}");
    }
    for (sql, column, reason) in [
        (
            format!("SET @{name}n = 1 SELECT 1 AS r FROM 'a/b'"),
            5,
            "at most 64 characters",
        ),
        (
            format!("SET {}, @x = 1 SELECT 1 AS r FROM 'a/b'", ten.join(", ")),
            95,
            "at most 10 variables",
        ),
    ] {
        let error = Statement::parse(&sql, SqlVersion::V2016).unwrap_err();
        assert_eq!(error.column, column, "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
    // "Maximum variable value size of 128 KiB (minified UTF-8 JSON string)": the quotes count.
    for (length, fits) in [(128 * 1024 - 2, true), (128 * 1024 - 1, false)] {
        let out = run(
            "SET @a = s SELECT length(@a) AS r FROM 'a/b'",
            &json!({ "s": "x".repeat(length) }).to_string(),
        );
        assert_eq!(out.starts_with("{\"r\":"), fits, "{length}: {out}");
    }
    let out = run(
        "SET @a = s, @b = s SELECT 1 AS r FROM 'a/b'",
        &json!({ "s": "x".repeat(70_000) }).to_string(),
    );
    assert!(out.contains("grown beyond 131072 bytes"), "{out}");
}

#[test]
fn set_clause_in_templates() {
    let statement = Statement::parse(
        "SET @id = newuuid(), @c = t * 2 SELECT @id AS id FROM 'a/b'",
        SqlVersion::V2016,
    )
    .unwrap();
    let template = Template::parse("${@c}/${@id}/${t}", SqlVersion::V2016).unwrap();
    assert_eq!(template.variables(), ["c", "id"]);
    assert!(statement.sets("c") && !statement.sets("d"));
    Message::of(r#"{"t":4}"#).with(|input| {
        let out = statement.evaluate(input).unwrap().unwrap();
        let out: Json = serde_json::from_slice(&out).unwrap();
        // The template has the value that the statement had.
        let expected = format!("8/{}/4", out["id"].as_str().unwrap());
        assert_eq!(template.evaluate(input).unwrap(), expected);
    });
}

#[test]
fn mqtt_properties() {
    let message = Message {
        payload: b"{}".to_vec(),
        properties: Some(Properties {
            payload_format: Some(PayloadFormat::Utf8),
            content_type: Some("text/plain".into()),
            response_topic: Some(Topic::new("r/t").unwrap()),
            correlation_data: Some(b"cid".to_vec()),
            user: [("some key", "a"), ("other", "b"), ("some key", "c")]
                .map(|(name, value)| UserProperty {
                    name: name.into(),
                    value: value.into(),
                })
                .to_vec(),
            ..Properties::default()
        }),
        source_ip: Some("192.0.2.7".parse().unwrap()),
    };
    let bare = Message::of("{}");
    for (expr, with, without) in [
        (
            "get_mqtt_property('format_indicator')",
            r#""UTF8_DATA""#,
            r#""UNSPECIFIED_BYTES""#,
        ),
        (
            "get_mqtt_property('content_type')",
            r#""text/plain""#,
            "undefined",
        ),
        (
            "get_mqtt_property('response_topic')",
            r#""r/t""#,
            "undefined",
        ),
        (
            "get_mqtt_property('correlation_data')",
            r#""Y2lk""#,
            "undefined",
        ),
        (
            "get_mqtt_property('some_invalid_name')",
            "undefined",
            "undefined",
        ),
        ("get_mqtt_property()", "undefined", "undefined"),
        (
            "get_user_properties('some key')",
            r#"["a","c"]"#,
            "undefined",
        ),
        ("get_user_properties('other')", r#"["b"]"#, "undefined"),
        ("get_user_properties('none')", "undefined", "undefined"),
        (
            "get_user_properties()",
            r#"[{"some key":"a"},{"other":"b"},{"some key":"c"}]"#,
            "undefined",
        ),
        (
            "get(get_user_properties('some key'), 1)",
            r#""c""#,
            "undefined",
        ),
        ("sourceip()", r#""192.0.2.7""#, r#""n/a""#),
        ("sourceip(1)", "undefined", "undefined"),
    ] {
        assert_eq!(value_in(SqlVersion::V2016, &message, expr), with, "{expr}");
        assert_eq!(value_in(SqlVersion::V2016, &bare, expr), without, "{expr}");
    }
    assert_eq!(
        value_in(SqlVersion::V2015, &bare, "sourceip()"),
        "refused: column 8: function sourceip() needs SQL version 2016-03-23, the rule has \
         2015-10-08"
    );
}

#[test]
fn defaults() {
    all(&[
        (
            "get_or_default",
            "get_or_default(a, 'd')",
            r#"{"a":1}"#,
            "1",
        ),
        (
            "get_or_default",
            "get_or_default(a, 'd')",
            r#"{"a":null}"#,
            r#""d""#,
        ),
        ("get_or_default", "get_or_default(a, 'd')", "{}", r#""d""#),
        (
            "get_or_default",
            "get_or_default(a)",
            r#"{"a":null}"#,
            "undefined",
        ),
        (
            "get_or_default",
            "get_or_default(a, b)",
            r#"{"b":[1]}"#,
            "[1]",
        ),
        (
            "get_or_default",
            "get_or_default(a.b.c, 0) + 1",
            r#"{"a":{}}"#,
            "1",
        ),
        (
            "get_or_default",
            "get_or_default(false, true)",
            "{}",
            "false",
        ),
        ("get_or_default", "get_or_default('', 'd')", "{}", r#""""#),
        ("get_or_default", "get_or_default(sqrt(-1), 0)", "{}", "0"),
        (
            "get_or_default: fails",
            "get_or_default(get_secret('s', 'SecretString', 'arn'), 'none')",
            "{}",
            r#""none""#,
        ),
        (
            "get_or_default: fails within",
            "get_or_default(upper(aws_lambda('arn', {'a': a}).x), 'none')",
            "{}",
            r#""none""#,
        ),
    ]);
}

#[test]
fn functions_of_the_cloud_are_parsed_and_fail_with_a_sentence() {
    for (expr, asks) in [
        (
            "aws_lambda(\"arn:aws:lambda:us-east-1:account_id:function:lambda_function\", {\"payload\":attribute1})",
            "aws_lambda() asks AWS Lambda",
        ),
        (
            "aws_lambda(\"arn:aws:lambda:us-east-1:account_id:function:lambda_function\", *)",
            "aws_lambda() asks AWS Lambda",
        ),
        (
            "get_dynamodb(\"InServiceDevices\", \"deviceId\", id, \"arn:aws:iam::12345678910:role/getdynamo\").location",
            "get_dynamodb() asks Amazon DynamoDB",
        ),
        (
            "get_secret('API_KEY', 'SecretString', 'API_KEY_VALUE', 'arn:aws:iam::12345678910:role/getsecret')",
            "get_secret() asks AWS Secrets Manager",
        ),
        (
            "machinelearning_predict('my-model', 'arn:aws:iam::123456789012:role/my-iot-aml-role', *).predictedLabel",
            "machinelearning_predict() asks Amazon Machine Learning",
        ),
        (
            "decode(*, 'proto', 'bucket', 'file.desc', 'person.proto', 'Person')",
            "decode() asks Amazon S3",
        ),
        (
            "get_registry_data('ListThingGroupsForThing', 'lamp', 'arn')",
            "get_registry_data() asks the registry for thing groups",
        ),
    ] {
        let out = value(expr, "{}");
        assert!(out.starts_with(&format!("failed: {asks}")), "{expr}: {out}");
    }
    all(&[
        (
            "get_registry_data",
            "get_registry_data('DescribeThing', 'lamp', 'arn').attributes.room",
            "{}",
            r#""hall""#,
        ),
        (
            "get_registry_data",
            "get_registry_data('DescribeThing', 'other', 'arn')",
            "{}",
            "undefined",
        ),
    ]);
}

#[test]
fn rows_of_the_tables() {
    all(&[
        // "trunc": more than 34 places are 34, and zeros at the end are stripped.
        ("trunc", "trunc(2.00, 5)", "{}", "2"),
        ("trunc", "trunc(2.500, 99)", "{}", "2.5"),
        (
            "trunc",
            "trunc(0.12345678901234567890123456789012345678, 40)",
            "{}",
            "0.1234567890123456789012345678901235",
        ),
        // A Decimal that is no whole number keeps its digits ("Data types").
        ("Data types", "v", r#"{"v":2.50}"#, "2.50"),
        (
            "Data types",
            "o",
            r#"{"o":{"a":2.50,"b":[3.0,1e2]}}"#,
            r#"{"a":2.50,"b":[3,100]}"#,
        ),
        ("Data types", "a + b", r#"{"a":1.50,"b":1.00}"#, "2.50"),
        // "cast": Double has double precision, Decimal has 34 digits.
        (
            "cast",
            "cast(v as Double)",
            r#"{"v":0.1234567890123456789}"#,
            "0.12345678901234568",
        ),
        (
            "cast",
            "cast(v as Decimal)",
            r#"{"v":0.1234567890123456789}"#,
            "0.1234567890123456789",
        ),
        ("cast", "cast(true as Double)", "{}", "1"),
        ("cast", "cast('5E-12' as Decimal)", "{}", "5e-12"),
        // 2016's log(n, m): exact where the base is 2 or 10.
        ("log", "log(1000, 10)", "{}", "3"),
        ("log", "log(8, 2)", "{}", "3"),
        // "decode": as Java reads Base64, without padding too.
        ("decode", "decode('aGk', 'base64')", "{}", r#""hi""#),
        ("decode", "decode('aGk=', 'base64')", "{}", r#""hi""#),
        ("decode", "decode('a*k=', 'base64')", "{}", "null"),
        ("decode", "decode('ODA=', 'base64') > 50", "{}", "true"),
        // '*' as an argument or a member.
        ("get", "get(*, 'a-b')", r#"{"a-b":1}"#, "1"),
        (
            "Literals",
            "{'m': *, 't': topic()}",
            r#"{"a":1}"#,
            r#"{"m":{"a":1},"t":"a/b"}"#,
        ),
    ]);
    let bare = Message::of("{}");
    assert_eq!(value_in(SqlVersion::V2015, &bare, "trunc(2.500, 3)"), "2.5");
}

#[test]
fn where_clause_of_a_payload_that_is_no_object() {
    // "WHERE clause", "Example with non-JSON payload".
    let sql = "SELECT decode(encode(*, 'base64'), 'base64') AS value FROM 'a/b' \
        WHERE decode(encode(*, 'base64'), 'base64') > 50";
    assert_eq!(run(sql, "80"), r#"{"value":80}"#);
    assert_eq!(run(sql, "40"), "no match");
}

#[test]
fn a_path_with_a_star_spreads_its_members() {
    let shadow = r#"{"state":{"reported":{"a":1,"b":2.0}},"version":3}"#;
    for (sql, expected) in [
        ("SELECT state.reported.* FROM 'a/b'", r#"{"a":1,"b":2}"#),
        (
            "SELECT state.reported.*, 9 AS b, version FROM 'a/b'",
            r#"{"a":1,"b":9,"version":3}"#,
        ),
        ("SELECT version.*, version FROM 'a/b'", r#"{"version":3}"#),
        (
            "SET @r = state.reported SELECT @r.* FROM 'a/b'",
            r#"{"a":1,"b":2}"#,
        ),
    ] {
        assert_eq!(run(sql, shadow), expected, "{sql}");
    }
}
