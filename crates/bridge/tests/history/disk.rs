//! The disk: a folder in memory, and what is left of it after a crash.

use std::path::Path;

use tempfile::TempDir;

use super::Rng;

/// Bytes of a sector.
const SECTOR: usize = 512;
const LOG: &str = "queue.db-wal";

pub fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

/// Where SQLite's log ends, and where its last commit begins: frames carry the salts of its header, older
/// ones others; the last of a commit the size of the file (SQLite's file format, 4.1). A commit begins when
/// the one before it is synced.
fn end(log: &[u8]) -> (usize, usize) {
    let Some(header) = log.get(..32) else {
        return (0, 0);
    };
    let size = u32::from_be_bytes(header[8..12].try_into().unwrap()) as usize + 24;
    let (mut at, mut begin, mut next) = (32, 32, 32);
    while let Some(frame) = log.get(at..at + size) {
        if frame[8..16] != header[16..24] {
            break;
        }
        begin = next;
        at += size;
        if frame[4..8] != [0; 4] {
            next = at;
        }
    }
    (at, begin)
}

/// How much of the log is surely on the disk.
pub struct Synced {
    end: usize,
    salts: Vec<u8>,
}

pub fn synced(dir: &Path) -> Synced {
    let log = std::fs::read(dir.join(LOG)).unwrap_or_default();
    Synced {
        end: end(&log).0,
        salts: log.get(16..24).unwrap_or_default().to_vec(),
    }
}

/// What a crash leaves: all files but SQLite's shared memory, the log cut or torn behind what was
/// synced. `forgets`: and before. Says whether anything was torn.
pub fn crash(dir: &Path, synced: &Synced, rng: &mut Rng, forgets: bool) -> (TempDir, bool) {
    let to = folder();
    loop {
        let before = std::fs::read(dir.join("queue.db")).unwrap();
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if path.is_file() && !name.ends_with("-shm") && name != LOG {
                std::fs::copy(&path, to.path().join(name)).unwrap();
            }
        }
        // The log behind the file: between the two no checkpoint may have come.
        let log = std::fs::read(dir.join(LOG)).unwrap_or_default();
        std::fs::write(to.path().join(LOG), &log).unwrap();
        let after = std::fs::read(dir.join("queue.db")).unwrap();
        let copied = std::fs::read(to.path().join("queue.db")).unwrap();
        if before == after && after == copied {
            let torn = tear(&to.path().join(LOG), log, synced, rng, forgets);
            return (to, torn);
        }
    }
}

fn tear(path: &Path, mut log: Vec<u8>, synced: &Synced, rng: &mut Rng, forgets: bool) -> bool {
    let (whole, last) = end(&log);
    if forgets {
        log.truncate(synced.end / 3);
        std::fs::write(path, log).unwrap();
        return true;
    }
    if log.get(16..24) != Some(&synced.salts[..]) || whole <= synced.end {
        return false;
    }
    // Of what came since, all but the last commit is synced as well.
    let sure = synced.end.max(last);
    let loose = whole - sure;
    match rng.below(4) {
        // Everything came down.
        0 => return false,
        1 => log.truncate(sure + rng.below(loose + 1)),
        _ => {
            // Some sectors did not.
            for start in (sure..whole).step_by(SECTOR) {
                if rng.below(3) == 0 {
                    let end = (start + SECTOR).min(whole);
                    log[start..end].fill(0);
                }
            }
        }
    }
    std::fs::write(path, log).unwrap();
    true
}
