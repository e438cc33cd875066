//! Rows that rules write to SQLite files of an operator's own.
#![allow(clippy::unwrap_used)] // a test may panic

use std::path::Path;
use std::time::Duration;

use iotedge_model::{MessageId, TraceId, UnixMillis};
use iotedge_store::{TableError, TableFile, TableRow, TableValue};
use rusqlite::Connection;

fn row(id: u64, columns: &[(&str, &str, TableValue)]) -> TableRow {
    TableRow {
        key: (MessageId(id), TraceId(u128::from(id) << 70)),
        table: "t".into(),
        columns: columns
            .iter()
            .map(|(name, kind, value)| ((*name).to_owned(), (*kind).to_owned(), value.clone()))
            .collect(),
        accepted_at: Some(UnixMillis(id)),
        max_age: None,
        max_bytes: None,
    }
}

fn value(id: u64, value: &str) -> TableRow {
    row(id, &[("v", "TEXT", TableValue::Text(value.into()))])
}

fn texts(path: &Path, sql: &str) -> Vec<String> {
    let connection = Connection::open(path).unwrap();
    let mut statement = connection.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| row.get::<_, String>(0));
    rows.unwrap().map(Result::unwrap).collect()
}

#[test]
fn tables_and_columns_are_made_when_they_are_needed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.db");
    let mut file = TableFile::open(&path).unwrap();
    let first = row(
        1,
        &[
            ("n", "INTEGER", TableValue::Text("42".into())),
            ("odd \"name", "", TableValue::Real(1.5)),
        ],
    );
    let second = row(
        2,
        &[
            ("N", "", TableValue::Integer(7)),
            ("new", "", TableValue::Null),
        ],
    );
    assert_eq!(file.insert("r/0", &[first, second], None), (2, None));
    let found = texts(
        &path,
        "SELECT typeof(n) || n || typeof(\"odd \"\"name\") || typeof(new) || _accepted_at FROM t",
    );
    assert_eq!(found, ["integer42realnull1", "integer7nullnull2"]);
}

#[test]
fn a_batch_that_comes_again_is_written_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.db");
    let rows = [value(1, "a"), value(2, "b"), value(3, "c")];
    let mut file = TableFile::open(&path).unwrap();
    assert_eq!(file.insert("r/0", &rows[..2], None), (2, None));
    drop(file);
    let mut file = TableFile::open(&path).unwrap();
    assert_eq!(file.insert("r/0", &rows, None), (3, None));
    assert_eq!(file.insert("r/0", &rows, None), (3, None));
    assert_eq!(texts(&path, "SELECT v FROM t"), ["a", "b", "c"]);
    // Another outbox's, and numbers that begin again, are rows of their own.
    assert_eq!(file.insert("r/1", &rows[..1], None), (1, None));
    let mut new = value(1, "new");
    new.key.1 = TraceId(5);
    assert_eq!(file.insert("r/0", &[new], None), (1, None));
    assert_eq!(texts(&path, "SELECT v FROM t"), ["a", "b", "c", "a", "new"]);
}

#[test]
fn a_bad_row_stops_its_batch_and_loses_nothing_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.db");
    let mut file = TableFile::open(&path).unwrap();
    for (id, table, column) in [
        (10, "sqlite_master", "v"),
        (20, "", "v"),
        (30, "t", "_accepted_at"),
        (40, "a\nb", "v"),
    ] {
        let mut bad = row(id + 2, &[(column, "", TableValue::Integer(1))]);
        bad.table = table.into();
        let rows = [value(id + 1, "good"), bad, value(id + 3, "later")];
        let (done, error) = file.insert("r/0", &rows, None);
        assert_eq!(done, 1, "{table:?}");
        assert!(matches!(error, Some(TableError::Refused(_))), "{error:?}");
    }
    let twice = row(
        50,
        &[("a", "", TableValue::Null), ("A", "", TableValue::Null)],
    );
    assert_eq!(file.insert("r/0", &[twice], None).0, 0);
    let names: Vec<String> = (0..101).map(|n| format!("c{n}")).collect();
    let wide: Vec<_> = names.iter().map(|n| (&**n, "", TableValue::Null)).collect();
    assert_eq!(file.insert("r/0", &[row(60, &wide)], None).0, 0);
    assert_eq!(texts(&path, "SELECT v FROM t"), ["good"; 4]);
}

#[test]
fn old_rows_go_when_the_clock_can_be_believed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.db");
    let mut file = TableFile::open(&path).unwrap();
    let aged = |id| TableRow {
        max_age: Some(Duration::from_millis(10)),
        ..value(id, &id.to_string())
    };
    let unknown = TableRow {
        accepted_at: None,
        ..aged(4)
    };
    let rows = [aged(1), aged(2), aged(3), unknown];
    file.insert("r/0", &rows, None);
    assert_eq!(texts(&path, "SELECT v FROM t"), ["1", "2", "3", "4"]);
    file.insert("r/0", &[aged(20)], Some(UnixMillis(12)));
    assert_eq!(texts(&path, "SELECT v FROM t"), ["2", "3", "4", "20"]);
}

#[test]
fn a_file_stays_below_its_size() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.db");
    let mut file = TableFile::open(&path).unwrap();
    let long = "x".repeat(1_000);
    for id in 1..=400 {
        let row = TableRow {
            max_bytes: Some(128 << 10),
            ..value(id, &format!("{id} {long}"))
        };
        assert_eq!(file.insert("r/0", &[row], None), (1, None));
    }
    let left = texts(&path, "SELECT v FROM t");
    assert!(left.len() > 50 && left.len() < 130, "{}", left.len());
    assert!(left.last().unwrap().starts_with("400 "));
    drop(file);
    assert!(std::fs::metadata(&path).unwrap().len() <= 160 << 10);
}

#[test]
fn a_link_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret.db");
    drop(TableFile::open(&secret).unwrap());
    let link = dir.path().join("link.db");
    std::os::unix::fs::symlink(&secret, &link).unwrap();
    assert!(TableFile::open(&link).is_err());
}
