//! Answers as people read them.

mod bridge;

use std::io::{self, Write};

use iotedge_model::UnixMillis;
use serde_json::Value;

use super::protocol::{
    CertificateInfo, DeadLetterInfo, PolicyInfo, PolicyVersionInfo, Reloaded, RuleInfo, ShadowInfo,
    Status, ThingGroupInfo, ThingInfo, ThingTypeInfo,
};
use super::text::{bytes, counts, list, plain, span, table, time};

pub(super) use bridge::{bridge, bridge_test, conflicts, queues};

use bridge::{upstreams, written};

/// A JSON document, with room to read.
pub(super) fn json(value: &Value, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{value:#}")
}

pub(super) fn status(status: &Status, out: &mut dyn Write) -> io::Result<()> {
    let clock = if status.time_trusted {
        ""
    } else {
        " (not trusted)"
    };
    writeln!(
        out,
        "{} {}, pid {}, up {}, {}{clock}",
        plain(&status.thing_name),
        plain(&status.version),
        status.pid,
        span(status.uptime),
        time(status.time),
    )?;
    writeln!(
        out,
        "clients {}, sessions {}, subscriptions {}, retained {}, queued {}",
        status.clients, status.sessions, status.subscriptions, status.retained, status.queued
    )?;
    let store = &status.store;
    let health = match (&store.reason, store.healthy) {
        (_, true) => String::new(),
        (Some(reason), false) => format!(": {}", plain(reason)),
        (None, false) => ": takes no messages".to_owned(),
    };
    writeln!(
        out,
        "store {} of {}, {}{health}",
        bytes(store.used_bytes),
        bytes(store.max_bytes),
        written(store.written_bytes, store.messages)
    )?;
    writeln!(out, "dropped {}", counts(&status.dropped))?;
    writeln!(out)?;
    let rows: Vec<_> = status
        .listeners
        .iter()
        .map(|l| [l.protocol.clone(), l.address.clone(), l.auth.clone()])
        .collect();
    table(out, ["LISTENER", "ADDRESS", "AUTH"], &rows, "no listeners")?;
    if !status.outboxes.is_empty() {
        writeln!(out)?;
        let rows: Vec<_> = status
            .outboxes
            .iter()
            .map(|o| {
                [
                    o.name.clone(),
                    o.queued.to_string(),
                    bytes(o.queued_bytes),
                    o.trouble.clone().unwrap_or_default(),
                ]
            })
            .collect();
        let header = ["OUTBOX", "QUEUED", "BYTES", "TRIED AGAIN FOR"];
        table(out, header, &rows, "no outboxes")?;
    }
    if !status.serial.is_empty() {
        writeln!(out)?;
        let rows: Vec<_> = status
            .serial
            .iter()
            .map(|s| {
                let state = match &s.reason {
                    Some(reason) => format!("{}: {reason}", s.state),
                    None => s.state.clone(),
                };
                let lines = [s.lines.to_string(), s.errors.to_string()];
                let [lines, errors] = lines;
                [s.name.clone(), s.path.clone(), lines, errors, state]
            })
            .collect();
        let header = ["SERIAL", "PATH", "LINES", "ERRORS", "STATE"];
        table(out, header, &rows, "")?;
    }
    if status.upstreams.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    upstreams(&status.upstreams, status.time, out)
}

pub(super) fn certificates(all: &[CertificateInfo], out: &mut dyn Write) -> io::Result<()> {
    let rows: Vec<_> = all
        .iter()
        .map(|c| {
            [
                c.certificate_id.clone(),
                c.status.clone(),
                c.name.clone(),
                list(&c.policies),
            ]
        })
        .collect();
    let header = ["CERTIFICATE", "STATUS", "NAME", "POLICIES"];
    table(out, header, &rows, "no certificates")
}

pub(super) fn certificate(c: &CertificateInfo, out: &mut dyn Write) -> io::Result<()> {
    let valid = |seconds: i64| time(UnixMillis(u64::try_from(seconds).unwrap_or(0) * 1000));
    fields(
        out,
        &[
            ("certificate", c.certificate_id.clone()),
            ("arn", c.certificate_arn.clone()),
            ("name", c.name.clone()),
            ("status", c.status.clone()),
            ("origin", c.origin.clone()),
            ("subject", c.subject.clone()),
            ("issuer", c.issuer.clone()),
            (
                "ca",
                c.ca_certificate_id.clone().unwrap_or_else(|| "-".into()),
            ),
            ("serial number", c.serial_number.clone()),
            ("valid from", valid(c.not_before)),
            ("valid to", valid(c.not_after)),
            ("here since", time(c.creation_date)),
            ("policies", list(&c.policies)),
            ("things", list(&c.things)),
        ],
    )?;
    match &c.certificate_pem {
        Some(pem) => writeln!(out, "{}", pem.trim_end()),
        None => Ok(()),
    }
}

pub(super) fn certificate_status(c: &CertificateInfo, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{} {}", plain(&c.certificate_id), plain(&c.status))
}

pub(super) fn fields(out: &mut dyn Write, fields: &[(&str, String)]) -> io::Result<()> {
    fields
        .iter()
        .try_for_each(|(name, value)| writeln!(out, "{name:14}{}", plain(value)))
}

pub(super) fn policies(all: &[PolicyInfo], out: &mut dyn Write) -> io::Result<()> {
    let rows: Vec<_> = all
        .iter()
        .map(|policy| {
            [
                policy.policy_name.clone(),
                policy.origin.clone(),
                policy.version.to_string(),
                policy.attachments.to_string(),
            ]
        })
        .collect();
    let header = ["POLICY", "ORIGIN", "VERSION", "ATTACHED"];
    table(out, header, &rows, "no policies")
}

/// The document alone, so that it can be sent into a file.
pub(super) fn policy(policy: &PolicyInfo, out: &mut dyn Write) -> io::Result<()> {
    let text = policy.policy_document.as_deref().unwrap_or_default();
    writeln!(out, "{}", text.trim_end())
}

pub(super) fn policy_created(policy: &PolicyInfo, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "{} version {}",
        plain(&policy.policy_name),
        policy.version
    )?;
    policy
        .warnings
        .iter()
        .try_for_each(|warning| writeln!(out, "remark: {}", plain(warning)))
}

pub(super) fn policy_versions(all: &[PolicyVersionInfo], out: &mut dyn Write) -> io::Result<()> {
    let rows: Vec<_> = all
        .iter()
        .map(|v| {
            let default = if v.is_default_version { "default" } else { "" };
            let number = v.version_id.to_string();
            [number, default.to_owned(), time(v.create_date)]
        })
        .collect();
    table(out, ["VERSION", "IN FORCE", "MADE"], &rows, "no versions")
}

/// The document alone, so that it can be sent into a file.
pub(super) fn policy_version(v: &PolicyVersionInfo, out: &mut dyn Write) -> io::Result<()> {
    let text = v.policy_document.as_deref().unwrap_or_default();
    writeln!(out, "{}", text.trim_end())
}

pub(super) fn policy_version_created(v: &PolicyVersionInfo, out: &mut dyn Write) -> io::Result<()> {
    let force = match v.is_default_version {
        true => "in force",
        false => "not in force",
    };
    writeln!(out, "version {}, {force}", v.version_id)?;
    v.warnings
        .iter()
        .try_for_each(|warning| writeln!(out, "remark: {}", plain(warning)))
}

pub(super) fn thing_types(all: &[ThingTypeInfo], out: &mut dyn Write) -> io::Result<()> {
    let rows: Vec<_> = all
        .iter()
        .map(|t| {
            let searchable = list(&t.thing_type_properties.searchable_attributes);
            let since = t.thing_type_metadata.deprecation_date;
            let deprecated = since.map_or_else(|| "-".to_owned(), time);
            [t.thing_type_name.clone(), deprecated, searchable]
        })
        .collect();
    let header = ["TYPE", "DEPRECATED", "SEARCHABLE"];
    table(out, header, &rows, "no thing types")
}

pub(super) fn thing_type(t: &ThingTypeInfo, out: &mut dyn Write) -> io::Result<()> {
    let (properties, metadata) = (&t.thing_type_properties, &t.thing_type_metadata);
    let mut lines = vec![
        ("thing type", t.thing_type_name.clone()),
        ("arn", t.thing_type_arn.clone()),
    ];
    if let Some(description) = &properties.thing_type_description {
        lines.push(("description", description.clone()));
    }
    lines.push(("searchable", list(&properties.searchable_attributes)));
    lines.push(("made", time(metadata.creation_date)));
    if let Some(since) = metadata.deprecation_date {
        lines.push(("deprecated", time(since)));
    }
    fields(out, &lines)
}

pub(super) fn shadows(all: &[ShadowInfo], out: &mut dyn Write) -> io::Result<()> {
    let rows: Vec<_> = all
        .iter()
        .map(|s| {
            let name = s.name.clone().unwrap_or_else(|| "(classic)".into());
            [s.thing.clone(), name, s.version.to_string()]
        })
        .collect();
    table(out, ["THING", "SHADOW", "VERSION"], &rows, "no shadows")
}

pub(super) fn things(all: &[ThingInfo], out: &mut dyn Write) -> io::Result<()> {
    let rows: Vec<_> = all
        .iter()
        .map(|t| {
            let principals = t.principals.len().to_string();
            let thing_type = t.thing_type_name.clone().unwrap_or_else(|| "-".to_owned());
            [
                t.thing_name.clone(),
                thing_type,
                t.version.to_string(),
                principals,
            ]
        })
        .collect();
    table(
        out,
        ["THING", "TYPE", "VERSION", "CERTIFICATES"],
        &rows,
        "no things",
    )
}

pub(super) fn thing(t: &ThingInfo, out: &mut dyn Write) -> io::Result<()> {
    let mut lines = vec![
        ("thing", t.thing_name.clone()),
        ("arn", t.thing_arn.clone()),
        ("version", t.version.to_string()),
    ];
    if let Some(name) = &t.thing_type_name {
        lines.push(("type", name.clone()));
    }
    for (name, value) in &t.attributes {
        lines.push(("attribute", format!("{name}={value}")));
    }
    for id in &t.principals {
        lines.push(("certificate", id.clone()));
    }
    for group in &t.thing_groups {
        lines.push(("group", group.clone()));
    }
    fields(out, &lines)
}

pub(super) fn thing_groups(all: &[ThingGroupInfo], out: &mut dyn Write) -> io::Result<()> {
    let rows: Vec<_> = all
        .iter()
        .map(|g| {
            let parent = g.parents.first().cloned();
            [
                g.thing_group_name.clone(),
                parent.unwrap_or_else(|| "-".to_owned()),
                list(&g.policies),
            ]
        })
        .collect();
    table(out, ["GROUP", "IN", "POLICIES"], &rows, "no thing groups")
}

pub(super) fn thing_group(g: &ThingGroupInfo, out: &mut dyn Write) -> io::Result<()> {
    let mut lines = vec![
        ("thing group", g.thing_group_name.clone()),
        ("arn", g.thing_group_arn.clone()),
    ];
    if let Some(description) = &g.description {
        lines.push(("description", description.clone()));
    }
    lines.push(("made", time(g.creation_date)));
    lines.extend(g.parents.iter().map(|parent| ("in", parent.clone())));
    lines.extend(g.policies.iter().map(|policy| ("policy", policy.clone())));
    let things = g.things.iter().flatten();
    lines.extend(things.map(|thing| ("thing", thing.clone())));
    fields(out, &lines)
}

pub(super) fn dead_letters(all: &[DeadLetterInfo], out: &mut dyn Write) -> io::Result<()> {
    let rows: Vec<_> = all
        .iter()
        .map(|letter| {
            [
                letter.id.to_string(),
                letter.queue.clone(),
                time(letter.died_at),
                letter.topic.clone(),
                letter.reason.clone(),
            ]
        })
        .collect();
    let header = ["ID", "QUEUE", "GIVEN UP", "TOPIC", "REASON"];
    table(out, header, &rows, "no dead letters")
}

pub(super) fn dead_letter(letter: &DeadLetterInfo, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "id        {}", letter.id)?;
    writeln!(out, "queue     {} ({})", letter.queue, letter.kind)?;
    writeln!(out, "reason    {}", letter.reason)?;
    writeln!(out, "given up  {}", time(letter.died_at))?;
    writeln!(out, "accepted  {}", time(letter.accepted_at))?;
    writeln!(out, "topic     {}", letter.topic)?;
    writeln!(out, "client    {}", letter.client_id)?;
    writeln!(out, "trace     {}", letter.trace_id)?;
    if let Some(action) = &letter.action {
        writeln!(out, "action    {action}")?;
    }
    let body = letter.body.as_ref().map_or(&[][..], |body| &body.0);
    writeln!(out, "body      {}", String::from_utf8_lossy(body))
}

pub(super) fn rules(all: &[RuleInfo], out: &mut dyn Write) -> io::Result<()> {
    let rows: Vec<_> = all
        .iter()
        .map(|rule| {
            let state = if rule.rule_disabled {
                "disabled"
            } else {
                "enabled"
            };
            [
                rule.rule_name.clone(),
                rule.origin.clone(),
                state.to_owned(),
                rule.topic_pattern.clone(),
                list(&rule.actions),
                counts(&rule.counts),
            ]
        })
        .collect();
    let header = ["RULE", "ORIGIN", "STATE", "TOPICS", "ACTIONS", "COUNTS"];
    table(out, header, &rows, "no rules")
}

/// The document alone, so that it can be sent into a file.
pub(super) fn rule(rule: &RuleInfo, out: &mut dyn Write) -> io::Result<()> {
    let text = rule.topic_rule_payload.as_deref().unwrap_or_default();
    writeln!(out, "{}", text.trim_end())
}

/// That a rule is in force, or kept out of it.
pub(super) fn rule_state(rule: &RuleInfo, out: &mut dyn Write) -> io::Result<()> {
    let state = if rule.rule_disabled {
        "disabled"
    } else {
        "enabled"
    };
    writeln!(out, "{} {state}", plain(&rule.rule_name))?;
    rule.warnings
        .iter()
        .try_for_each(|warning| writeln!(out, "remark: {}", plain(warning)))
}

pub(super) fn reloaded(reloaded: &Reloaded, out: &mut dyn Write) -> io::Result<()> {
    if reloaded.changes.is_empty() {
        return writeln!(out, "nothing has changed");
    }
    reloaded
        .changes
        .iter()
        .try_for_each(|change| writeln!(out, "{}", plain(change)))
}
