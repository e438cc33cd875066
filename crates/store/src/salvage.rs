//! What happens when a file is damaged.
use std::path::Path;

use rusqlite::Connection;

use crate::queue::rows::Bad;
use crate::queue::{batch, load};
use crate::schema::{QUEUE, STATE};
use crate::{Account, Opened, StoreError, file};

/// What the queue's file says beside [`Opened`].
pub(crate) struct Found {
    pub(crate) removed: Account,
    pub(crate) next_taker: u64,
    pub(crate) next_message_id: u64,
}

pub(crate) fn open_queue(
    path: &Path,
    opened: &mut Opened,
) -> Result<(Connection, Found), StoreError> {
    let connection = file::open(path, &QUEUE)?;
    let found = read_queue(&connection, path, opened)?;
    Ok((connection, found))
}

pub(crate) fn open_state(path: &Path, _opened: &mut Opened) -> Result<Connection, StoreError> {
    file::open(path, &STATE)
}

fn read_queue(
    connection: &Connection,
    path: &Path,
    opened: &mut Opened,
) -> Result<Found, StoreError> {
    let sql = |e: rusqlite::Error| StoreError::sqlite(path, &e);
    let removed = load::load(connection, opened).map_err(|bad| match bad {
        Bad::Sqlite(error) => sql(error),
        Bad::Content(what) => StoreError::Damaged {
            path: path.to_path_buf(),
            reason: format!("{what} is not what was written"),
        },
    })?;
    let next_taker = load::next_taker(connection).map_err(sql)?;
    let next_message_id = load::reserved(connection).map_err(sql)?;
    // Ids up to the next block's end may be given away before the next commit that counts them.
    let reserved = next_message_id.saturating_add(batch::ID_BLOCK);
    batch::write_reserved(connection, reserved).map_err(sql)?;
    Ok(Found {
        removed,
        next_taker,
        next_message_id,
    })
}
