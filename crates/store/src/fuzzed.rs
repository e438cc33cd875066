//! What reads bytes of the card with suspicion: for fuzz targets and for the tests that go through
//! their corpus.

use std::path::Path;

use rusqlite::Connection;

use crate::queue::{load, parcel, read};
use crate::schema::QUEUE;
use crate::{Opened, TakerRow, file, salvage};

/// A parcel: its index behind a byte that says how long it is, and its body, once as it is and once
/// under a right checksum.
///
/// # Panics
/// When what was read does not hold together: that is what is looked for.
pub fn parcel(bytes: &[u8]) {
    let Some((length, rest)) = bytes.split_first() else {
        return;
    };
    let Some((ids, body)) = rest.split_at_checked(usize::from(*length)) else {
        return;
    };
    let first = u64::from(*length) << 32;
    let index = parcel::index(first, ids);
    if let Some(index) = &index {
        assert!((1..=parcel::MOST).contains(&index.len()));
        assert!(index.is_sorted_by(|a, b| a.0 < b.0), "{index:?}");
    }
    let index = index.unwrap_or_else(|| (1..=64).map(|id| (id, 1)).collect());
    let mut summed = body.to_vec();
    summed.extend(parcel::checksum(body).to_le_bytes());
    for body in [body, &summed] {
        if let Some(origin) = parcel::origin(body) {
            assert!(parcel::is_whole(body));
            let _ = parcel::index(origin.first, origin.ids);
        }
        check_rows(&index, body);
    }
}

/// Rows have the index's ids, and are the same when they were packed again.
fn check_rows(index: &[(u64, i64)], body: &[u8]) {
    let Some(rows) = parcel::rows(index, body) else {
        return;
    };
    assert!(parcel::is_whole(body) && rows.len() == index.len());
    let mut packer = parcel::Packer::default();
    for (row, (id, _)) in rows.iter().zip(index) {
        assert_eq!(row.message.id.0, *id);
        let taker = TakerRow {
            taker: crate::TakerId(1),
            qos: row.qos,
            retain: row.retain,
            identifiers: row.identifiers.clone(),
        };
        let cost = i64::try_from(row.message.cost()).unwrap_or(i64::MAX);
        let packed = packer.push(&mut Default::default(), &row.message, &taker, cost);
        assert!(packed.is_ok(), "{packed:?}");
    }
    let (ids, body) = packer.finish((1, "route", "a/b"));
    let (ids, body) = (ids.to_vec(), body.to_vec());
    let first = index.first().map_or(0, |(id, _)| *id);
    let again = parcel::index(first, &ids).and_then(|index| parcel::rows(&index, &body));
    assert!(again.is_some_and(|again| {
        let same = |(a, b): (&crate::QueuedRow, &crate::QueuedRow)| {
            a.message == b.message && (a.qos, a.retain) == (b.qos, b.retain)
        };
        again.len() == rows.len() && again.iter().zip(&rows).all(same)
    }));
}

/// A damaged queue file, whose length is in the first two bytes, and its journal behind it: what is
/// brought over is whole. `folder` is one of its own.
///
/// # Panics
/// When it is not.
pub fn damaged_queue(bytes: &[u8], folder: &Path) {
    let Some((length, rest)) = bytes.split_first_chunk::<2>() else {
        return;
    };
    let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
    let Some((main, journal)) = rest.split_at_checked(length) else {
        return;
    };
    let path = folder.join(QUEUE.file);
    let beside = file::suffixed(&path, "-wal");
    let written = std::fs::write(&path, main).and_then(|()| std::fs::write(beside, journal));
    assert!(written.is_ok(), "{written:?}");
    let outcome = bring_over(&path);
    assert!(outcome.is_ok(), "{outcome:?}");
}

fn bring_over(path: &Path) -> rusqlite::Result<()> {
    let fresh = Connection::open_in_memory()?;
    file::migrate(&fresh, &QUEUE, 0)?;
    salvage::bring_over(path, &fresh)?;
    let mut opened = Opened::default();
    load::load(&fresh, &mut opened)?;
    for taker in &opened.takers {
        assert!(taker.account.balances(), "{:?}", taker.account);
        let found = read::read(&fresh, taker.id, None, 1000, 1 << 20, &Default::default())?;
        let ids = found.rows.iter().map(|row| row.message.id);
        assert!(ids.is_sorted_by(|a, b| a < b), "one comes twice");
    }
    Ok(())
}
