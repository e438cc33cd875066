//! Rotation: `data.log` becomes `data.log.1`, the next one `data.log.2`: the higher, the newer.

use std::io;
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::folder::Folder;
use crate::work::FileTask;

const GZIP: &str = ".gz";

/// Sets the file aside when `more` bytes would make it too large, or when it is too old; then
/// removes what is more than may stay.
pub(super) fn rotate(folder: &Folder, name: &str, task: &FileTask, more: u64) -> io::Result<()> {
    let Some(file) = folder.read(name)? else {
        return Ok(());
    };
    let metadata = file.metadata()?;
    if metadata.len() == 0 {
        return Ok(());
    }
    let large = task
        .max_bytes
        .is_some_and(|most| metadata.len().saturating_add(more) > most);
    let born = metadata.created().or_else(|_| metadata.modified());
    let age = born
        .ok()
        .and_then(|born| SystemTime::now().duration_since(born).ok());
    let old = task
        .max_age_s
        .zip(age)
        .is_some_and(|(most, age)| age >= Duration::from_secs(most));
    if !large && !old {
        return Ok(());
    }
    drop(file);
    let mut aside = set_aside(folder, name)?;
    let next = aside.last().map_or(1, |(n, _)| n.saturating_add(1));
    let target = format!("{name}.{next}");
    folder.rename(name, &target)?;
    folder.sync()?;
    aside.push((next, target.clone()));
    if task.gzip {
        compress(folder, &target)?;
    }
    let over = aside.len().saturating_sub(task.keep as usize);
    for (_, old) in aside.iter().take(over) {
        folder.remove(old)?;
    }
    Ok(())
}

/// Rotated files by their numbers, oldest first.
fn set_aside(folder: &Folder, name: &str) -> io::Result<Vec<(u64, String)>> {
    let prefix = format!("{name}.");
    let number = |found: &String| {
        let rest = found.strip_prefix(&prefix)?;
        rest.strip_suffix(GZIP).unwrap_or(rest).parse().ok()
    };
    let names = folder.names(&prefix)?.into_iter();
    let mut found: Vec<(u64, String)> = names.filter_map(|n| Some((number(&n)?, n))).collect();
    found.sort();
    Ok(found)
}

/// A crash on the way leaves the file as it was.
fn compress(folder: &Folder, name: &str) -> io::Result<()> {
    let Some(mut from) = folder.read(name)? else {
        return Ok(());
    };
    folder.replace(&format!("{name}{GZIP}"), |to| {
        let mut encoder = GzEncoder::new(to, Compression::default());
        io::copy(&mut from, &mut encoder)?;
        encoder.finish().map(|_| ())
    })?;
    folder.remove(name)
}
