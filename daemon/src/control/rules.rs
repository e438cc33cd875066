//! Topic rules.

use std::collections::BTreeMap;

use iotedge_rules::{CatalogError, Rule, RuleOrigin};

use super::Answer;
use crate::ctl::protocol::{Failure, Reply, RuleCreate, RuleInfo};
use crate::house::Rooms;

pub(super) fn list(rooms: &Rooms) -> Reply {
    let rules = rooms.engine.rules();
    let all: Vec<RuleInfo> = rules.iter().map(|rule| info(rooms, rule, false)).collect();
    Reply::ok(&all)
}

pub(super) fn show(rooms: &Rooms, name: &str) -> Answer {
    find(rooms, name, true)
}

pub(super) fn put(rooms: &Rooms, create: &RuleCreate) -> Answer {
    rooms
        .rules
        .put(&create.name, &create.document, create.replace)
        .map_err(|e| failure(&e))?;
    find(rooms, &create.name, false)
}

pub(super) fn enable(rooms: &Rooms, name: &str, enabled: bool) -> Answer {
    rooms
        .rules
        .set_enabled(name, enabled)
        .map_err(|e| failure(&e))?;
    find(rooms, name, false)
}

pub(super) fn delete(rooms: &Rooms, name: &str) -> Answer {
    rooms.rules.delete(name).map_err(|e| failure(&e))?;
    Ok(Reply::done())
}

fn failure(error: &CatalogError) -> Failure {
    let reason = match error {
        CatalogError::Invalid(_) | CatalogError::TooLong => "invalid",
        CatalogError::Exists(_) | CatalogError::InBoth { .. } => "exists",
        CatalogError::NotFound(_) => "not-found",
        CatalogError::OfFile { .. } | CatalogError::TooMany => "refused",
        CatalogError::Store(_) => "failed",
    };
    Failure::new(reason, error.to_string())
}

fn find(rooms: &Rooms, name: &str, text: bool) -> Answer {
    match rooms.rules.find(name) {
        Some(rule) => Ok(Reply::ok(&info(rooms, &rule, text))),
        None => Err(failure(&CatalogError::NotFound(name.to_owned()))),
    }
}

fn info(rooms: &Rooms, rule: &Rule, text: bool) -> RuleInfo {
    let counts = rule.counts();
    let file = match rooms.rules.origin(rule.name()) {
        Some(RuleOrigin::File(file)) => Some(file),
        Some(RuleOrigin::Store) | None => None,
    };
    RuleInfo {
        rule_name: rule.name().to_string(),
        sql: rule.sql().to_owned(),
        topic_pattern: rule.topic_pattern().unwrap_or_default().to_owned(),
        rule_disabled: !rule.is_enabled(),
        origin: if file.is_some() { "file" } else { "store" }.to_owned(),
        file,
        aws_iot_sql_version: rule.sql_version().to_string(),
        description: rule.description().map(str::to_owned),
        topic_rule_payload: text.then(|| rule.document().to_owned()),
        warnings: rule.warnings().to_vec(),
        actions: rule.action_names(),
        counts: BTreeMap::from([
            ("topic_matched".to_owned(), counts.topic_matched),
            ("executed".to_owned(), counts.executed),
            ("succeeded".to_owned(), counts.succeeded),
            ("failed_sql".to_owned(), counts.failed_sql),
            ("failed_template".to_owned(), counts.failed_template),
            ("failed_topic".to_owned(), counts.failed_topic),
            ("failed_action".to_owned(), counts.failed_action),
        ]),
    }
}
