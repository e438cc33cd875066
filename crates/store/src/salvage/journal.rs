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
///
/// Behind a place that is not as it was written there may be commits that were on the disk, or what a
/// crash left: the torn end of its last commit, and behind that the end of a longer one of a crash
/// before, which nothing has overwritten. A commit begins when the one before it is on the disk, and its
/// first frame goes on with that one's sums. So two in a row prove what was there; one alone proves
/// nothing.
struct Walk {
    salts: Option<(u32, u32)>,
    big: bool,
    /// Sums of the frame before, if it is of this journal's generation.
    before: Option<(u32, u32)>,
    /// Frames behind the last commit.
    open: Vec<(u32, u64)>,
    /// What was committed since the last frame that is not as it was written, without proof, and the
    /// size then.
    doubtful: Vec<(u32, u64)>,
    doubtful_size: u32,
    /// And with it.
    later: Vec<(u32, u64)>,
    later_size: u32,
    broken: bool,
    proved: bool,
    /// The frame before was the last of a commit behind a broken place.
    commit_before: bool,
}

impl Walk {
    /// What comes is not what was written behind the one before.
    fn part(&mut self) {
        if self.broken && !self.proved {
            self.open.clear();
        }
        self.broken = true;
        self.proved = false;
        self.doubtful.clear();
    }

    fn take(&mut self, frame: &Frame<'_>, at: u64, journal: &mut Journal) {
        let follows_commit = std::mem::take(&mut self.commit_before);
        if self.salts != Some(frame.salts()) {
            // Of a generation before this one, or not as it was written.
            self.before = None;
            self.part();
            return;
        }
        let whole = (self.before).is_some_and(|before| frame.follows(self.big, before));
        self.before = Some(frame.sums());
        if !whole {
            self.part();
        } else if follows_commit && !self.proved {
            self.proved = true;
            journal.damaged = true;
            self.later.append(&mut self.doubtful);
            self.later_size = self.doubtful_size;
        }
        let (page, size) = (word(frame.0, 0), word(frame.0, 4));
        if whole {
            self.open.push((page, at + FRAME as u64));
        }
        if size == 0 {
            return;
        }
        self.commit_before = self.broken;
        if !self.broken {
            journal.pages.extend(self.open.drain(..));
            journal.size = size;
        } else if self.proved {
            self.later.append(&mut self.open);
            self.later_size = size;
        } else {
            self.doubtful.append(&mut self.open);
            self.doubtful_size = size;
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
        doubtful: Vec::new(),
        doubtful_size: 0,
        later: Vec::new(),
        later_size: 0,
        broken: !whole,
        proved: false,
        commit_before: false,
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

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 512;
    const SALTS: (u32, u32) = (7, 8);

    fn put(bytes: &mut [u8], at: usize, word: u32) {
        bytes[at..at + 4].copy_from_slice(&word.to_be_bytes());
    }

    /// Header and frames: the number of each page, the size of the file with the last of a commit.
    fn journal(commits: &[&[u32]], content: u8) -> Vec<Vec<u8>> {
        let mut head = vec![0; HEADER];
        for (at, word) in [(0, 0x377f_0682), (4, 3_007_000), (8, 512), (16, 7), (20, 8)] {
            put(&mut head, at, word);
        }
        let mut sums = sum(false, (0, 0), &head[..24]);
        put(&mut head, 24, sums.0);
        put(&mut head, 28, sums.1);
        let mut all = vec![head];
        for commit in commits {
            for (n, page) in commit.iter().enumerate() {
                let mut frame = vec![content; FRAME + PAGE];
                let last = n + 1 == commit.len();
                let words = [*page, if last { 9 } else { 0 }, SALTS.0, SALTS.1];
                (0..4).for_each(|at| put(&mut frame, at * 4, words[at]));
                sums = sum(false, sum(false, sums, &frame[..8]), &frame[FRAME..]);
                put(&mut frame, 16, sums.0);
                put(&mut frame, 20, sums.1);
                all.push(frame);
            }
        }
        all
    }

    fn read_back(frames: &[Vec<u8>]) -> (bool, Vec<u32>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("queue.db");
        std::fs::write(crate::file::suffixed(&path, "-wal"), frames.concat()).unwrap();
        let journal = read(&path, 0).unwrap();
        let mut pages: Vec<u32> = journal.pages.into_keys().collect();
        pages.sort_unstable();
        (journal.damaged, pages)
    }

    #[test]
    fn a_commit_that_another_goes_on_from_was_on_the_disk() {
        let whole = journal(&[&[1, 2], &[3, 4], &[5, 6], &[7]], 1);
        assert_eq!(read_back(&whole), (false, vec![1, 2, 3, 4, 5, 6, 7]));
        let mut changed = whole.clone();
        changed[4][FRAME + 5] ^= 1;
        assert_eq!(read_back(&changed), (true, vec![1, 2, 3, 5, 6, 7]));
        // Two places.
        changed[1][FRAME + 5] ^= 1;
        assert_eq!(read_back(&changed), (true, vec![2, 3, 5, 6, 7]));
        // The last one may have been torn.
        let mut torn = whole;
        torn[7][FRAME + 5] ^= 1;
        assert_eq!(read_back(&torn), (false, vec![1, 2, 3, 4, 5, 6]));
    }

    #[test]
    fn what_crashes_have_left_behind_each_other_is_no_damage() {
        let first = journal(&[&[1, 2], &[3, 4, 5, 6, 7, 8, 9, 10]], 1);
        // Of the longer one nothing was synced, nor of the next start's, which is over it.
        for torn in 3..=6 {
            let mut left = first.clone();
            left[3][FRAME + 5] ^= 1;
            let mut next = journal(&[&[1, 2], &[3, 4, 5, 6]], 2);
            next[1..3].clone_from_slice(&first[1..3]);
            let relinked = relink(next);
            for at in (3..=6).filter(|at| *at != torn) {
                left[at] = relinked[at].clone();
            }
            let (damaged, pages) = read_back(&left);
            assert!(!damaged, "{torn}");
            assert_eq!(pages, [1, 2]);
        }
    }

    /// The sums anew, behind frames that were put in.
    fn relink(mut frames: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let mut sums = (word(&frames[0], 24), word(&frames[0], 28));
        for frame in frames.iter_mut().skip(1) {
            sums = sum(false, sum(false, sums, &frame[..8]), &frame[FRAME..]);
            put(frame, 16, sums.0);
            put(frame, 20, sums.1);
        }
        frames
    }
}
