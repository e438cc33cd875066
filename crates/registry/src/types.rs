//! The life of thing types: create, deprecate and undo, delete.

use std::ops::Bound;
use std::sync::Arc;

use iotedge_model::{ThingTypeName, UnixMillis};

use crate::registry::Registry;
use crate::thing_type::StoredType;
use crate::{NewThingType, RegistryError, ThingTypeDescription};

/// How long a type must have been deprecated before it may be deleted (2016 guide, "Delete a thing
/// type").
pub const DEPRECATED_BEFORE_DELETE: u64 = 5 * 60 * 1000;

impl Registry {
    pub(crate) fn stored_type(
        &self,
        name: &ThingTypeName,
    ) -> Result<Arc<StoredType>, RegistryError> {
        let snapshot = self.snapshot.load();
        let found = snapshot.types.get(name).cloned();
        found.ok_or_else(|| RegistryError::NoThingType(name.clone()))
    }

    /// Whether a thing may get this type now.
    pub(crate) fn may_be_given(&self, name: &ThingTypeName) -> Result<(), RegistryError> {
        match self.stored_type(name)?.metadata.deprecated {
            true => Err(RegistryError::Deprecated(name.clone())),
            false => Ok(()),
        }
    }

    /// Creates a type. One that is there already with the same properties is no error
    /// (`CreateThingType`).
    pub fn create_thing_type(
        &self,
        new: &NewThingType,
    ) -> Result<ThingTypeDescription, RegistryError> {
        let guard = self.begin();
        let stored = new.stored(self.clock.now().wall)?;
        if let Ok(there) = self.stored_type(&new.name) {
            return match there.properties == stored.properties {
                true => Ok(there.describe(&new.name)),
                false => Err(RegistryError::ThingTypeExists(new.name.clone())),
            };
        }
        self.types.put(new.name.as_str(), &stored)?;
        let description = stored.describe(&new.name);
        self.show(guard, |s| {
            s.types.insert(new.name.clone(), Arc::new(stored));
        });
        Ok(description)
    }

    /// The type.
    pub fn describe_thing_type(
        &self,
        name: &ThingTypeName,
    ) -> Result<ThingTypeDescription, RegistryError> {
        Ok(self.stored_type(name)?.describe(name))
    }

    /// At most `limit` types in the order of names, after `after`.
    pub fn list_thing_types(
        &self,
        after: Option<&ThingTypeName>,
        limit: usize,
    ) -> Vec<ThingTypeDescription> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let snapshot = self.snapshot.load();
        snapshot
            .types
            .range::<ThingTypeName, _>((from, Bound::Unbounded))
            .take(limit)
            .map(|(name, stored)| stored.describe(name))
            .collect()
    }

    /// Deprecates a type, so that no thing gets it any more, or with `undo` lets them again. Things
    /// that have it keep it (`DeprecateThingType`).
    pub fn deprecate_thing_type(
        &self,
        name: &ThingTypeName,
        undo: bool,
    ) -> Result<ThingTypeDescription, RegistryError> {
        let guard = self.begin();
        let mut stored = StoredType::clone(&*self.stored_type(name)?);
        let now = self.clock.now();
        // Again: the five minutes go on from the first time.
        if stored.metadata.deprecated != undo {
            return Ok(stored.describe(name));
        }
        stored.metadata.deprecated = !undo;
        stored.metadata.deprecation_date = (!undo).then_some(now.wall);
        self.types.put(name.as_str(), &stored)?;
        let description = stored.describe(name);
        self.show(guard, |s| {
            s.types.insert(name.clone(), Arc::new(stored));
            match undo {
                true => s.deprecated_at.remove(name),
                false => s.deprecated_at.insert(name.clone(), now.mono),
            };
        });
        Ok(description)
    }

    /// Deletes a type that has been deprecated for five minutes and that no thing has
    /// (`DeleteThingType`).
    pub fn delete_thing_type(&self, name: &ThingTypeName) -> Result<(), RegistryError> {
        let guard = self.begin();
        let stored = self.stored_type(name)?;
        let Some(deprecated) = stored
            .metadata
            .deprecation_date
            .filter(|_| stored.metadata.deprecated)
        else {
            return Err(RegistryError::NotDeprecated(name.clone()));
        };
        let snapshot = self.snapshot.load_full();
        let things = snapshot
            .things
            .values()
            .filter(|e| e.stored.thing_type_name.as_ref() == Some(name));
        match things.count() {
            0 => {}
            count => {
                return Err(RegistryError::ThingTypeInUse {
                    name: name.clone(),
                    count,
                });
            }
        }
        let since = snapshot.deprecated_at.get(name).copied();
        let left = DEPRECATED_BEFORE_DELETE.saturating_sub(self.passed(since, deprecated));
        if left > 0 {
            return Err(RegistryError::TooEarly {
                name: name.clone(),
                seconds: left.div_ceil(1000),
            });
        }
        self.types.delete(name.as_str())?;
        self.show(guard, |s| {
            s.types.remove(name);
            s.deprecated_at.remove(name);
        });
        Ok(())
    }

    /// Milliseconds since a moment of this run, or else by a clock that can be trusted, or else
    /// since the start.
    fn passed(&self, mono: Option<u64>, wall: UnixMillis) -> u64 {
        let now = self.clock.now();
        match mono {
            Some(then) => now.mono.saturating_sub(then),
            None => {
                let here = now.mono.saturating_sub(self.opened_at);
                let clock = match now.trusted {
                    true => now.wall.0.saturating_sub(wall.0),
                    false => 0,
                };
                here.max(clock)
            }
        }
    }
}
