//! The registry itself.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use iotedge_model::{CertificateId, ThingName, ThingTypeName};
use iotedge_ports::{Clock, ThingFacts, ThingRecord};
use iotedge_store::Store;
use serde::{Deserialize, Serialize};

use crate::groups::{self, member_key};
use crate::records::Records;
use crate::snapshot::{Entry, Snapshot};
use crate::thing::StoredThing;
use crate::{NewThing, RegistryError, ThingDescription, ThingQuery, ThingUpdate};

/// Is told after each change, on the thread that made it.
pub type OnChange = Arc<dyn Fn() + Send + Sync>;

/// An attachment has no facts but its key, `{thing}/{certificate}`.
#[derive(Serialize, Deserialize)]
struct Attachment {}

/// Things and attachments.
pub struct Registry {
    things: Records,
    attachments: Records,
    pub(crate) types: Records,
    pub(crate) groups: Records,
    pub(crate) members: Records,
    pub(crate) clock: Arc<dyn Clock>,
    /// When this run began, by the clock that never goes back.
    pub(crate) opened_at: u64,
    pub(crate) snapshot: ArcSwap<Snapshot>,
    /// Held through a whole change: the next one sees its outcome.
    changing: Mutex<()>,
    followers: Mutex<Vec<OnChange>>,
}

fn attachment_key(thing: &ThingName, certificate: &CertificateId) -> String {
    format!("{thing}/{certificate}")
}

impl Registry {
    /// Reads everything.
    pub fn open(store: &Store, clock: Arc<dyn Clock>) -> Result<Self, RegistryError> {
        let things = Records::new(store, "things");
        let attachments = Records::new(store, "thing-attachments");
        let types = Records::new(store, "thing-types");
        let thing_groups = Records::new(store, "thing-groups");
        let members = Records::new(store, "thing-group-members");
        let mut snapshot = Snapshot::default();
        for (key, stored) in types.all()? {
            let name =
                ThingTypeName::new(&key).map_err(|e| types.damaged(key.clone(), e.to_string()))?;
            snapshot.types.insert(name, Arc::new(stored));
        }
        for (key, stored) in things.all::<StoredThing>()? {
            let name =
                ThingName::new(&key).map_err(|e| things.damaged(key.clone(), e.to_string()))?;
            let entry = Entry::new(stored, BTreeSet::new());
            snapshot.things.insert(name, Arc::new(entry));
        }
        for (key, Attachment {}) in attachments.all()? {
            let parsed = key
                .split_once('/')
                .and_then(|(t, c)| Some((ThingName::new(t).ok()?, CertificateId::parse(c)?)));
            let Some((thing, certificate)) = parsed else {
                return Err(attachments.damaged(key, "the key is none".into()));
            };
            match snapshot.things.get_mut(&thing) {
                Some(entry) => {
                    Arc::make_mut(entry).certificates.insert(certificate);
                }
                // The thing was in a damaged file and is gone. What is left would attach the
                // certificate to any later thing of that name.
                None => {
                    tracing::warn!(%thing, %certificate, "was attached to a thing that is not there: detached");
                    attachments.delete_lazily(&key)?;
                }
            }
        }
        groups::read(&thing_groups, &members, &mut snapshot)?;
        Ok(Self {
            things,
            attachments,
            types,
            groups: thing_groups,
            members,
            opened_at: clock.now().mono,
            clock,
            snapshot: ArcSwap::from_pointee(snapshot),
            changing: Mutex::new(()),
            followers: Mutex::default(),
        })
    }

    /// `follower` is called after each change from now on.
    pub fn on_change(&self, follower: OnChange) {
        self.followers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(follower);
    }

    pub(crate) fn begin(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows a committed change. The guard says that no other is under way.
    pub(crate) fn show(&self, guard: MutexGuard<'_, ()>, change: impl FnOnce(&mut Snapshot)) {
        let mut snapshot = Snapshot::clone(&self.snapshot.load());
        change(&mut snapshot);
        self.snapshot.store(Arc::new(snapshot));
        drop(guard);
        let followers = self
            .followers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        for follower in followers {
            follower();
        }
    }

    pub(crate) fn entry(&self, name: &ThingName) -> Result<Arc<Entry>, RegistryError> {
        self.snapshot
            .load()
            .things
            .get(name)
            .cloned()
            .ok_or_else(|| RegistryError::ResourceNotFound(name.clone()))
    }

    /// Creates a thing. One that is there already with the same type and attributes is no error
    /// (`CreateThing`).
    pub fn create_thing(&self, new: &NewThing) -> Result<ThingDescription, RegistryError> {
        let guard = self.begin();
        let stored = StoredThing {
            thing_type_name: new.thing_type.clone(),
            attributes: new.attributes.clone(),
            version: 1,
        };
        stored.check()?;
        if let Some(name) = &new.thing_type {
            self.stored_type(name)?;
        }
        if let Ok(entry) = self.entry(&new.name) {
            let same = entry.stored.thing_type_name == stored.thing_type_name
                && entry.stored.attributes == stored.attributes;
            return if same {
                Ok(entry.describe(&new.name))
            } else {
                Err(RegistryError::ResourceAlreadyExists(new.name.clone()))
            };
        }
        if let Some(name) = &new.thing_type {
            self.may_be_given(name)?;
        }
        self.put(guard, &new.name, stored, None)
    }

    /// Creates the thing unless it is there, whatever it looks like; says whether it was created.
    pub fn ensure_thing(&self, name: &ThingName) -> Result<bool, RegistryError> {
        if self.entry(name).is_ok() {
            return Ok(false);
        }
        match self.create_thing(&NewThing::named(name.clone())) {
            Ok(_) => Ok(true),
            // Someone else was faster.
            Err(RegistryError::ResourceAlreadyExists(_)) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Changes type or attributes; the version grows by one.
    pub fn update_thing(
        &self,
        name: &ThingName,
        update: &ThingUpdate,
    ) -> Result<ThingDescription, RegistryError> {
        let guard = self.begin();
        let entry = self.entry(name)?;
        check_version(name, update.expected_version, entry.stored.version)?;
        let mut stored = entry.stored.clone();
        stored.apply(update);
        stored.check()?;
        let changed = stored.thing_type_name != entry.stored.thing_type_name;
        if let Some(name) = stored.thing_type_name.as_ref().filter(|_| changed) {
            self.may_be_given(name)?;
        }
        self.put(guard, name, stored, Some(&entry))
    }

    fn put(
        &self,
        guard: MutexGuard<'_, ()>,
        name: &ThingName,
        stored: StoredThing,
        before: Option<&Entry>,
    ) -> Result<ThingDescription, RegistryError> {
        self.things.put(name.as_str(), &stored)?;
        let certificates = before.map(|entry| entry.certificates.clone());
        let mut entry = Entry::new(stored, certificates.unwrap_or_default());
        if let Some(before) = before {
            entry.groups.clone_from(&before.groups);
        }
        let description = entry.describe(name);
        self.show(guard, |s| {
            entry.bring_groups(&s.groups);
            s.things.insert(name.clone(), Arc::new(entry));
        });
        Ok(description)
    }

    /// Deletes a thing that no certificate is attached to. One that is not there is no error
    /// (`DeleteThing`).
    pub fn delete_thing(
        &self,
        name: &ThingName,
        expected_version: Option<u64>,
    ) -> Result<(), RegistryError> {
        let guard = self.begin();
        let Ok(entry) = self.entry(name) else {
            return Ok(());
        };
        check_version(name, expected_version, entry.stored.version)?;
        if !entry.certificates.is_empty() {
            return Err(RegistryError::StillAttached {
                thing: name.clone(),
                count: entry.certificates.len(),
            });
        }
        self.things.delete(name.as_str())?;
        // Left over after a power cut they are found at the next start.
        for group in &entry.groups {
            self.members.delete_lazily(&member_key(group, name))?;
        }
        self.show(guard, |s| {
            s.things.remove(name);
        });
        Ok(())
    }

    /// The thing.
    pub fn describe_thing(&self, name: &ThingName) -> Result<ThingDescription, RegistryError> {
        Ok(self.entry(name)?.describe(name))
    }

    /// At most `limit` things that the query takes, in the order of names, after `after`
    /// (`ListThings`).
    pub fn list_things(
        &self,
        query: &ThingQuery,
        after: Option<&ThingName>,
        limit: usize,
    ) -> Result<Vec<ThingDescription>, RegistryError> {
        query.check()?;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let snapshot = self.snapshot.load();
        Ok(snapshot
            .things
            .range::<ThingName, _>((from, Bound::Unbounded))
            .filter(|(_, e)| query.takes(&e.stored))
            .take(limit)
            .map(|(name, entry)| entry.describe(name))
            .collect())
    }

    /// Attaches a certificate; attached twice is attached. The certificate is not looked up.
    pub fn attach(
        &self,
        thing: &ThingName,
        certificate: &CertificateId,
    ) -> Result<(), RegistryError> {
        let guard = self.begin();
        if self.entry(thing)?.certificates.contains(certificate) {
            return Ok(());
        }
        let key = attachment_key(thing, certificate);
        self.attachments.put(&key, &Attachment {})?;
        self.show(guard, |s| {
            if let Some(entry) = s.things.get_mut(thing) {
                Arc::make_mut(entry)
                    .certificates
                    .insert(certificate.clone());
            }
        });
        Ok(())
    }

    /// Detaches a certificate.
    pub fn detach(
        &self,
        thing: &ThingName,
        certificate: &CertificateId,
    ) -> Result<(), RegistryError> {
        let guard = self.begin();
        if !self.entry(thing)?.certificates.contains(certificate) {
            return Err(RegistryError::NotAttached {
                thing: thing.clone(),
                certificate: certificate.clone(),
            });
        }
        self.attachments
            .delete(&attachment_key(thing, certificate))?;
        self.show(guard, |s| {
            if let Some(entry) = s.things.get_mut(thing) {
                Arc::make_mut(entry).certificates.remove(certificate);
            }
        });
        Ok(())
    }

    /// The certificates of a thing (`ListThingPrincipals`).
    pub fn thing_principals(&self, name: &ThingName) -> Result<Vec<CertificateId>, RegistryError> {
        Ok(self.entry(name)?.certificates.iter().cloned().collect())
    }

    /// The things of a certificate (`ListPrincipalThings`).
    pub fn principal_things(&self, certificate: &CertificateId) -> Vec<ThingName> {
        let snapshot = self.snapshot.load();
        snapshot
            .things
            .iter()
            .filter(|(_, e)| e.certificates.contains(certificate))
            .map(|(name, _)| name.clone())
            .collect()
    }
}

fn check_version(
    thing: &ThingName,
    expected: Option<u64>,
    current: u64,
) -> Result<(), RegistryError> {
    match expected {
        Some(expected) if expected != current => Err(RegistryError::VersionConflict {
            thing: thing.clone(),
            expected,
            current,
        }),
        _ => Ok(()),
    }
}

impl ThingFacts for Registry {
    fn thing(&self, name: &str) -> Option<Arc<ThingRecord>> {
        let snapshot = self.snapshot.load();
        snapshot.things.get(name).map(|e| e.record.clone())
    }

    fn is_attached(&self, name: &str, certificate: &CertificateId) -> bool {
        let snapshot = self.snapshot.load();
        snapshot
            .things
            .get(name)
            .is_some_and(|e| e.certificates.contains(certificate))
    }
}
