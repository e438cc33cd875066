//! `iotedgectl thing ...`, `iotedgectl thing-type ...`.

use super::{Session, p};
use crate::ctl::args::{Principal, Thing, ThingArg, ThingType, ThingUpdate, TypeArg};
use crate::ctl::protocol::Request;
use crate::ctl::{CtlError, show};

fn named(thing: &ThingArg) -> p::Thing {
    p::Thing {
        name: thing.name.clone(),
    }
}

fn attachment(principal: &Principal) -> p::ThingAttach {
    p::ThingAttach {
        name: principal.name.clone(),
        certificate: principal.certificate.clone(),
    }
}

fn type_named(t: &TypeArg) -> p::ThingType {
    p::ThingType {
        name: t.name.clone(),
    }
}

fn deprecate(t: &TypeArg, undo: bool) -> Request {
    Request::ThingTypeDeprecate(p::ThingTypeDeprecate {
        name: t.name.clone(),
        undo,
    })
}

fn update(update: &ThingUpdate) -> p::ThingUpdate {
    let set = update.attributes.iter().cloned();
    let removed = update
        .remove
        .iter()
        .map(|name| (name.clone(), String::new()));
    p::ThingUpdate {
        name: update.name.clone(),
        attributes: set.chain(removed).collect(),
        merge: !update.replace,
        thing_type: update.thing_type.clone(),
        remove_thing_type: update.no_type,
        expected_version: update.expected_version,
    }
}

impl Session<'_> {
    pub(super) fn thing(&mut self, command: &Thing) -> Result<(), CtlError> {
        match command {
            Thing::Create {
                name,
                thing_type,
                attributes,
            } => {
                let request = Request::ThingCreate(p::ThingCreate {
                    name: name.clone(),
                    thing_type: thing_type.clone(),
                    attributes: attributes.iter().cloned().collect(),
                });
                self.ask_and_show(&request, show::thing)
            }
            Thing::List(query) => {
                let (name, value) = match query.attribute.as_deref().map(|a| a.split_once('=')) {
                    None => (None, None),
                    Some(None) => (query.attribute.clone(), None),
                    Some(Some((name, value))) => (Some(name.to_owned()), Some(value.to_owned())),
                };
                let request = Request::ThingList(p::ThingList {
                    thing_type: query.thing_type.clone(),
                    attribute_name: name,
                    attribute_value: value,
                });
                self.ask_and_list(&request, show::things)
            }
            Thing::Describe(t) => self.ask_and_show(&Request::ThingDescribe(named(t)), show::thing),
            Thing::Update(change) => {
                self.ask_and_show(&Request::ThingUpdate(update(change)), show::thing)
            }
            Thing::Delete {
                thing,
                expected_version,
            } => {
                let request = Request::ThingDelete(p::ThingDelete {
                    name: thing.name.clone(),
                    expected_version: *expected_version,
                });
                self.ask_and_say(&request, "deleted")
            }
            Thing::Attach(principal) => {
                self.ask_and_say(&Request::ThingAttach(attachment(principal)), "attached")
            }
            Thing::Detach(principal) => {
                self.ask_and_say(&Request::ThingDetach(attachment(principal)), "detached")
            }
        }
    }

    pub(super) fn thing_type(&mut self, command: &ThingType) -> Result<(), CtlError> {
        match command {
            ThingType::Create {
                name,
                description,
                searchable,
            } => {
                let request = Request::ThingTypeCreate(p::ThingTypeCreate {
                    name: name.clone(),
                    description: description.clone(),
                    searchable_attributes: searchable.clone(),
                });
                self.ask_and_show(&request, show::thing_type)
            }
            ThingType::List => self.ask_and_list(&Request::ThingTypeList, show::thing_types),
            ThingType::Describe(t) => {
                self.ask_and_show(&Request::ThingTypeDescribe(type_named(t)), show::thing_type)
            }
            ThingType::Deprecate(t) => self.ask_and_show(&deprecate(t, false), show::thing_type),
            ThingType::Undo(t) => self.ask_and_show(&deprecate(t, true), show::thing_type),
            ThingType::Delete(t) => {
                self.ask_and_say(&Request::ThingTypeDelete(type_named(t)), "deleted")
            }
        }
    }
}
