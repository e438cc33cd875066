//! Reading a table key by key. Every mistake is noted and reading goes on, so that an operator
//! hears of all of them at once.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;

use super::problem::{Place, Problem};
use super::tree::{Node, Table, Value};
use super::units;

/// Collects what is wrong.
#[derive(Default)]
pub(super) struct Problems(RefCell<Vec<Problem>>);

impl Problems {
    pub(super) fn add(&self, place: &Place, key: &str, reason: impl Into<String>) {
        self.0.borrow_mut().push(Problem {
            place: place.clone(),
            key: key.to_owned(),
            reason: reason.into(),
        });
    }

    pub(super) fn into_inner(self) -> Vec<Problem> {
        self.0.into_inner()
    }
}

/// A table being read. [`Section::finish`] complains of the keys that nobody asked for.
pub(super) struct Section<'a> {
    problems: &'a Problems,
    path: String,
    place: Place,
    table: Option<&'a Table>,
    asked: RefCell<BTreeSet<&'static str>>,
}

impl<'a> Section<'a> {
    pub(super) fn root(problems: &'a Problems, file: &Path, table: &'a Table) -> Self {
        Self {
            problems,
            path: String::new(),
            place: Place::file(file),
            table: Some(table),
            asked: RefCell::default(),
        }
    }

    /// Where the table begins.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    fn full(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    fn node(&self, key: &'static str) -> Option<&'a Node> {
        self.asked.borrow_mut().insert(key);
        self.table?.get(key).map(|(_, node)| node)
    }

    /// Where a key's value stands; the table's place when it is not there.
    pub(super) fn place_of(&self, key: &str) -> Place {
        self.table
            .and_then(|table| table.get(key))
            .map_or_else(|| self.place.clone(), |(_, node)| node.place.clone())
    }

    /// Where each key's value stands; under the empty key where the table begins.
    pub(super) fn places(&self) -> BTreeMap<String, Place> {
        let keys = self.table.into_iter().flatten();
        let places = keys.map(|(key, (_, node))| (key.clone(), node.place.clone()));
        places
            .chain([(String::new(), self.place.clone())])
            .collect()
    }

    /// Whether the key is there, right or wrong.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// Notes that a key is wrong.
    pub(super) fn wrong(&self, key: &str, reason: impl Into<String>) {
        self.problems
            .add(&self.place_of(key), &self.full(key), reason);
    }

    /// Notes that a key is missing.
    pub(super) fn need(&self, key: &str) {
        if !self.has(key) {
            self.problems.add(
                &self.place,
                &self.full(key),
                "this key is missing and has no default",
            );
        }
    }

    /// A key of the contract that this version cannot obey.
    pub(super) fn not_yet(&self, key: &'static str) {
        if self.node(key).is_some() {
            self.wrong(key, "is not supported yet");
        }
    }

    /// Keys that belong here, whatever they hold: there is nothing to read them by.
    pub(super) fn known<'k>(&self, keys: impl Iterator<Item = &'k &'static str>) {
        self.asked.borrow_mut().extend(keys.copied());
    }

    /// A known key that is in the wrong place here.
    pub(super) fn misplaced(&self, key: &'static str, reason: &str) {
        if self.node(key).is_some() {
            self.wrong(key, reason);
        }
    }

    /// Whether the key holds a list.
    pub(super) fn is_list(&self, key: &'static str) -> bool {
        matches!(self.node(key).map(|n| &n.value), Some(Value::List(_)))
    }

    /// Notes a problem that is somewhere else.
    pub(super) fn note(&self, place: &Place, key: &str, reason: String) {
        self.problems.add(place, key, reason);
    }

    fn mismatch(&self, key: &str, node: &Node, wanted: &str) {
        self.wrong(key, format!("must be {wanted}, not {}", node.value.kind()));
    }

    pub(super) fn text(&self, key: &'static str) -> Option<&'a str> {
        let node = self.node(key)?;
        match &node.value {
            Value::Text(text) => Some(text),
            _ => {
                self.mismatch(key, node, "a string");
                None
            }
        }
    }

    /// A string that `read` makes something of.
    pub(super) fn parsed<T, E: std::fmt::Display>(
        &self,
        key: &'static str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        match read(self.text(key)?) {
            Ok(value) => Some(value),
            Err(reason) => {
                self.wrong(key, reason.to_string());
                None
            }
        }
    }

    /// One of several words.
    pub(super) fn choice<T: Copy>(&self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        self.parsed(key, |text| {
            choices
                .iter()
                .find(|(word, _)| *word == text)
                .map(|(_, value)| *value)
                .ok_or_else(|| {
                    let words: Vec<_> = choices.iter().map(|(w, _)| format!("{w:?}")).collect();
                    format!("{text:?} is not one of {}", words.join(", "))
                })
        })
    }

    pub(super) fn flag(&self, key: &'static str) -> Option<bool> {
        let node = self.node(key)?;
        match node.value {
            Value::Flag(flag) => Some(flag),
            _ => {
                self.mismatch(key, node, "true or false");
                None
            }
        }
    }

    pub(super) fn number(&self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let node = self.node(key)?;
        let Value::Integer(number) = node.value else {
            self.mismatch(key, node, "an integer");
            return None;
        };
        let fits = number
            .and_then(|n| u64::try_from(n).ok())
            .filter(|n| range.contains(n));
        if fits.is_none() {
            let (low, high) = range.into_inner();
            self.wrong(key, format!("must be {low} to {high}"));
        }
        fits
    }

    /// A size with its unit, or bytes.
    pub(super) fn size(&self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let node = self.node(key)?;
        let bytes = match &node.value {
            Value::Text(text) => units::size(text),
            Value::Integer(Some(n)) if *n >= 0 => Ok(n.unsigned_abs()),
            Value::Integer(_) => Err("must not be negative or beyond 64 bits".into()),
            other => Err(format!(
                "must be a size like \"256MiB\" or a number of bytes, not {}",
                other.kind()
            )),
        };
        match bytes {
            Ok(bytes) if range.contains(&bytes) => return Some(bytes),
            Ok(_) => {
                let (low, high) = range.into_inner();
                let (low, high) = (units::size_text(low), units::size_text(high));
                self.wrong(key, format!("must be {low} to {high}"));
            }
            Err(reason) => self.wrong(key, reason),
        }
        None
    }

    /// A duration with its unit, or seconds.
    pub(super) fn duration(
        &self,
        key: &'static str,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let node = self.node(key)?;
        let duration = match &node.value {
            Value::Text(text) => units::duration(text),
            Value::Integer(Some(n)) if *n >= 0 => Ok(Duration::from_secs(n.unsigned_abs())),
            Value::Integer(_) => Err("must not be negative or beyond 64 bits".into()),
            other => Err(format!(
                "must be a duration like \"10s\" or a number of seconds, not {}",
                other.kind()
            )),
        };
        match duration {
            Ok(duration) if range.contains(&duration) => return Some(duration),
            Ok(_) => {
                let (low, high) = range.into_inner();
                let (low, high) = (units::duration_text(low), units::duration_text(high));
                self.wrong(key, format!("must be {low} to {high}"));
            }
            Err(reason) => self.wrong(key, reason),
        }
        None
    }

    /// Whether the key says `"unlimited"`.
    pub(super) fn is_unlimited(&self, key: &'static str) -> bool {
        matches!(self.node(key).map(|n| &n.value), Some(Value::Text(text)) if text == "unlimited")
    }

    /// One path or a list of them.
    pub(super) fn paths(&self, key: &'static str) -> Vec<PathBuf> {
        if !self.is_list(key) {
            return self.path(key).into_iter().collect();
        }
        let texts = self.texts(key).unwrap_or_default();
        texts
            .into_iter()
            .filter_map(|text| self.path_of(key, text))
            .collect()
    }

    /// A path; a relative one begins at the folder of the file that it stands in.
    pub(super) fn path(&self, key: &'static str) -> Option<PathBuf> {
        let text = self.text(key)?;
        self.path_of(key, text)
    }

    fn path_of(&self, key: &'static str, text: &str) -> Option<PathBuf> {
        if text.is_empty() {
            self.wrong(key, "is empty");
            return None;
        }
        let place = self.place_of(key);
        Some(match place.file.parent() {
            Some(folder) => folder.join(text),
            None => PathBuf::from(text),
        })
    }

    /// The path of a file that must be there and readable.
    fn existing_file(&self, key: &'static str) -> Option<PathBuf> {
        let path = self.path(key)?;
        match std::fs::File::open(&path).and_then(|f| f.metadata()) {
            Ok(found) if found.is_file() => Some(path),
            Ok(_) => {
                self.wrong(key, format!("{} is no file", path.display()));
                None
            }
            Err(e) => {
                self.wrong(key, format!("{}: {e}", path.display()));
                None
            }
        }
    }

    /// The path of a PEM file with certificates.
    pub(super) fn certificates(&self, key: &'static str) -> Option<PathBuf> {
        self.pem_file(key, |text| {
            iotedge_identity::certificates_of_pem(text)
                .map(|_| ())
                .map_err(|e| e.to_string())
        })
    }

    /// The path of a PEM file with a private key, or the URI of one in a token.
    pub(super) fn private_key(&self, key: &'static str) -> Option<PathBuf> {
        if let Some(uri) = self.text(key).filter(|text| text.starts_with("pkcs11:")) {
            let uri = PathBuf::from(uri);
            return match iotedge_identity::check_token_key(&uri) {
                Ok(()) => Some(uri),
                Err(error) => {
                    self.wrong(key, error.to_string());
                    None
                }
            };
        }
        self.pem_file(key, |text| {
            PrivateKeyDer::from_pem_slice(text.as_bytes())
                .map(|_| ())
                .map_err(|_| "there is no PEM block with a private key in it".to_owned())
        })
    }

    /// The paths of `certificate` and `key`, which go together.
    pub(super) fn certificate_and_key(&self) -> (Option<PathBuf>, Option<PathBuf>) {
        for (one, other) in [("certificate", "key"), ("key", "certificate")] {
            if self.has(one) && !self.has(other) {
                let reason = format!("goes together with `{other}`, which is missing");
                self.wrong(one, reason);
            }
        }
        (self.certificates("certificate"), self.private_key("key"))
    }

    /// The path of a file that holds a password and nothing else.
    pub(super) fn secret_file(&self, key: &'static str) -> Option<PathBuf> {
        self.pem_file(key, |text| {
            match text.trim_end_matches(['\r', '\n']).len() {
                0 => Err("is empty: it has to hold the password".into()),
                1..=65_535 => Ok(()),
                _ => Err("a password has at most 65535 bytes".into()),
            }
        })
    }

    /// The path of a file with an argon2 hash.
    pub(super) fn password_file(&self, key: &'static str) -> Option<PathBuf> {
        self.pem_file(key, |text| {
            iotedge_identity::PasswordHash::parse(text)
                .map(|_| ())
                .map_err(|e| e.to_string())
        })
    }

    fn pem_file(
        &self,
        key: &'static str,
        check: impl FnOnce(&str) -> Result<(), String>,
    ) -> Option<PathBuf> {
        let path = self.existing_file(key)?;
        let checked = std::fs::read_to_string(&path)
            .map_err(|e| e.to_string())
            .and_then(|text| check(&text));
        match checked {
            Ok(()) => Some(path),
            Err(reason) => {
                self.wrong(key, format!("{}: {reason}", path.display()));
                None
            }
        }
    }

    /// A list of strings.
    pub(super) fn texts(&self, key: &'static str) -> Option<Vec<&'a str>> {
        let node = self.node(key)?;
        let Value::List(items) = &node.value else {
            self.mismatch(key, node, "a list of strings");
            return None;
        };
        let texts: Option<Vec<_>> = items
            .iter()
            .map(|item| match &item.value {
                Value::Text(text) => Some(text.as_str()),
                _ => None,
            })
            .collect();
        if texts.is_none() {
            self.wrong(key, "must be a list of strings");
        }
        texts
    }

    /// The table `[key]`; an empty one when it is not there.
    pub(super) fn table(&self, key: &'static str) -> Section<'a> {
        let node = self.node(key);
        let table = node.and_then(|node| match &node.value {
            Value::Table(table) => Some(table),
            _ => {
                self.mismatch(key, node, "a table");
                None
            }
        });
        self.below(key, node, table)
    }

    /// The tables `[[key]]`.
    pub(super) fn tables(&self, key: &'static str) -> Vec<Section<'a>> {
        let Some(node) = self.node(key) else {
            return Vec::new();
        };
        let Value::List(items) = &node.value else {
            self.wrong(
                key,
                format!("is a list of tables: write [[{}]]", self.full(key)),
            );
            return Vec::new();
        };
        let mut sections = Vec::new();
        for item in items {
            match &item.value {
                Value::Table(table) => sections.push(self.below(key, Some(item), Some(table))),
                _ => self.mismatch(key, item, "a list of tables"),
            }
        }
        sections
    }

    fn below(&self, key: &str, node: Option<&Node>, table: Option<&'a Table>) -> Section<'a> {
        Section {
            problems: self.problems,
            path: self.full(key),
            place: node.map_or_else(|| self.place.clone(), |n| n.place.clone()),
            table,
            asked: RefCell::default(),
        }
    }

    /// Complains of each key that was not asked for.
    pub(super) fn finish(self) {
        let asked = self.asked.borrow();
        for (key, (place, _)) in self.table.into_iter().flatten() {
            if asked.contains(key.as_str()) {
                continue;
            }
            let reason = match nearest(key, &asked) {
                Some(known) => format!("is not a known key; is {known:?} meant?"),
                None => "is not a known key".to_owned(),
            };
            self.problems.add(place, &self.full(key), reason);
        }
    }
}

/// The known key that was most likely meant.
fn nearest(key: &str, known: &BTreeSet<&'static str>) -> Option<&'static str> {
    known
        .iter()
        .map(|name| (distance(key, name), *name))
        .filter(|(distance, name)| *distance <= (name.len() / 4).max(2) && *distance < name.len())
        .min()
        .map(|(_, name)| name)
}

/// How many letters must be changed, put in or taken out (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    // Keys are short; a long one is none of ours.
    if a.len() > 64 {
        return usize::MAX;
    }
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut before = i;
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
        for (j, y) in b.iter().enumerate() {
            let above = row[j + 1];
            let change = before + usize::from(x != *y);
            row[j + 1] = change.min(above + 1).min(row[j] + 1);
            before = above;
        }
    }
    row.last().copied().unwrap_or_default()
}
