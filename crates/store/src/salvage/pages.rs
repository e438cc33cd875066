//! Pages of a file that SQLite does not read any more, and to which table each belongs (SQLite's file
//! format, 1.3, 1.6 and 1.8).

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::journal::{self, Journal};
use crate::file::suffixed;

/// Pages looked at to find out how large they are.
const SAMPLE: u64 = 4096;
/// Pages of the map of owners that are kept.
const MAPS: usize = 256;
/// Inner pages above a page, at most.
const DEPTH: usize = 24;

/// A file's pages as its last readable commit left them.
pub(super) struct Pages {
    file: File,
    beside: Option<File>,
    pub(super) journal: Journal,
    /// Bytes of a page.
    pub(super) size: usize,
    /// Pages that are there.
    pub(super) count: u32,
    /// Whether pages are missing at the end.
    pub(super) cut: bool,
}

impl Pages {
    /// `None`: there is nothing that could be pages.
    pub(super) fn open(path: &Path, usual: u32) -> Option<Self> {
        let file = File::open(path).ok()?;
        let length = file.metadata().ok()?.len();
        let (named, named_count) = head(&file).unwrap_or_default();
        let found = [named, journal::read(path, 0).unwrap_or_default().page];
        let size = found.into_iter().find(|size| is_size(*size));
        let size = size
            .or_else(|| guess(&file, length))
            .unwrap_or(usual as usize);
        let journal = journal::read(path, size).unwrap_or_default();
        let in_file = u32::try_from(length / size as u64).unwrap_or(u32::MAX);
        let expected = if journal.size > 0 {
            journal.size
        } else if is_size(named) {
            named_count
        } else {
            in_file
        };
        let highest = journal.pages.keys().copied().max().unwrap_or(0);
        let mut count = in_file.max(highest);
        if journal.size > 0 && !journal.damaged {
            count = count.min(journal.size);
        }
        Some(Self {
            file,
            beside: File::open(suffixed(path, "-wal")).ok(),
            journal,
            size,
            count,
            cut: expected > count || length % size as u64 != 0,
        })
    }

    /// One page into `into`; whether it is there.
    pub(super) fn read(&self, number: u32, into: &mut Vec<u8>) -> bool {
        into.resize(self.size, 0);
        if let (Some(at), Some(beside)) = (self.journal.pages.get(&number), &self.beside) {
            return beside.read_exact_at(into, *at).is_ok();
        }
        let Some(before) = number.checked_sub(1) else {
            return false;
        };
        let at = u64::from(before) * self.size as u64;
        number <= self.count && self.file.read_exact_at(into, at).is_ok()
    }
}

fn is_size(size: usize) -> bool {
    size.is_power_of_two() && (512..=65_536).contains(&size)
}

/// Bytes of a page and number of pages, as the file's head has them.
fn head(file: &File) -> Option<(usize, u32)> {
    let mut head = [0; 100];
    file.read_exact_at(&mut head, 0).ok()?;
    let size = match u16::from_be_bytes([head[16], head[17]]) {
        1 => 65_536,
        size => usize::from(size),
    };
    let pages = u32::from_be_bytes([head[28], head[29], head[30], head[31]]);
    (head.starts_with(b"SQLite format 3\0") && is_size(size)).then_some((size, pages))
}

/// Bytes of a page as the file's head has it; 0 where it does not say.
pub(super) fn named_size(path: &Path) -> usize {
    let found = File::open(path).ok().and_then(|file| head(&file));
    found.map_or(0, |(size, _)| size)
}

/// How large pages are, by what most of them look like: in a page of rows the last one ends with the
/// page.
fn guess(file: &File, length: u64) -> Option<usize> {
    let fits = |size: u64| {
        let mut page = vec![0; size as usize];
        let numbers = (0..(length / size).min(SAMPLE)).filter(|number| {
            file.read_exact_at(&mut page, number * size).is_ok()
                && super::cells::ends_with_its_page(&page)
        });
        numbers.count() as u64 * size
    };
    let sizes = (9..=16).map(|bits| 1u64 << bits);
    let best = sizes.max_by_key(|size| fits(*size))?;
    (fits(best) > 0).then_some(best as usize)
}

/// Whose page it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// The table or index whose tree begins at this page.
    Root(u32),
    /// Nobody's: what is in it was removed.
    Free,
    /// It is the rest of a row that begins elsewhere.
    Rest,
    /// A page of this very map.
    Map,
    /// Not known: the map is damaged.
    Unknown,
}

/// The map of owners, which SQLite keeps in files that give pages back.
pub(super) struct Owners<'a> {
    pages: &'a Pages,
    maps: HashMap<u32, Option<Vec<u8>>>,
}

impl<'a> Owners<'a> {
    pub(super) fn new(pages: &'a Pages) -> Self {
        Self {
            pages,
            maps: HashMap::new(),
        }
    }

    /// The page of the map that tells of this one.
    fn map_of(&self, number: u32) -> u32 {
        let each = (self.pages.size / 5) as u32 + 1;
        let map = number.saturating_sub(2) / each * each + 2;
        // SQLite leaves out the page at 1 GB.
        let left_out = (0x4000_0000 / self.pages.size) as u32 + 1;
        if map == left_out { map + 1 } else { map }
    }

    fn entry(&mut self, number: u32) -> Option<(u8, u32)> {
        let map = self.map_of(number);
        if self.maps.len() > MAPS {
            self.maps.clear();
        }
        let pages = self.pages;
        let bytes = self.maps.entry(map).or_insert_with(|| {
            let mut bytes = Vec::new();
            pages.read(map, &mut bytes).then_some(bytes)
        });
        let at = (number.checked_sub(map + 1)? as usize) * 5;
        let entry = bytes.as_deref()?.get(at..at + 5)?;
        let (kind, parent) = entry.split_first()?;
        Some((*kind, u32::from_be_bytes(parent.try_into().ok()?)))
    }

    /// Whose this page is.
    pub(super) fn of(&mut self, number: u32) -> Owner {
        if number == 1 {
            return Owner::Root(1);
        }
        if self.map_of(number) == number {
            return Owner::Map;
        }
        let mut at = number;
        for depth in 0..DEPTH {
            match self.entry(at) {
                Some((1, 0)) => return Owner::Root(at),
                Some((2, 0)) if depth == 0 => return Owner::Free,
                Some((3 | 4, _)) if depth == 0 => return Owner::Rest,
                Some((5, 1)) => return Owner::Root(1),
                Some((5, parent)) if parent > 2 && parent <= self.pages.count => at = parent,
                _ => return Owner::Unknown,
            }
        }
        Owner::Unknown
    }
}
