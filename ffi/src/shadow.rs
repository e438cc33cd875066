//! A shadow as a program sees it: what the server says, and what the program has to say. Pure.

use serde_json::{Map, Number, Value};

use crate::error::{Error, Result};

/// A part of a shadow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    Reported,
    Desired,
    Delta,
}

/// A shadow's state as known here.
#[derive(Debug, Default)]
pub(crate) struct Shadow {
    reported: Value,
    desired: Value,
    delta: Value,
    version: u64,
    /// What was set and not sent.
    staged: Map<String, Value>,
}

/// A change that is worth telling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// The whole shadow came.
    Got,
    /// Something is wanted of the device.
    Delta,
    /// Nothing new.
    Nothing,
}

fn split(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|key| !key.is_empty())
}

impl Shadow {
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    fn section(&self, section: Section) -> &Value {
        match section {
            Section::Reported => &self.reported,
            Section::Desired => &self.desired,
            Section::Delta => &self.delta,
        }
    }

    /// The member at `path`: its keys with slashes between them; the whole section for "".
    pub(crate) fn get(&self, section: Section, path: &str) -> Result<&Value> {
        let mut at = self.section(section);
        for key in split(path) {
            at = at
                .get(key)
                .ok_or_else(|| Error::NoMember(path.to_owned()))?;
        }
        if at.is_null() {
            return Err(Error::NoMember(path.to_owned()));
        }
        Ok(at)
    }

    /// Sets a member in what is sent next; null removes it from the shadow.
    pub(crate) fn set(&mut self, section: Section, path: &str, value: Value) -> Result<()> {
        let section = match section {
            Section::Reported => "reported",
            Section::Desired => "desired",
            Section::Delta => return Err(Error::WrongType("delta".to_owned())),
        };
        let keys: Vec<&str> = std::iter::once(section).chain(split(path)).collect();
        if keys.len() < 2 {
            return Err(Error::Missing("path"));
        }
        put(&mut self.staged, &keys, value);
        Ok(())
    }

    /// The document of what was set; nothing was set any more then.
    pub(crate) fn take_document(&mut self, client_token: &str) -> Option<Value> {
        if self.staged.is_empty() {
            return None;
        }
        let staged = std::mem::take(&mut self.staged);
        Some(serde_json::json!({"state": staged, "clientToken": client_token}))
    }

    /// What was taken was not sent: what was set since then counts more.
    pub(crate) fn put_back(&mut self, document: Value) {
        let Some(Value::Object(before)) = document.get("state").cloned() else {
            return;
        };
        let since = std::mem::replace(&mut self.staged, before);
        merge_into(&mut self.staged, since, false);
    }

    /// The answer to a get.
    pub(crate) fn got(&mut self, document: &Value) -> News {
        let Some(version) = document.get("version").and_then(Value::as_u64) else {
            return News::Nothing;
        };
        if version < self.version {
            return News::Nothing;
        }
        self.version = version;
        let part = |name: &str| document.pointer(name).cloned().unwrap_or_default();
        self.reported = part("/state/reported");
        self.desired = part("/state/desired");
        self.delta = part("/state/delta");
        News::Got
    }

    /// There is no shadow, or none any more.
    pub(crate) fn absent(&mut self) {
        self.reported = Value::Null;
        self.desired = Value::Null;
        self.delta = Value::Null;
    }

    /// An update that the server has taken, of whoever sent it.
    pub(crate) fn updated(&mut self, document: &Value) {
        if !self.is_newer(document) {
            return;
        }
        for (name, section) in [
            ("/state/reported", &mut self.reported),
            ("/state/desired", &mut self.desired),
        ] {
            match document.pointer(name) {
                Some(Value::Object(changes)) => {
                    if !section.is_object() {
                        *section = Value::Object(Map::new());
                    }
                    if let Value::Object(section) = section {
                        merge_into(section, changes.clone(), true);
                    }
                }
                // The section as a whole was removed.
                Some(Value::Null) => *section = Value::Null,
                _ => {}
            }
        }
    }

    /// What is wanted of the device.
    pub(crate) fn differs(&mut self, document: &Value) -> News {
        // The update that it comes of may have been seen: the same version is new here.
        let version = document.get("version").and_then(Value::as_u64);
        if version.is_none_or(|version| version < self.version) {
            return News::Nothing;
        }
        self.version = version.unwrap_or(self.version);
        self.delta = document.get("state").cloned().unwrap_or_default();
        News::Delta
    }

    fn is_newer(&mut self, document: &Value) -> bool {
        match document.get("version").and_then(Value::as_u64) {
            Some(version) if version >= self.version => {
                self.version = version;
                true
            }
            _ => false,
        }
    }
}

/// Works on the object at a key; what is there and is none makes room for one.
fn within(at: &mut Map<String, Value>, key: &str, work: impl FnOnce(&mut Map<String, Value>)) {
    let slot = at.entry(key.to_owned()).or_insert(Value::Null);
    let mut object = match slot.take() {
        Value::Object(object) => object,
        _ => Map::new(),
    };
    work(&mut object);
    *slot = Value::Object(object);
}

/// Puts a value where the keys lead.
fn put(at: &mut Map<String, Value>, keys: &[&str], value: Value) {
    match keys {
        [] => {}
        [last] => {
            at.insert((*last).to_owned(), value);
        }
        [key, rest @ ..] => within(at, key, |inner| put(inner, rest, value)),
    }
}

/// Puts `changes` over `base`, object by object; with `remove` null takes a member away.
fn merge_into(base: &mut Map<String, Value>, changes: Map<String, Value>, remove: bool) {
    for (key, value) in changes {
        match value {
            Value::Null if remove => {
                base.remove(&key);
            }
            Value::Object(inner) => within(base, &key, |at| merge_into(at, inner, remove)),
            other => {
                base.insert(key, other);
            }
        }
    }
}

/// A number of JSON, if there is one for it.
pub(crate) fn number(value: f64) -> Result<Value> {
    Number::from_f64(value)
        .map(Value::Number)
        .ok_or_else(|| Error::WrongType(value.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn known() -> Shadow {
        let mut shadow = Shadow::default();
        let document = json!({"version": 7, "state": {
            "reported": {"window": {"open": false}, "t": 21.5},
            "desired": {"window": {"open": true}},
            "delta": {"window": {"open": true}}}});
        assert_eq!(shadow.got(&document), News::Got);
        shadow
    }

    #[test]
    fn members_are_found_by_their_path() {
        let shadow = known();
        let get = |section, path| shadow.get(section, path).unwrap().clone();
        assert_eq!(get(Section::Reported, "window/open"), json!(false));
        assert_eq!(get(Section::Delta, "/window/open"), json!(true));
        assert_eq!(get(Section::Desired, ""), json!({"window": {"open": true}}));
        assert!(shadow.get(Section::Desired, "t").is_err());
        assert!(shadow.get(Section::Reported, "t/deeper").is_err());
    }

    #[test]
    fn what_is_set_goes_into_one_document() {
        let mut shadow = known();
        shadow
            .set(Section::Reported, "window/open", json!(true))
            .unwrap();
        shadow
            .set(Section::Reported, "window/by", json!("me"))
            .unwrap();
        shadow.set(Section::Desired, "window", Value::Null).unwrap();
        assert!(shadow.set(Section::Delta, "x", json!(1)).is_err());
        assert!(shadow.set(Section::Reported, "", json!(1)).is_err());
        let document = shadow.take_document("c").unwrap();
        assert_eq!(
            document,
            json!({"state": {"reported": {"window": {"open": true, "by": "me"}},
                "desired": {"window": null}}, "clientToken": "c"})
        );
        assert!(shadow.take_document("c").is_none());
        shadow
            .set(Section::Reported, "window/open", json!(false))
            .unwrap();
        shadow.put_back(document);
        let again = shadow.take_document("d").unwrap();
        assert_eq!(
            again["state"]["reported"],
            json!({"window": {"open": false, "by": "me"}})
        );
        assert_eq!(again["state"]["desired"], json!({"window": null}));
    }

    #[test]
    fn updates_of_others_are_merged_and_old_ones_are_not() {
        let mut shadow = known();
        shadow.updated(&json!({"version": 8, "state": {"reported": {"t": null, "n": {"a": 1}}}}));
        assert!(shadow.get(Section::Reported, "t").is_err());
        assert_eq!(shadow.get(Section::Reported, "n/a").unwrap(), &json!(1));
        shadow.updated(&json!({"version": 7, "state": {"reported": {"t": 1}}}));
        assert!(shadow.get(Section::Reported, "t").is_err());
        assert_eq!(shadow.version(), 8);
        let delta = json!({"version": 8, "state": {"x": 1}});
        assert_eq!(shadow.differs(&delta), News::Delta);
        assert_eq!(
            shadow.differs(&json!({"version": 6, "state": {}})),
            News::Nothing
        );
        assert_eq!(shadow.get(Section::Delta, "x").unwrap(), &json!(1));
    }
}
