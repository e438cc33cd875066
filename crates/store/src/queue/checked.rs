//! What the file says of a parcel, looked at with suspicion: its index, its counts and the word that
//! says which messages are gone have no checksum. They have to fit each other, and where they do not,
//! the body says once more which ids it has. Readers and the writer come to the same answer.

use iotedge_telemetry::event;
use rusqlite::{Connection, OptionalExtension, Row};

use super::parcel::{self, Index};
use crate::TakerId;

type Sql<T> = rusqlite::Result<T>;

/// Columns of a parcel `p`, in the order of [`Parcel::of`].
pub(crate) const COLUMNS: &str = "p.first, p.ids, p.gone, p.live, p.bytes, p.body,
    (SELECT min(n.first) FROM parcels n WHERE n.taker = p.taker AND n.first > p.first)";

/// A parcel of the file.
pub(crate) struct Parcel {
    pub(crate) first: u64,
    pub(crate) body: i64,
    /// `None`: what it has is not known.
    pub(crate) content: Option<Content>,
}

/// What is in it.
#[derive(Debug, PartialEq)]
pub(crate) struct Content {
    pub(crate) index: Index,
    pub(crate) gone: u64,
    pub(crate) bytes: i64,
    /// Not as the file has it.
    pub(crate) mended: bool,
    /// The index as it should be written, where that was changed.
    pub(crate) ids: Option<Vec<u8>>,
}

impl Content {
    /// Messages that wait.
    pub(crate) fn live(&self) -> i64 {
        self.index.len() as i64 - i64::from(self.gone.count_ones())
    }
}

impl Parcel {
    /// Reads the [`COLUMNS`] of a row.
    pub(crate) fn of(connection: &Connection, taker: TakerId, row: &Row<'_>) -> Sql<Self> {
        let number = |at: usize| row.get_ref(at).map(|value| value.as_i64().ok());
        let first = number(0)?.unwrap_or_default().unsigned_abs();
        let ids = row.get_ref(1)?.as_blob().unwrap_or_default();
        let counts = Counts {
            gone: number(2)?.unwrap_or_default() as u64,
            live: number(3)?,
            bytes: number(4)?,
            next: number(6)?.map_or(u64::MAX, i64::unsigned_abs),
        };
        let body = number(5)?.unwrap_or_default();
        let index = parcel::index(first, ids);
        let content = match index {
            Some(index) if counts.fit(&index) => Some(Content {
                bytes: counts.bytes.unwrap_or_default(),
                gone: counts.gone,
                index,
                mended: false,
                ids: None,
            }),
            index => counts.mend(index, origin(connection, taker, first, body)?),
        };
        if content.as_ref().is_some_and(|content| content.mended) {
            tracing::error!(
                event = event::STORE,
                taker = taker.0,
                message = first,
                "what stands beside a parcel of stored messages was not as it was written and is mended"
            );
        }
        Ok(Self {
            first,
            body,
            content,
        })
    }
}

/// The index that the body has.
fn origin(
    connection: &Connection,
    taker: TakerId,
    first: u64,
    number: i64,
) -> Sql<Option<(Index, Vec<u8>)>> {
    let body = body(connection, number)?;
    let origin = parcel::origin(&body);
    let origin = origin.filter(|origin| origin.taker == taker.0 && origin.first == first);
    Ok(origin.and_then(|origin| {
        let index = parcel::index(first, origin.ids)?;
        Some((index, origin.ids.to_vec()))
    }))
}

pub(super) fn body(connection: &Connection, number: i64) -> Sql<Vec<u8>> {
    let found = connection
        .prepare_cached("SELECT body FROM bodies WHERE id = ?1")?
        .query_row([number], |row| row.get(0))
        .optional()?;
    Ok(found.unwrap_or_default())
}

/// What stands beside an index.
#[derive(Debug, Clone, Copy)]
struct Counts {
    gone: u64,
    live: Option<i64>,
    bytes: Option<i64>,
    /// Where the next parcel begins: from there on messages are looked for in that one.
    next: u64,
}

/// A bit for each message of a parcel.
fn all(index: &[(u64, i64)]) -> u64 {
    u64::MAX
        .checked_shr(64u32.saturating_sub(index.len() as u32))
        .unwrap_or(0)
}

/// How many are not gone, and their bytes.
fn left(index: &[(u64, i64)], gone: u64) -> Option<(i64, i64)> {
    let left = index.iter().enumerate();
    let left = left.filter(|(at, _)| gone & (1 << at) == 0);
    left.map(|(_, (_, cost))| *cost)
        .try_fold((0i64, 0i64), |(live, bytes), cost| {
            Some((live + 1, bytes.checked_add(cost)?))
        })
}

impl Counts {
    fn ends_before_next(&self, index: &[(u64, i64)]) -> bool {
        index.last().is_some_and(|(last, _)| *last < self.next)
    }

    fn fit(&self, index: &[(u64, i64)]) -> bool {
        let counted = left(index, self.gone);
        self.ends_before_next(index)
            && self.gone & !all(index) == 0
            && counted
                .is_some_and(|(live, bytes)| (Some(live), Some(bytes)) == (self.live, self.bytes))
    }

    /// Where they do not fit: what they can only have been, by the index that the body has, or else
    /// by the one beside them.
    fn mend(&self, beside: Option<Index>, origin: Option<(Index, Vec<u8>)>) -> Option<Content> {
        let summed = origin.is_some();
        let (index, ids) = match origin {
            Some((index, ids)) => (index, Some(ids)),
            None => (beside?, None),
        };
        if !self.ends_before_next(&index) {
            return None;
        }
        let (gone, bytes) = self.gone_of(&index, summed)?;
        Some(Content {
            index,
            gone,
            bytes,
            mended: true,
            ids,
        })
    }

    fn gone_of(&self, index: &[(u64, i64)], summed: bool) -> Option<(u64, i64)> {
        let gone = self.gone & all(index);
        let (live, bytes) = left(index, gone)?;
        let same_bytes = Some(bytes) == self.bytes;
        // With one that says the same of an index that is right, it is the other that has changed.
        if Some(live) == self.live || (summed && same_bytes) {
            return Some((gone, bytes)).filter(|_| bytes <= super::recount::COST);
        }
        if !summed {
            return None;
        }
        let mut ways = (0..index.len()).map(|at| gone ^ (1 << at)).filter(|gone| {
            left(index, *gone)
                .is_some_and(|(live, bytes)| (Some(live), Some(bytes)) == (self.live, self.bytes))
        });
        let way = ways.next().filter(|_| ways.next().is_none())?;
        Some((way, self.bytes?))
    }
}
