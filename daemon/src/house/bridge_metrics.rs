//! What each upstream and each of its routes does, in Prometheus text.

use std::collections::BTreeMap;

use iotedge_ports::{LinkState, RouteStatus, UpstreamStatus};

use super::lines::Lines;

/// Every state of a link, so that each has a series from the start on.
const STATES: [(LinkState, &str); 9] = [
    (LinkState::Resolving, "resolving"),
    (LinkState::Connecting, "connecting"),
    (LinkState::Handshaking, "handshaking"),
    (LinkState::Connected, "connected"),
    (LinkState::Degraded, "degraded"),
    (LinkState::BackingOff, "backing-off"),
    (LinkState::Paused, "paused"),
    (LinkState::Misconfigured, "misconfigured"),
    (LinkState::Stopped, "stopped"),
];

/// Name, kind and help of a metric, and its value.
type Of<T> = (
    &'static str,
    &'static str,
    &'static str,
    fn(&T) -> Option<u64>,
);

const UPSTREAM: [Of<UpstreamStatus>; 6] = [
    (
        "upstream_connected",
        "gauge",
        "1 while the link is connected or degraded",
        |u| {
            let up = matches!(u.state, LinkState::Connected | LinkState::Degraded);
            Some(u64::from(up))
        },
    ),
    (
        "upstream_connects_total",
        "counter",
        "Connections that came to CONNACK",
        |u| Some(u.connects),
    ),
    (
        "upstream_sent_bytes_total",
        "counter",
        "Bytes sent, TLS included, without TCP's and IP's headers",
        |u| Some(u.bytes_sent),
    ),
    (
        "upstream_received_bytes_total",
        "counter",
        "Bytes received, likewise",
        |u| Some(u.bytes_received),
    ),
    (
        "upstream_day_bytes",
        "gauge",
        "Bytes of today that count for daily_bytes",
        |u| u.day_bytes,
    ),
    ("upstream_daily_limit_bytes", "gauge", "daily_bytes", |u| {
        u.daily_bytes
    }),
];

const ROUTE: [Of<RouteStatus>; 5] = [
    (
        "route_accepted_total",
        "counter",
        "Messages that a route has taken in",
        |r| Some(r.accepted),
    ),
    (
        "route_delivered_total",
        "counter",
        "Messages that the other side has acknowledged",
        |r| Some(r.delivered),
    ),
    (
        "route_resent_total",
        "counter",
        "Messages sent again after a lost connection",
        |r| Some(r.resent),
    ),
    ("route_queued", "gauge", "Messages that wait", |r| {
        Some(r.queued)
    }),
    ("route_queued_bytes", "gauge", "Their bytes", |r| {
        Some(r.queued_bytes)
    }),
];

/// All of it; nothing where there are no upstreams. `dead`: dead letters by `upstream/route`.
pub(super) fn render(upstreams: &[UpstreamStatus], dead: Option<&BTreeMap<String, u64>>) -> String {
    if upstreams.is_empty() {
        return String::new();
    }
    let mut text = states(upstreams);
    for (name, kind, help, value) in UPSTREAM {
        let mut lines = Lines::new(name, kind, help);
        let mut any = false;
        for upstream in upstreams {
            if let Some(value) = value(upstream) {
                lines.line(name, &[("upstream", &upstream.name)], value);
                any = true;
            }
        }
        if any {
            text.push_str(&lines.text);
        }
    }
    for (name, kind, help, value) in ROUTE {
        let mut lines = Lines::new(name, kind, help);
        for (upstream, route) in routes(upstreams) {
            if let Some(value) = value(route) {
                lines.line(name, &labels(upstream, route), value);
            }
        }
        text.push_str(&lines.text);
    }
    text.push_str(&drops(upstreams));
    if let Some(dead) = dead {
        text.push_str(&dead_letters(upstreams, dead));
    }
    text
}

fn routes(all: &[UpstreamStatus]) -> impl Iterator<Item = (&UpstreamStatus, &RouteStatus)> {
    all.iter()
        .flat_map(|upstream| upstream.routes.iter().map(move |route| (upstream, route)))
}

fn labels<'a>(upstream: &'a UpstreamStatus, route: &'a RouteStatus) -> [(&'a str, &'a str); 3] {
    [
        ("upstream", &upstream.name),
        ("route", &route.name),
        ("direction", route.direction),
    ]
}

fn states(upstreams: &[UpstreamStatus]) -> String {
    let name = "upstream_state";
    let mut lines = Lines::new(name, "gauge", "1 for the state that the link is in");
    for upstream in upstreams {
        for (state, text) in STATES {
            let of = [("upstream", &*upstream.name), ("state", text)];
            lines.line(name, &of, u64::from(upstream.state == state));
        }
    }
    lines.text
}

fn drops(upstreams: &[UpstreamStatus]) -> String {
    let name = "route_dropped_total";
    let mut lines = Lines::new(name, "counter", "Messages that a route has lost, by reason");
    for (upstream, route) in routes(upstreams) {
        for (reason, n) in &route.dropped {
            let [upstream, route, direction] = labels(upstream, route);
            lines.line(name, &[upstream, route, direction, ("reason", reason)], n);
        }
    }
    lines.text
}

fn dead_letters(upstreams: &[UpstreamStatus], dead: &BTreeMap<String, u64>) -> String {
    let name = "route_dead_letters";
    let mut lines = Lines::new(name, "gauge", "Dead letters that are kept");
    for (upstream, route) in routes(upstreams).filter(|(_, route)| route.direction == "out") {
        let count = dead.get(&format!("{}/{}", upstream.name, route.name));
        let of = [("upstream", &*upstream.name), ("route", &*route.name)];
        lines.line(name, &of, count.unwrap_or(&0));
    }
    lines.text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use iotedge_model::UnixMillis;

    use super::*;

    fn upstream(name: &str) -> UpstreamStatus {
        UpstreamStatus {
            name: Arc::from(name),
            url: "mqtt://h".into(),
            state: LinkState::BackingOff,
            reason: "none".into(),
            since: UnixMillis(0),
            next_retry: None,
            connects: 3,
            bytes_sent: 1,
            bytes_received: 2,
            daily_bytes: (name == "one").then_some(1000),
            day_bytes: (name == "one").then_some(10),
            paused: None,
            routes: vec![RouteStatus {
                name: Arc::from("out:t/#"),
                direction: "out",
                filter: "t/#".into(),
                accepted: 7,
                delivered: 4,
                queued: 1,
                queued_bytes: 9,
                dropped: [("expired".to_owned(), 2)].into(),
                resent: 0,
            }],
        }
    }

    #[test]
    fn routes_of_one_name_are_series_of_their_upstreams() {
        let dead = [("two/out:t/#".to_owned(), 5)].into();
        let text = render(&[upstream("one"), upstream("two")], Some(&dead));
        let mut seen = BTreeSet::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (series, _) = line.rsplit_once(' ').unwrap();
            assert!(seen.insert(series), "twice: {series}");
        }
        for line in [
            "iotedge_route_accepted_total{upstream=\"two\",route=\"out:t/#\",direction=\"out\"} 7",
            "iotedge_route_dropped_total{upstream=\"one\",route=\"out:t/#\",direction=\"out\",reason=\"expired\"} 2",
            "iotedge_route_dead_letters{upstream=\"one\",route=\"out:t/#\"} 0",
            "iotedge_route_dead_letters{upstream=\"two\",route=\"out:t/#\"} 5",
            "iotedge_upstream_state{upstream=\"one\",state=\"backing-off\"} 1",
            "iotedge_upstream_state{upstream=\"one\",state=\"connected\"} 0",
            "iotedge_upstream_day_bytes{upstream=\"one\"} 10",
            "# TYPE iotedge_route_dropped_total counter",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(!text.contains("day_bytes{upstream=\"two\"}"));
        let types = text.lines().filter(|line| line.starts_with("# TYPE "));
        let names: Vec<_> = types.collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        assert_eq!(render(&[], None), "");
    }
}
