//! How much of the file a list reads.

use rusqlite::StatementStatus;

use super::*;
use crate::file;
use crate::schema::STATE;

/// SQLite's own count of the steps of a list that was asked for since the last count.
fn steps(connection: &Connection) -> i32 {
    [LIST_FROM, LIST_AFTER]
        .iter()
        .map(|sql| {
            let statement = connection.prepare_cached(sql).unwrap();
            statement.reset_status(StatementStatus::VmStep)
        })
        .sum()
}

#[test]
fn a_later_page_reads_no_more_than_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let connection = file::open(&dir.path().join("state.db"), &STATE).unwrap();
    connection
        .execute_batch(
            "WITH RECURSIVE n(i) AS (SELECT 10000 UNION ALL SELECT i + 1 FROM n WHERE i < 15000)
             INSERT INTO documents(collection, key, version, body, updated_at)
             SELECT 'shadows', 'p/' || i, 1, x'7b7d', 0 FROM n",
        )
        .unwrap();
    let page = |after: Option<&str>| -> Vec<String> {
        let from = lower_bound("p/", after);
        let found = list(&connection, "shadows", "p/", from, 10).unwrap();
        found.into_keys().collect()
    };
    assert_eq!(page(None)[0], "p/10000");
    let first = steps(&connection);
    assert_eq!(page(Some("p/14000"))[0], "p/14001");
    let later = steps(&connection);
    assert!(first > 0 && later <= 2 * first, "{first}, then {later}");
    assert_eq!(page(Some("a"))[0], "p/10000", "before the prefix");
    assert!(page(Some("q")).is_empty(), "behind the prefix");
}
