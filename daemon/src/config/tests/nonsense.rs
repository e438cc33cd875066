//! Whatever a file holds, it is read or refused with a reason.

use proptest::prelude::*;

use super::*;

/// Lines that make sense often enough to get deep, and nonsense.
fn line() -> impl Strategy<Value = String> {
    let key = prop_oneof![
        Just("data_dir"),
        Just("protocol"),
        Just("address"),
        Just("auth"),
        Just("policy"),
        Just("listener"),
        Just("max_bytes"),
        Just("sync"),
        Just("name"),
        Just("url"),
        Just("filter"),
        Just("qos"),
        Just("columns"),
        Just("format"),
        Just("topic"),
        Just("certificate"),
        Just("é"),
        Just("\"\""),
    ];
    let value = prop_oneof![
        Just("\"mqtt\"".to_owned()),
        Just("\"127.0.0.1:1\"".to_owned()),
        Just("\"anonymous\"".to_owned()),
        Just("[]".to_owned()),
        Just("[1, {a = 2}]".to_owned()),
        Just("{}".to_owned()),
        Just("nan".to_owned()),
        Just("1979-05-27".to_owned()),
        Just("99999999999999999999999".to_owned()),
        Just("0xffff_ffff_ffff_ffff".to_owned()),
        Just("\"mqtt://[::\"".to_owned()),
        Just("true".to_owned()),
        any::<i64>().prop_map(|n| n.to_string()),
        "[ -~é€\\n]{0,12}".prop_map(|s| format!("{s:?}")),
    ];
    let table = prop_oneof![
        Just("[[listener]]"),
        Just("[broker]"),
        Just("[store]"),
        Just("[admin]"),
        Just("[[upstream]]"),
        Just("[[upstream.route]]"),
        Just("[[serial]]"),
        Just("[gateway]"),
        Just("[listener.x]"),
        Just("[a.b]"),
        Just("[log]"),
    ];
    prop_oneof![
        (key, value).prop_map(|(k, v)| format!("{k} = {v}")),
        table.prop_map(str::to_owned),
        any::<String>(),
    ]
}

proptest! {
    #[test]
    fn no_file_makes_it_panic(lines in prop::collection::vec(line(), 0..24)) {
        let _ = Folder::new(&lines.join("\n")).load();
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let folder = Folder::new("");
        fs::write(folder.0.path().join("iotedge.toml"), bytes).unwrap();
        let _ = folder.load();
    }

    #[test]
    fn a_wrong_file_always_says_why(lines in prop::collection::vec(line(), 0..24)) {
        if let Err(errors) = Folder::new(&lines.join("\n")).load() {
            prop_assert!(!errors.problems().is_empty());
            for problem in errors.problems() {
                prop_assert!(!problem.reason.is_empty());
            }
        }
    }
}
