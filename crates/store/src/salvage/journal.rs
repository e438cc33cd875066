//! SQLite's journal beside a file (SQLite's file format, 4), read without SQLite: it takes the journal
//! to end at the first frame that is not as it was written, silently, and what was committed behind
//! that is gone.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// Bytes before the first frame, and of a frame before its page.
const HEADER: usize = 32;
const FRAME: usize = 24;

/// What a journal says of its file.
#[derive(Default)]
pub(super) struct Journal {
    /// Where in the journal the newest committed bytes of a page lie.
    pub(super) pages: HashMap<u32, u64>,
    /// Pages of the file after the last commit; 0 where the journal has none.
    pub(super) size: u32,
    /// Bytes of a page; 0 where nothing tells.
    pub(super) page: usize,
    /// A commit that was on the disk before the next one began is not as it was written.
    pub(super) damaged: bool,
}

/// Why a file must be salvaged: its journal says other than it was told.
pub(super) fn damage(path: &Path) -> Option<&'static str> {
    let journal = read(path, super::pages::named_size(path)).unwrap_or_default();
    let reason = "its journal is not as it was written: commits in it would be lost";
    journal.damaged.then_some(reason)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..at + 4).and_then(|w| w.try_into().ok());
    u32::from_be_bytes(word.unwrap_or_default())
}

/// The running sum of the format: over words in the order of the machine that wrote them.
fn sum(big: bool, (mut a, mut b): (u32, u32), bytes: &[u8]) -> (u32, u32) {
    for pair in bytes.chunks_exact(8) {
        let (x, y) = pair.split_at(4);
        let read = |w: &[u8]| {
            let w: [u8; 4] = w.try_into().unwrap_or_default();
            if big {
                u32::from_be_bytes(w)
            } else {
                u32::from_le_bytes(w)
            }
        };
        a = a.wrapping_add(read(x)).wrapping_add(b);
        b = b.wrapping_add(read(y)).wrapping_add(a);
    }
    (a, b)
}

/// One frame, its page behind its 24 bytes.
struct Frame<'a>(&'a [u8]);

impl Frame<'_> {
    fn salts(&self) -> (u32, u32) {
        (word(self.0, 8), word(self.0, 12))
    }

    fn sums(&self) -> (u32, u32) {
        (word(self.0, 16), word(self.0, 20))
    }

    /// Whether it is what was written behind a frame with those sums.
    fn follows(&self, big: bool, before: (u32, u32)) -> bool {
        let (Some(head), Some(page)) = (self.0.get(..8), self.0.get(FRAME..)) else {
            return false;
        };
        sum(big, sum(big, before, head), page) == self.sums()
    }
}

/// Frames as they are gone through.
struct Walk {
    salts: Option<(u32, u32)>,
    big: bool,
    /// Sums of the frame before, if it is of this journal's generation.
    before: Option<(u32, u32)>,
    /// Frames behind the last commit.
    open: Vec<(u32, u64)>,
    /// What was committed behind a frame that is not as it was written, and the size then.
    later: Vec<(u32, u64)>,
    later_size: u32,
    broken: bool,
    commit_after: bool,
}

impl Walk {
    fn take(&mut self, frame: &Frame<'_>, at: u64, journal: &mut Journal) {
        if self.salts != Some(frame.salts()) {
            // Of a generation before this one, or not as it was written.
            self.before = None;
            self.broken = true;
            return;
        }
        // The next commit is begun when the last one is on the disk.
        journal.damaged |= self.commit_after;
        let whole = (self.before).is_some_and(|before| frame.follows(self.big, before));
        self.before = Some(frame.sums());
        self.broken |= !whole;
        let (page, size) = (word(frame.0, 0), word(frame.0, 4));
        if whole {
            self.open.push((page, at + FRAME as u64));
        }
        if size == 0 {
            return;
        }
        if self.broken {
            self.commit_after = true;
            self.later.append(&mut self.open);
            self.later_size = size;
        } else {
            journal.pages.extend(self.open.drain(..));
            journal.size = size;
        }
    }
}

/// Reads the journal of the file at `path`; `page` is what else is known of the bytes of a page, or 0.
pub(super) fn read(path: &Path, page: usize) -> std::io::Result<Journal> {
    let path = crate::file::suffixed(path, "-wal");
    let Ok(file) = File::open(&path) else {
        return Ok(Journal::default());
    };
    let mut head = [0; HEADER];
    if BufReader::new(&file).read_exact(&mut head).is_err() {
        return Ok(Journal::default());
    }
    let big = word(&head, 0) == 0x377f_0683;
    let marked = big || word(&head, 0) == 0x377f_0682;
    let sums = (word(&head, 24), word(&head, 28));
    let whole = marked && sum(big, (0, 0), head.get(..24).unwrap_or_default()) == sums;
    let page = match whole {
        true => word(&head, 8) as usize,
        false => page,
    };
    let mut journal = Journal {
        page,
        ..Journal::default()
    };
    if !(512..=65_536).contains(&page) {
        return Ok(journal);
    }
    let mut walk = Walk {
        salts: Some((word(&head, 16), word(&head, 20))),
        big,
        before: whole.then_some(sums),
        open: Vec::new(),
        later: Vec::new(),
        later_size: 0,
        broken: !whole,
        commit_after: false,
    };
    if !whole {
        walk.big = cfg!(target_endian = "big");
        walk.salts = generation(&path, page, walk.big)?;
    }
    frames(&path, page, |frame, at| {
        walk.take(&frame, at, &mut journal);
        true
    })?;
    if journal.damaged {
        journal.pages.extend(walk.later);
        journal.size = walk.later_size;
    }
    Ok(journal)
}

/// The salts of the newest frames, where the header does not tell them: of the first frame that
/// follows the one before it.
fn generation(path: &Path, page: usize, big: bool) -> std::io::Result<Option<(u32, u32)>> {
    let mut before: Option<((u32, u32), (u32, u32))> = None;
    let mut found = None;
    frames(path, page, |frame, _| {
        if let Some((salts, sums)) = before {
            if salts == frame.salts() && frame.follows(big, sums) {
                found = Some(salts);
            }
        }
        before = Some((frame.salts(), frame.sums()));
        found.is_none()
    })?;
    Ok(found)
}

fn frames(
    path: &Path,
    page: usize,
    mut take: impl FnMut(Frame<'_>, u64) -> bool,
) -> std::io::Result<()> {
    let mut file = BufReader::with_capacity(64 << 10, File::open(path)?);
    let mut head = [0; HEADER];
    file.read_exact(&mut head)?;
    let mut bytes = vec![0; FRAME + page];
    let mut at = HEADER as u64;
    while file.read_exact(&mut bytes).is_ok() {
        if !take(Frame(&bytes), at) {
            break;
        }
        at += bytes.len() as u64;
    }
    Ok(())
}
