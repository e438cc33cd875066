//! The names around one file while it is salvaged, and the steps between them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::carve::Tables;
use crate::file::suffixed;
use crate::{Salvage, StoreError};

/// What SQLite keeps beside a file.
const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];

/// One file's place in the data directory.
pub(super) struct Place<'a> {
    pub(super) path: &'a Path,
    /// Whether its directory was in use before this start.
    pub(super) used: bool,
    step: &'a dyn Fn(&'static str),
}

/// [`Salvage`] as it lies in the directory.
#[derive(Serialize, Deserialize)]
struct Report {
    set_aside: PathBuf,
    reason: String,
    recovered: BTreeMap<String, u64>,
    incomplete: Vec<String>,
    lost_rows: u64,
}

fn io<T>(path: &Path, outcome: std::io::Result<T>) -> Result<T, StoreError> {
    outcome.map_err(|e| StoreError::io(path, &e))
}

/// Removes a file that may be there.
fn remove(path: &Path) -> Result<(), StoreError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(StoreError::io(path, &error))
        }
        _ => Ok(()),
    }
}

/// Renames a file that may be there.
fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    match std::fs::rename(from, to) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(StoreError::io(from, &error))
        }
        _ => Ok(()),
    }
}

impl<'a> Place<'a> {
    pub(super) fn new(path: &'a Path, used: bool, step: &'a dyn Fn(&'static str)) -> Self {
        Self { path, used, step }
    }

    pub(super) fn step(&self, name: &'static str) {
        (self.step)(name);
    }

    /// Where the new file is built.
    pub(super) fn building(&self) -> PathBuf {
        suffixed(self.path, ".salvage")
    }

    fn report(&self) -> PathBuf {
        suffixed(self.path, ".salvaged.json")
    }

    fn unfinished_report(&self) -> PathBuf {
        suffixed(self.path, ".salvaged.json.part")
    }

    /// A name for the damaged file that none has had.
    pub(super) fn free_aside(&self) -> PathBuf {
        let millis = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_millis();
        let mut aside = suffixed(self.path, &format!(".damaged-{millis}"));
        // A clock that starts in 1970 at each boot comes by the same number again.
        let mut again = 0u32;
        while aside.exists() {
            again += 1;
            aside = suffixed(self.path, &format!(".damaged-{millis}-{again}"));
        }
        aside
    }

    /// Goes on where an earlier start was interrupted: gives what it did not come to report.
    pub(super) fn resume(
        &self,
        file: &'static str,
        tables: Tables,
    ) -> Result<Option<Salvage>, StoreError> {
        if !self.report().exists() {
            self.clear()?;
            return Ok(None);
        }
        let report = self.read_report(file, tables)?;
        if self.building().exists() {
            self.put(&report.set_aside)?;
        }
        Ok(Some(report))
    }

    /// Removes a new file that was not completed.
    pub(super) fn clear(&self) -> Result<(), StoreError> {
        remove(&self.report())?;
        remove(&self.unfinished_report())?;
        let building = self.building();
        remove(&building)?;
        BESIDE
            .iter()
            .try_for_each(|suffix| remove(&suffixed(&building, suffix)))
    }

    /// The new file is whole: says so, durably.
    pub(super) fn complete(&self, salvage: &Salvage) -> Result<(), StoreError> {
        let building = self.building();
        io(&building, File::open(&building).and_then(|f| f.sync_all()))?;
        let report = Report {
            set_aside: salvage.set_aside.clone(),
            reason: salvage.reason.clone(),
            recovered: salvage
                .recovered
                .iter()
                .map(|(table, rows)| ((*table).to_owned(), *rows))
                .collect(),
            incomplete: salvage.incomplete.iter().map(|t| (*t).to_owned()).collect(),
            lost_rows: salvage.lost_rows,
        };
        let part = self.unfinished_report();
        let text = serde_json::to_vec_pretty(&report).map_err(|e| StoreError::io(&part, &e))?;
        let mut file = io(&part, File::create(&part))?;
        io(&part, file.write_all(&text).and_then(|()| file.sync_all()))?;
        self.step("a report that does not count yet");
        rename(&part, &self.report())?;
        self.sync()?;
        self.step("a report");
        Ok(())
    }

    /// Renames the damaged file aside and the new one into its place. May be begun again.
    pub(super) fn put(&self, aside: &Path) -> Result<(), StoreError> {
        for suffix in BESIDE.into_iter().chain([""]) {
            rename(&suffixed(self.path, suffix), &suffixed(aside, suffix))?;
            self.step("a file set aside");
        }
        remove(&suffixed(self.path, ".suspect"))?;
        self.sync()?;
        let building = self.building();
        io(&building, std::fs::rename(&building, self.path))?;
        self.sync()?;
        self.step("the new file in its place");
        Ok(())
    }

    /// All is told: the report stays beside the damaged file.
    pub(super) fn file_report(&self, salvage: &Salvage) -> Result<(), StoreError> {
        rename(&self.report(), &suffixed(&salvage.set_aside, ".json"))
    }

    fn read_report(&self, file: &'static str, tables: Tables) -> Result<Salvage, StoreError> {
        let path = self.report();
        let text = io(&path, std::fs::read(&path))?;
        let report = serde_json::from_slice(&text).unwrap_or_else(|error| Report {
            // It was on the disk, whole, before it had this name.
            set_aside: self.free_aside(),
            reason: format!("unknown: {} is damaged too: {error}", path.display()),
            recovered: BTreeMap::new(),
            incomplete: Vec::new(),
            lost_rows: 0,
        });
        let named = |name: &str| tables.iter().copied().find(|known| *known == name);
        Ok(Salvage {
            file,
            set_aside: report.set_aside,
            reason: report.reason,
            recovered: report
                .recovered
                .iter()
                .filter_map(|(table, rows)| Some((named(table)?, *rows)))
                .collect(),
            incomplete: report.incomplete.iter().filter_map(|t| named(t)).collect(),
            lost_rows: report.lost_rows,
        })
    }

    /// The names themselves are on the disk.
    fn sync(&self) -> Result<(), StoreError> {
        let dir = self.path.parent().unwrap_or(Path::new("."));
        io(dir, File::open(dir).and_then(|d| d.sync_all()))
    }
}
