//! `[upstream.shadows]`: which shadows are kept together with the upstream's.

use std::collections::HashSet;
use std::time::Duration;

use iotedge_shadow::core::sync::Direction as Way;
use iotedge_shadow::sync::{Pattern, Selection, Settings};

use super::{Direction, RouteConfig, UpstreamConfig};
use crate::config::Place;
use crate::config::section::Section;

/// Subscriptions that AWS IoT gives a connection.
pub(super) const SUBSCRIPTIONS: usize = 50;

/// `[upstream.shadows]`.
#[derive(Debug, Clone, PartialEq)]
pub struct ShadowsConfig {
    /// As the room takes it, without the upstream's name.
    pub settings: Settings,
    /// Where each selection stands.
    pub(crate) places: Vec<Place>,
}

pub(super) fn read(upstream: &Section<'_>, routes: &[RouteConfig]) -> Option<ShadowsConfig> {
    if !upstream.has("shadows") {
        return None;
    }
    let section = upstream.table("shadows");
    let (mut selections, mut places) = (Vec::new(), Vec::new());
    let tables = section.tables("select");
    if tables.is_empty() {
        section.wrong("select", "at least one is needed: which shadows?");
    }
    for table in tables {
        if let Some(selection) = select(&table) {
            check_routes(&table, &selection, routes);
            selections.push(selection);
            places.push(table.place().clone());
        }
        table.finish();
    }
    let seconds = Duration::from_secs;
    let wildcard = section.flag("wildcard").unwrap_or(false);
    let inbound = routes.iter().filter(|r| r.direction == Direction::In);
    let left = SUBSCRIPTIONS.saturating_sub(inbound.count()).max(1);
    let max_subscriptions = section.number("max_subscriptions", 1..=10_000);
    if wildcard && max_subscriptions.is_some() {
        section.wrong(
            "max_subscriptions",
            "says nothing with wildcard = true, which takes two",
        );
    }
    let max_subscriptions = max_subscriptions.and_then(|n| usize::try_from(n).ok());
    let rate = section.number("rate", 1..=1_000);
    let settings = Settings {
        upstream: String::new(),
        peer: String::new(),
        selections,
        rate: rate.and_then(|n| u32::try_from(n).ok()).unwrap_or(10),
        max_subscriptions: max_subscriptions.unwrap_or(left),
        wildcard,
        answer_timeout: section
            .duration("answer_timeout", seconds(1)..=seconds(600))
            .unwrap_or(seconds(20)),
        refresh: section
            .duration("refresh", seconds(10)..=seconds(7 * 86_400))
            .unwrap_or(seconds(3_600)),
    };
    section.finish();
    Some(ShadowsConfig { settings, places })
}

fn select(section: &Section<'_>) -> Option<Selection> {
    section.need("thing");
    let thing = section.parsed("thing", str::parse::<Pattern>);
    let classic = section.flag("classic").unwrap_or(true);
    let mut named = Vec::new();
    for name in section.texts("named").unwrap_or_default() {
        match name.parse::<Pattern>() {
            Ok(_) if name.len() > 64 => section.wrong("named", "a shadow's name has at most 64"),
            Ok(pattern) => named.push(pattern),
            Err(why) => section.wrong("named", format!("{name:?}: {why}")),
        }
    }
    let ways = [("both", Way::Both), ("up", Way::Up), ("down", Way::Down)];
    let direction = section.choice("direction", &ways).unwrap_or_default();
    let interval = section
        .duration("interval", Duration::ZERO..=Duration::from_secs(86_400))
        .unwrap_or_default();
    let selection = Selection {
        thing: thing?,
        classic,
        named,
        direction,
        interval,
    };
    if let Err(why) = Settings::check([&selection]) {
        section.wrong("classic", why.to_string());
    }
    Some(selection)
}

/// A route that carries the same topics would do it all a second time, and without asking.
fn check_routes(section: &Section<'_>, selection: &Selection, routes: &[RouteConfig]) {
    let thing = match selection.thing.is_exact() {
        true => selection.thing.as_str(),
        false => "+",
    };
    for route in routes {
        let prefix = match route.direction {
            Direction::In => &route.remote_prefix,
            Direction::Out if route.local_prefix == route.remote_prefix => &route.local_prefix,
            Direction::Out => continue,
        };
        let filter = format!("{prefix}{}", route.filter);
        if overlap(&filter, &format!("$aws/things/{thing}/shadow/#")) {
            section.wrong(
                "thing",
                format!(
                    "the route {:?} carries topics of the same shadows; take one of both out",
                    route.name
                ),
            );
        }
    }
}

/// Whether both filters match some topic (MQTT 3.1.1, 4.7).
pub(super) fn overlap(a: &str, b: &str) -> bool {
    if a.starts_with('$') != b.starts_with('$') {
        return false;
    }
    let (mut a, mut b) = (a.split('/'), b.split('/'));
    loop {
        match (a.next(), b.next()) {
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some(x), Some(y)) if x == y || x == "+" || y == "+" => {}
            _ => return false,
        }
    }
}

/// No shadow belongs to two selections, of whatever upstreams: it has one counterpart.
pub(super) fn check(root: &Section<'_>, upstreams: &[UpstreamConfig]) {
    let all: Vec<(&Selection, &Place)> = upstreams
        .iter()
        .filter_map(|upstream| upstream.shadows.as_ref())
        .flat_map(|shadows| shadows.settings.selections.iter().zip(&shadows.places))
        .collect();
    let mut told = HashSet::new();
    for (at, (selection, place)) in all.iter().enumerate() {
        for (first, before) in all.iter().take(at) {
            if first.overlaps(selection) && told.insert(at) {
                root.note(
                    place,
                    "upstream.shadows.select",
                    format!("selects some of the shadows that the one at {before} selects"),
                );
            }
        }
    }
}

impl ShadowsConfig {
    /// Subscriptions on the link, at most.
    pub(super) fn subscriptions(&self) -> usize {
        match self.settings.wildcard {
            true => 2,
            false => self.settings.max_subscriptions,
        }
    }

    /// For the upstream of this name and at this host. What is known of shadows belongs to both.
    pub(super) fn of(mut self, name: &str, host: &str) -> Self {
        name.clone_into(&mut self.settings.upstream);
        self.settings.peer = format!("{name}@{host}");
        self
    }
}
