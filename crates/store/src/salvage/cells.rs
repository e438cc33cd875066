//! Rows in the bytes of a page (SQLite's file format, 1.6 and 2.1). Everything is read with suspicion.

use rusqlite::types::Value;

use super::pages::Pages;

/// What a page says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Rows by number.
    Rows,
    /// Numbers above pages of rows: no rows.
    Numbers,
    /// Rows by key, or entries of an index; with pages below it or without.
    Keys { inner: bool },
}

/// The kind of a page that begins at `begin` of these bytes, and where its cells are.
fn pointers(page: &[u8], begin: usize) -> Option<(Kind, Vec<usize>)> {
    let head = page.get(begin..begin + 12)?;
    let (kind, length) = match head[0] {
        0x0D => (Kind::Rows, 8),
        0x05 => (Kind::Numbers, 12),
        0x0A => (Kind::Keys { inner: false }, 8),
        0x02 => (Kind::Keys { inner: true }, 12),
        _ => return None,
    };
    let count = usize::from(u16::from_be_bytes([head[3], head[4]]));
    let first = begin + length;
    let all = page.get(first..first + 2 * count)?;
    let pairs = all.chunks_exact(2);
    let at = pairs.map(|pair| usize::from(u16::from_be_bytes([pair[0], pair[1]])));
    Some((kind, at.collect()))
}

/// Whether this is a page of rows that is filled from its end, as SQLite does.
pub(super) fn ends_with_its_page(page: &[u8]) -> bool {
    let Some((kind @ (Kind::Rows | Kind::Keys { inner: false }), cells)) = pointers(page, 0) else {
        return false;
    };
    let Some(last) = cells.iter().copied().max() else {
        return false;
    };
    let mut at = last;
    let length = number(page, &mut at).and_then(|length| usize::try_from(length).ok());
    if kind == Kind::Rows {
        number(page, &mut at);
    }
    let Some(length) = length else { return false };
    let local = local(page.len(), length, kind == Kind::Rows);
    let rest = if local < length { 4 } else { 0 };
    at + local + rest == page.len()
}

/// SQLite's own number: seven bits a byte, the highest first, at most nine bytes.
fn number(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0u64;
    for place in 0..9 {
        let byte = *bytes.get(*at)?;
        *at += 1;
        if place == 8 {
            return Some(value << 8 | u64::from(byte));
        }
        value = value << 7 | u64::from(byte & 0x7F);
        if byte < 0x80 {
            break;
        }
    }
    Some(value)
}

/// Bytes of a row that lie in its page.
fn local(page: usize, length: usize, rows: bool) -> usize {
    let most = if rows {
        page - 35
    } else {
        (page - 12) * 64 / 255 - 23
    };
    if length <= most {
        return length;
    }
    let least = (page - 12) * 32 / 255 - 23;
    let fitting = least + (length - least) % (page - 4);
    if fitting <= most { fitting } else { least }
}

/// A row: its number where it has one, and its columns.
pub(super) struct Row {
    pub(super) number: Option<i64>,
    pub(super) columns: Vec<Value>,
}

/// The rows of a page, `None` for each that can not be read; `None` for what is no such page.
pub(super) fn rows(pages: &Pages, number: u32, page: &[u8]) -> Option<(Kind, Vec<Option<Row>>)> {
    let begin = if number == 1 { 100 } else { 0 };
    let (kind, cells) = pointers(page, begin)?;
    if kind == Kind::Numbers {
        return Some((kind, Vec::new()));
    }
    let mut rest = Vec::new();
    let read = |at: &usize| row(pages, page, kind, *at, &mut rest);
    let rows = cells.iter().map(read);
    Some((kind, Vec::from_iter(rows)))
}

fn row(pages: &Pages, page: &[u8], kind: Kind, at: usize, rest: &mut Vec<u8>) -> Option<Row> {
    let mut at = match kind {
        Kind::Keys { inner: true } => at + 4,
        _ => at,
    };
    let length = usize::try_from(number(page, &mut at)?).ok()?;
    let row_number = match kind {
        Kind::Rows => Some(number(page, &mut at)? as i64),
        _ => None,
    };
    // More than there is was never written.
    if length / pages.size > pages.count as usize {
        return None;
    }
    let here = local(page.len(), length, kind == Kind::Rows);
    let mut bytes = page.get(at..at + here)?.to_vec();
    if here < length {
        let next = page.get(at + here..at + here + 4)?.try_into().ok()?;
        gather(pages, u32::from_be_bytes(next), length, &mut bytes, rest)?;
    }
    Some(Row {
        number: row_number,
        columns: columns(&bytes)?,
    })
}

/// Collects the rest of a row out of its chain of pages, which ends where the row does.
fn gather(
    pages: &Pages,
    mut next: u32,
    length: usize,
    bytes: &mut Vec<u8>,
    rest: &mut Vec<u8>,
) -> Option<()> {
    bytes.reserve(length - bytes.len());
    while bytes.len() < length {
        if next < 3 || !pages.read(next, rest) {
            return None;
        }
        let (head, content) = rest.split_first_chunk::<4>()?;
        next = u32::from_be_bytes(*head);
        let wanted = (length - bytes.len()).min(content.len());
        bytes.extend_from_slice(content.get(..wanted)?);
    }
    (next == 0).then_some(())
}

fn columns(record: &[u8]) -> Option<Vec<Value>> {
    let mut at = 0;
    let head = usize::try_from(number(record, &mut at)?).ok()?;
    let mut content = record.get(head..)?;
    let mut columns = Vec::new();
    while at < head {
        let serial = number(record, &mut at)?;
        let length = match serial {
            0 | 8 | 9 => 0,
            1..=4 => serial as usize,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return None,
            _ => usize::try_from((serial - 12) / 2).ok()?,
        };
        let (bytes, left) = content.split_at_checked(length)?;
        content = left;
        columns.push(value(serial, bytes)?);
    }
    (at == head && content.is_empty()).then_some(columns)
}

fn value(serial: u64, bytes: &[u8]) -> Option<Value> {
    let integer = || {
        let negative = bytes.first().is_some_and(|first| *first >= 0x80);
        let begin = if negative { -1i64 } else { 0 };
        let all = bytes.iter();
        all.fold(begin, |value, byte| value << 8 | i64::from(*byte))
    };
    Some(match serial {
        0 => Value::Null,
        1..=6 => Value::Integer(integer()),
        7 => Value::Real(f64::from_bits(integer() as u64)),
        8 => Value::Integer(0),
        9 => Value::Integer(1),
        text if text % 2 == 1 => Value::Text(std::str::from_utf8(bytes).ok()?.to_owned()),
        _ => Value::Blob(bytes.to_vec()),
    })
}
