//! Gives back the memory that only the start of a program needed.
//!
//! A gateway reads its configuration, opens its databases and makes its keys once. The code and the
//! constants of that stay resident for as long as the process lives, though nobody will need them
//! again: more than a megabyte (`docs/decisions/0009-pages-of-the-start.md`).
//!
//! What always holds:
//!
//! 1. **Nothing is lost.** Only what the kernel can read again from the executable is given back: a
//!    mapping of it that is private, that cannot be written to and of which no page was ever changed.
//! 2. **It is an economy, no need.** Where it cannot be done the program runs on as it was.
//!
//! The one call that takes `unsafe` is at the end of this file, and the reason for it beside it.
#![deny(unsafe_op_in_unsafe_fn)]

use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path;

/// Why nothing was given back.
#[derive(Debug, thiserror::Error)]
pub enum PagesError {
    /// The kernel does not say what is mapped, for instance because `/proc` is not there.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// The file of `/proc`.
        path: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The kernel did not take the advice.
    #[error("madvise of the executable's pages: {0}")]
    Refused(io::Error),
}

/// A mapping of a file, as a paragraph of `/proc/PID/smaps` has it.
#[derive(Debug, PartialEq, Eq)]
struct Mapping<'a> {
    addresses: Range<usize>,
    permissions: &'a str,
    path: &'a str,
    /// Bytes of pages that are resident.
    resident: usize,
    /// Bytes of pages that are not the file's any more.
    changed: usize,
}

/// The first line of a paragraph: `START-END PERMISSIONS OFFSET DEVICE INODE PATH`.
fn head(line: &str) -> Option<Mapping<'_>> {
    let (addresses, rest) = line.split_once(' ')?;
    let (start, end) = addresses.split_once('-')?;
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    let mut fields = rest.splitn(5, ' ');
    let permissions = fields.next()?;
    let path = fields.nth(3).unwrap_or_default().trim_start();
    Some(Mapping {
        addresses: start..end,
        permissions,
        path,
        resident: 0,
        changed: 0,
    })
}

/// A line `NAME: N kB`, in bytes.
fn amount(line: &str, name: &str) -> Option<usize> {
    let number = line.strip_prefix(name)?.strip_prefix(':')?;
    let kilobytes: usize = number.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

fn mappings(smaps: &str) -> Vec<Mapping<'_>> {
    let mut found: Vec<Mapping<'_>> = Vec::new();
    for line in smaps.lines() {
        if let Some(mapping) = head(line) {
            found.push(mapping);
        } else if let Some(mapping) = found.last_mut() {
            if let Some(bytes) = amount(line, "Rss") {
                mapping.resident = bytes;
            } else if let Some(bytes) = amount(line, "Anonymous") {
                mapping.changed = bytes;
            }
        }
    }
    found
}

/// What can be given back: see the first thing that always holds.
fn unchanged<'a>(smaps: &'a str, executable: &str) -> Vec<Mapping<'a>> {
    let mut found = mappings(smaps);
    found.retain(|mapping| {
        mapping.path == executable
            && matches!(mapping.permissions, "r--p" | "r-xp")
            && mapping.changed == 0
            && mapping.resident > 0
    });
    found
}

/// Gives back what is resident of the executable's code and constants; what is still needed comes
/// again with its next use. Returns the bytes.
///
/// # Errors
///
/// [`PagesError`]; the program is as it was, or smaller by a part.
pub fn give_back_code() -> Result<usize, PagesError> {
    const SMAPS: &str = "/proc/self/smaps";
    const EXECUTABLE: &str = "/proc/self/exe";
    let unreadable = |path| move |source| PagesError::Unreadable { path, source };
    let executable = fs::read_link(EXECUTABLE).map_err(unreadable(EXECUTABLE))?;
    let smaps = fs::read(SMAPS).map_err(unreadable(SMAPS))?;
    let smaps = String::from_utf8_lossy(&smaps);
    let mut bytes = 0;
    for mapping in unchanged(&smaps, name(&executable)) {
        give_back(mapping.addresses)?;
        bytes += mapping.resident;
    }
    Ok(bytes)
}

/// As `smaps` would write it. A name that is not UTF-8 is that of no mapping.
fn name(executable: &Path) -> &str {
    executable.to_str().unwrap_or("\u{fffd}")
}

fn give_back(addresses: Range<usize>) -> Result<(), PagesError> {
    use rustix::mm::{Advice, madvise};

    let length = addresses.len();
    // SAFETY: The range is one whole mapping of this process's own executable, as the kernel itself
    // wrote it down. The mapping is private, cannot be written to, and none of its pages differs from
    // the file; the loader has made it and nobody unmaps or remaps it while the program runs. For such
    // a mapping MADV_DONTNEED takes away page table entries and nothing else: the next access, by
    // whatever thread, reads the same bytes from the file. No Rust value changes.
    let done = unsafe {
        madvise(
            std::ptr::with_exposed_provenance_mut(addresses.start),
            length,
            Advice::LinuxDontNeed,
        )
    };
    done.map_err(|error| PagesError::Refused(error.into()))
}

#[cfg(test)]
mod tests;
