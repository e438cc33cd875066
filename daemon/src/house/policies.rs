//! Which policies the configuration gives to whom, and whether they are there.

use std::collections::HashMap;
use std::sync::Arc;

use iotedge_identity::Identity;

use super::Problems;
use crate::authority::Configured;
use crate::config::{Config, ListenerConfig};

/// The policies of listeners whose clients have none of their own, by the listener's address.
fn listener_policies(config: &Config) -> HashMap<Arc<str>, Arc<str>> {
    config
        .listeners
        .iter()
        .filter_map(|listener| {
            let policy = listener.auth.policy()?;
            Some((Arc::from(listener.address.to_string()), Arc::from(policy)))
        })
        .collect()
}

/// What the configuration gives to whom.
pub(super) fn configured(config: &Config) -> Configured {
    Configured {
        listeners: listener_policies(config),
        users: config
            .users
            .iter()
            .map(|user| (user.name.clone(), user.policies.clone()))
            .collect(),
    }
}

/// The policies of users, and of the listeners that are open, as the new configuration has them; a
/// listener that moves or goes keeps its own until the restart.
pub(super) fn running_policies(running: &Config, new: &Config) -> Configured {
    let open = open_listeners(running, new);
    let policy = |listener: &ListenerConfig| {
        let policy = listener.auth.policy()?;
        Some((Arc::from(listener.address.to_string()), Arc::from(policy)))
    };
    Configured {
        listeners: open.into_iter().filter_map(policy).collect(),
        ..configured(new)
    }
}

/// The listeners that are open, each as the new configuration has it, or as it was when it moves or
/// goes.
pub(super) fn open_listeners<'c>(running: &'c Config, new: &'c Config) -> Vec<&'c ListenerConfig> {
    let kind = |listener: &ListenerConfig| listener.auth.clone().without_policy();
    let same = |old: &'c ListenerConfig| {
        let mut all = new.listeners.iter();
        all.find(|new| new.address == old.address && kind(new) == kind(old))
    };
    let all = running.listeners.iter();
    all.map(|old| same(old).unwrap_or(old)).collect()
}

pub(super) fn stored_policy(identity: &Identity, name: &str) -> bool {
    identity
        .snapshot()
        .policy(name)
        .is_some_and(|p| p.origin == iotedge_identity::PolicyOrigin::Store)
}

pub(super) fn check_policies(config: &Config, identity: &Identity) -> Result<(), Problems> {
    check_configured(config, |name| identity.snapshot().policy(name).is_some())
}

pub(super) fn check_configured(
    config: &Config,
    known: impl Fn(&str) -> bool,
) -> Result<(), Problems> {
    let no_policy = |policy: &str| {
        format!(
            "there is no policy {policy:?}, neither in {} nor in the store",
            config.policies_dir.display()
        )
    };
    let users = config.users.iter().flat_map(|user| {
        let place = user.place.as_ref().map(ToString::to_string);
        let unknown = user.policies.iter().filter(|name| !known(name));
        unknown.map(move |name| (place.clone().unwrap_or_default(), name))
    });
    let users = users.map(|(place, name)| format!("{place}: user.policy: {}", no_policy(name)));
    let listeners = config
        .listeners
        .iter()
        .filter_map(|listener| match listener.auth.policy() {
            Some(policy) if !known(policy) => {
                let place = listener
                    .place
                    .as_ref()
                    .map(ToString::to_string)
                    .unwrap_or_default();
                Some(format!("{place}: listener.policy: {}", no_policy(policy)))
            }
            _ => None,
        });
    let problems: Problems = listeners.chain(users).collect();
    if problems.is_empty() {
        Ok(())
    } else {
        Err(problems)
    }
}
