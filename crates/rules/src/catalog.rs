//! Every rule of the gateway: files of `rules.d`, and rules made by command, which the store keeps.
//!
//! 1. A name is in one place: a file and a stored rule of one name are an error, and nothing changes.
//! 2. What a command changes is committed before it is in force, and in force before it is answered.
//! 3. A stored rule that cannot be read any more is left out and said so; the others run.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

use iotedge_store::{Documents, Expect, Store};
use serde_json::{Map, Value as Json};
use thiserror::Error;

use crate::check::{Facilities, check_rules};
use crate::document::{RuleError, RuleProblem, parse_rule};
use crate::rule::check_name;
use crate::{Changes, Engine, Rule};

/// Most rules of a gateway (the guide's limits: 1,000 for an account).
const MAX_RULES: usize = 1000;
/// Longest document, in bytes (today's guide, "Service quotas": 256 KB).
const MAX_DOCUMENT: usize = 256 * 1024;
/// What stands for a file in errors about stored rules.
const STORE: &str = "document";

/// Where a rule comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuleOrigin {
    /// This file.
    File(String),
    /// The store.
    Store,
}

/// Why the rules stay as they were.
#[derive(Debug, Error)]
pub enum CatalogError {
    /// The document is no rule.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Invalid(Vec<RuleError>),
    /// Create of a rule that is there.
    #[error("there is a rule {0:?} already; replace it, or delete it first")]
    Exists(String),
    /// Anything else of one that is not.
    #[error("there is no rule {0:?}")]
    NotFound(String),
    /// A command for a rule of a file.
    #[error("the rule {name:?} is the file {file}: change the file and reload")]
    OfFile {
        /// The rule.
        name: String,
        /// The file.
        file: String,
    },
    /// A name in both places.
    #[error("{file}: there is a rule {name:?} in the store too; delete one of the two")]
    InBoth {
        /// The rule.
        name: String,
        /// The file.
        file: String,
    },
    /// More rules than a gateway has.
    #[error("a gateway has at most {MAX_RULES} rules")]
    TooMany,
    /// A longer document than is kept.
    #[error("a rule's document has at most {MAX_DOCUMENT} bytes")]
    TooLong,
    /// The store failed.
    #[error("the store: {0}")]
    Store(String),
}

/// The rules of both places. See the module.
pub struct Catalog {
    documents: Documents,
    engine: Arc<Engine>,
    facilities: Facilities,
    /// Names of the stored rules that are in force. Held over a whole change.
    stored: Mutex<BTreeSet<Arc<str>>>,
}

impl Catalog {
    /// Over the store's collection `rules`. No rule is in force before [`Catalog::install`].
    pub fn new(store: &Store, engine: Arc<Engine>) -> Self {
        Self {
            documents: store.documents("rules"),
            engine,
            facilities: Facilities::default(),
            stored: Mutex::default(),
        }
    }

    /// What rules may use; without, no programs and no routes.
    #[must_use]
    pub fn with_facilities(mut self, facilities: Facilities) -> Self {
        self.facilities = facilities;
        self
    }

    /// Whether this gateway can carry the rules out as it is configured.
    fn fit(&self, rules: &[Rule]) -> Result<(), CatalogError> {
        match check_rules(rules, &self.facilities) {
            errors if errors.is_empty() => Ok(()),
            errors => Err(CatalogError::Invalid(errors)),
        }
    }

    /// Whether [`Catalog::install`] will take these files.
    pub fn check(&self, files: &[Rule]) -> Result<(), CatalogError> {
        self.fit(files)?;
        let stored = self.documents.scan().map_err(failed)?;
        for rule in files {
            if stored.iter().any(|(name, _)| **name == **rule.name()) {
                return Err(CatalogError::InBoth {
                    name: rule.name().to_string(),
                    file: rule.file().to_owned(),
                });
            }
        }
        if stored.len() + files.len() > MAX_RULES {
            return Err(CatalogError::TooMany);
        }
        Ok(())
    }

    /// Puts the rules of the files in force, beside the stored ones. A rule of the same name keeps
    /// its counters.
    pub fn install(&self, files: Vec<Rule>) -> Result<Changes, CatalogError> {
        let mut stored = self.lock();
        self.check(&files)?;
        let mut all = files;
        stored.clear();
        for (name, document) in self.documents.scan().map_err(failed)? {
            let text = String::from_utf8_lossy(&document.body);
            let rule = parse_rule(&name, STORE, &text).map_err(CatalogError::Invalid);
            match rule.and_then(|rule| self.fit(std::slice::from_ref(&rule)).map(|()| rule)) {
                Ok(rule) => {
                    stored.insert(rule.name().clone());
                    all.push(rule);
                }
                Err(error) => {
                    tracing::error!(rule = name, "a stored rule is left out: {error}");
                }
            }
        }
        Ok(self.engine.replace(all))
    }

    /// Where the rule comes from; `None` if there is none.
    pub fn origin(&self, name: &str) -> Option<RuleOrigin> {
        if self.lock().contains(name) {
            return Some(RuleOrigin::Store);
        }
        self.find(name)
            .map(|rule| RuleOrigin::File(rule.file().to_owned()))
    }

    /// The rule in force.
    pub fn find(&self, name: &str) -> Option<Arc<Rule>> {
        let rules = self.engine.rules();
        rules.iter().find(|rule| &**rule.name() == name).cloned()
    }

    /// Makes a rule (CreateTopicRule), or replaces one that is there (ReplaceTopicRule).
    pub fn put(&self, name: &str, document: &str, replace: bool) -> Result<(), CatalogError> {
        if document.len() > MAX_DOCUMENT {
            return Err(CatalogError::TooLong);
        }
        let rule = parse_rule(name, STORE, document).map_err(CatalogError::Invalid)?;
        self.fit(std::slice::from_ref(&rule))?;
        let mut stored = self.lock();
        match (replace, self.is_stored(&stored, name)) {
            (false, Err(CatalogError::NotFound(_))) => {
                if self.engine.rules().len() >= MAX_RULES {
                    return Err(CatalogError::TooMany);
                }
            }
            (false, Ok(())) => return Err(CatalogError::Exists(name.to_owned())),
            (_, Err(error)) => return Err(error),
            (true, Ok(())) => {}
        }
        self.commit(name, Some(document))?;
        stored.insert(rule.name().clone());
        self.put_in_force(name, Some(rule));
        Ok(())
    }

    /// EnableTopicRule and DisableTopicRule: `ruleDisabled` of the stored document.
    pub fn set_enabled(&self, name: &str, enabled: bool) -> Result<(), CatalogError> {
        let stored = self.lock();
        self.is_stored(&stored, name)?;
        let not_found = || CatalogError::NotFound(name.to_owned());
        let document = with_disabled(self.find(name).ok_or_else(not_found)?.document(), !enabled)?;
        let rule = parse_rule(name, STORE, &document).map_err(CatalogError::Invalid)?;
        self.commit(name, Some(&document))?;
        self.put_in_force(name, Some(rule));
        Ok(())
    }

    /// DeleteTopicRule.
    pub fn delete(&self, name: &str) -> Result<(), CatalogError> {
        let mut stored = self.lock();
        self.is_stored(&stored, name)?;
        self.commit(name, None)?;
        stored.remove(name);
        self.put_in_force(name, None);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<Arc<str>>> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether commands may change the rule. One that is left out can be deleted too.
    fn is_stored(&self, stored: &BTreeSet<Arc<str>>, name: &str) -> Result<(), CatalogError> {
        let invalid = |problem| {
            CatalogError::Invalid(vec![RuleError {
                file: STORE.to_owned(),
                line: 1,
                column: 1,
                key: String::new(),
                problem,
            }])
        };
        check_name(name).map_err(invalid)?;
        if stored.contains(name) || self.documents.get(name).map_err(failed)?.is_some() {
            return Ok(());
        }
        match self.find(name) {
            Some(rule) => Err(CatalogError::OfFile {
                name: name.to_owned(),
                file: rule.file().to_owned(),
            }),
            None => Err(CatalogError::NotFound(name.to_owned())),
        }
    }

    /// All rules but the one of this name stay as their documents say.
    fn put_in_force(&self, name: &str, rule: Option<Rule>) {
        let mut all: Vec<Rule> = self
            .engine
            .rules()
            .iter()
            .filter(|other| &**other.name() != name)
            // Read before, with the same outcome.
            .filter_map(|other| parse_rule(other.name(), other.file(), other.document()).ok())
            .collect();
        all.extend(rule);
        self.engine.replace(all);
    }

    /// Returns when it is in the file.
    fn commit(&self, name: &str, document: Option<&str>) -> Result<(), CatalogError> {
        let (done, committed) = mpsc::sync_channel(1);
        let done = Box::new(move |outcome| drop(done.send(outcome)));
        match document {
            Some(text) => self
                .documents
                .put(name, text.to_owned(), Expect::Any, Some(done))
                .map(|_| ()),
            None => self
                .documents
                .delete(name, Expect::Any, Some(done))
                .map(|_| ()),
        }
        .map_err(failed)?;
        match committed.recv() {
            Ok(outcome) => outcome.map_err(failed),
            Err(_) => Err(CatalogError::Store("the writer gave no answer".into())),
        }
    }
}

fn failed(error: impl std::fmt::Display) -> CatalogError {
    CatalogError::Store(error.to_string())
}

/// The document with another `ruleDisabled`, bare or wrapped as it was.
fn with_disabled(document: &str, disabled: bool) -> Result<String, CatalogError> {
    let broken = |reason: String| {
        CatalogError::Invalid(vec![RuleError {
            file: STORE.to_owned(),
            line: 1,
            column: 1,
            key: String::new(),
            problem: RuleProblem::Syntax(reason),
        }])
    };
    let mut whole: Json = serde_json::from_str(document).map_err(|e| broken(e.to_string()))?;
    let wrapped = ["topicRulePayload", "rule"]
        .into_iter()
        .find(|key| whole.get(key).is_some_and(Json::is_object));
    let rule: Option<&mut Map<String, Json>> = match wrapped {
        Some(key) => whole.get_mut(key).and_then(Json::as_object_mut),
        None => whole.as_object_mut(),
    };
    match rule {
        Some(rule) => rule.insert("ruleDisabled".into(), Json::Bool(disabled)),
        None => return Err(broken("an object is expected".into())),
    };
    serde_json::to_string_pretty(&whole).map_err(|e| broken(e.to_string()))
}
