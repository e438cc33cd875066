//! `[[upstream.route]]`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use iotedge_bridge::{Direction, Idempotency, Template, Version};
use iotedge_model::{ClientId, QoS, Topic, TopicFilter};
use iotedge_ports::{FreshOrder, FreshRule, OnFull, RouteRules};

use super::super::Place;
use super::super::section::Section;
use super::plain_name;
use super::shadows::overlap;

/// `[[upstream.route]]`. Topics lose the prefix of the side they come from and get the other's; the
/// filter is what is between.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteConfig {
    /// Its name within the upstream; default: direction, local prefix and filter. Its queue lives
    /// under it.
    pub name: String,
    /// Which way.
    pub direction: Direction,
    /// What it carries, without prefixes.
    pub filter: TopicFilter,
    /// Highest QoS.
    pub qos: QoS,
    /// Put before topics here.
    pub local_prefix: String,
    /// Put before topics there.
    pub remote_prefix: String,
    /// Makes the topic on the other side, in place of its prefix.
    pub topic: Option<Template>,
    /// What happens when the queue is full.
    pub on_full: OnFull,
    /// Byte limit of the queue (`out`).
    pub max_bytes: u64,
    /// Message limit of the queue (`out`).
    pub max_messages: u64,
    /// Its part of the link beside other routes (`out`): 0 to 9.
    pub priority: u8,
    /// How messages wait.
    pub rules: RouteRules,
    /// Whether the RETAIN flag is carried.
    pub keep_retain: bool,
    /// Whether payloads are compressed (`out`).
    pub compress: bool,
    /// Whether payloads are decompressed (`in`).
    pub decompress: bool,
    /// Where messages carry a key of their own (`out`).
    pub idempotency: Option<Idempotency>,
}

/// Keys that only an outbound route has.
const OUT: [&str; 12] = [
    "on_full",
    "max_bytes",
    "max_messages",
    "priority",
    "ttl",
    "order",
    "fresh_share",
    "not_from",
    "compress",
    "idempotency_key",
    "remote_topic",
    "send_retained",
];
/// Keys that only an inbound route has.
const IN: [&str; 3] = ["decompress", "local_topic", "take_retained"];
/// The longest that a message may be told to wait.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

pub(super) fn routes(upstream: &Section<'_>, version: Version) -> Vec<RouteConfig> {
    let mut names: BTreeMap<String, Place> = BTreeMap::new();
    let mut routes = Vec::new();
    let mut inbound: Vec<(String, String, Place)> = Vec::new();
    for section in upstream.tables("route") {
        if let Some(route) = route(&section, version) {
            if let Some(filter) = check_filters(&section, &route) {
                let overlaps = |(other, _, _): &&(String, String, Place)| overlap(other, &filter);
                if let Some((_, name, first)) = inbound.iter().find(overlaps) {
                    let reason = format!(
                        "takes some of the same topics of the upstream as the route {name:?} at \
                         {first}: a message comes once, and one of the two would never have it"
                    );
                    section.wrong("filter", reason);
                }
                let place = section.place_of("filter");
                inbound.push((filter, route.name.clone(), place));
            }
            if let Some(first) = names.get(&route.name) {
                let key = if section.has("name") {
                    "name"
                } else {
                    "filter"
                };
                let reason = format!(
                    "two routes are called {:?}, the first at {first}; give one a `name` of its own",
                    route.name
                );
                section.wrong(key, reason);
            }
            names.insert(route.name.clone(), section.place().clone());
            routes.push(route);
        }
        section.finish();
    }
    routes
}

/// Whether the prefixes and the filter make filters on both sides; that of the upstream, of an inbound
/// route.
fn check_filters(section: &Section<'_>, route: &RouteConfig) -> Option<String> {
    let mut good = true;
    let sides = [
        ("local_prefix", &route.local_prefix),
        ("remote_prefix", &route.remote_prefix),
    ];
    let [here, there] = sides.map(|(key, prefix)| {
        let whole = format!("{prefix}{}", route.filter);
        if let Err(reason) = TopicFilter::new(&whole) {
            section.wrong(key, format!("makes no filter of {whole:?}: {reason}"));
            good = false;
        }
        whole
    });
    let (from, key) = match route.direction {
        Direction::Out => (&here, "remote_topic"),
        Direction::In => (&there, "local_topic"),
    };
    if route.direction == Direction::Out && here.starts_with("$share/") {
        let reason = "a shared subscription is nothing for routes with direction = \"out\": the \
                      route has each message once";
        section.wrong("filter", reason);
    }
    if let Some(template) = &route.topic {
        // `#` stands for any number of levels.
        let levels = (!from.ends_with('#')).then(|| from.split('/').count());
        if let (Some(levels), Some(asked)) = (levels, template.highest_level()) {
            if asked > levels {
                section.wrong(key, format!("{from:?} has no level {asked}"));
            }
        }
    }
    (good && route.direction == Direction::In).then_some(there)
}

fn route(section: &Section<'_>, version: Version) -> Option<RouteConfig> {
    section.need("direction");
    section.need("filter");
    let directions = [("out", Direction::Out), ("in", Direction::In)];
    let direction = section.choice("direction", &directions);
    let filter = section.parsed("filter", TopicFilter::new);
    let qos = match section.has("qos") {
        true => section.number("qos", 0..=1).map(|n| {
            if n == 0 {
                QoS::AtMostOnce
            } else {
                QoS::AtLeastOnce
            }
        }),
        false => Some(QoS::AtLeastOnce),
    };
    let local_prefix = prefix(section, "local_prefix");
    let remote_prefix = prefix(section, "remote_prefix");
    let topic = match direction {
        Some(Direction::In) => template(section, "local_topic", "local_prefix"),
        _ => template(section, "remote_topic", "remote_prefix"),
    };
    let on_full = section.choice(
        "on_full",
        &[
            ("reject", OnFull::Reject),
            ("drop-oldest", OnFull::DropOldest),
            ("drop-new", OnFull::DropNew),
        ],
    );
    let max_bytes = section.size("max_bytes", 1 << 16..=1 << 50);
    let max_messages = section.number("max_messages", 1..=1 << 40);
    let priority = section.number("priority", 0..=9).unwrap_or(4);
    let rules = rules(section, direction == Some(Direction::In));
    if rules.raise_qos && qos == Some(QoS::AtMostOnce) {
        section.wrong("raise_qos", "needs qos = 1");
    }
    let retains = [("keep", true), ("clear", false)];
    let keep_retain = section.choice("retain", &retains).unwrap_or(true);
    let compress = section.choice("compress", &[("off", false), ("gzip", true)]);
    let decompress = section.flag("decompress").unwrap_or(false);
    let idempotency = section.parsed("idempotency_key", idempotency);
    if idempotency == Some(Idempotency::Property) && version == Version::V3 {
        let reason =
            "\"property\" needs mqtt_version = \"5\" of the upstream; 3.1.1 has no properties";
        section.wrong("idempotency_key", reason);
    }
    check_direction(section, direction);
    let given = section.parsed("name", plain_name);
    let (direction, filter) = (direction?, filter?);
    let name = given.unwrap_or_else(|| format!("{}:{local_prefix}{filter}", direction.as_str()));
    Some(RouteConfig {
        name,
        direction,
        filter,
        qos: qos?,
        local_prefix,
        remote_prefix,
        topic,
        on_full: on_full.unwrap_or_default(),
        max_bytes: max_bytes.unwrap_or(1 << 30),
        max_messages: max_messages.unwrap_or(10_000_000),
        priority: u8::try_from(priority).unwrap_or(9),
        rules,
        keep_retain,
        compress: compress.unwrap_or(false),
        decompress,
        idempotency,
    })
}

/// No key is for the other way.
fn check_direction(section: &Section<'_>, direction: Option<Direction>) {
    let (others, only) = match direction {
        Some(Direction::In) => (&OUT[..], "is only for routes with direction = \"out\""),
        Some(Direction::Out) => (&IN[..], "is only for routes with direction = \"in\""),
        None => return section.known(OUT.iter().chain(&IN)),
    };
    for key in others.iter().copied() {
        section.misplaced(key, only);
    }
}

fn rules(section: &Section<'_>, inbound: bool) -> RouteRules {
    let ttl = section.duration("ttl", Duration::from_secs(1)..=LONGEST);
    let orders = [
        ("route", None),
        ("topic", Some(FreshOrder::Topic)),
        ("none", Some(FreshOrder::Lane)),
    ];
    let order = section.choice("order", &orders).flatten();
    let share = section.number("fresh_share", 1..=99);
    if section.has("fresh_share") && order.is_none() {
        let reason = "needs order = \"topic\" or order = \"none\": fresh messages pass others then";
        section.wrong("fresh_share", reason);
    }
    let share = share.and_then(|n| u8::try_from(n).ok()).unwrap_or(50);
    let (retained, default) = match inbound {
        true => ("take_retained", true),
        false => ("send_retained", false),
    };
    let not_from = section.texts("not_from").unwrap_or_default();
    for id in &not_from {
        if let Err(reason) = ClientId::new(id) {
            section.wrong("not_from", format!("{id:?} is no client id: {reason}"));
        }
    }
    RouteRules {
        ttl,
        fresh: order.map(|order| FreshRule { share, order }),
        raise_qos: section.flag("raise_qos").unwrap_or(false),
        not_from: not_from.into_iter().map(Arc::from).collect(),
        send_retained: section.flag(retained).unwrap_or(default),
        ..RouteRules::default()
    }
}

fn template(section: &Section<'_>, key: &'static str, prefix: &'static str) -> Option<Template> {
    if section.has(key) && section.has(prefix) {
        section.wrong(
            key,
            format!("stands in the place of {prefix}: one of the two"),
        );
    }
    section.parsed(key, Template::parse)
}

fn idempotency(text: &str) -> Result<Idempotency, &'static str> {
    match text.split_once(':') {
        None if text == "property" => Ok(Idempotency::Property),
        Some(("json", name)) if !name.is_empty() => Ok(Idempotency::Json(Arc::from(name))),
        _ => Err("is \"property\" or \"json:NAME\", with the name of a member of JSON objects"),
    }
}

/// A prefix is the beginning of topics: no wildcards.
fn prefix(section: &Section<'_>, key: &'static str) -> String {
    section
        .parsed(key, |text| match text.is_empty() {
            true => Ok(String::new()),
            false => Topic::check(text).map(|()| text.to_owned()),
        })
        .unwrap_or_default()
}
