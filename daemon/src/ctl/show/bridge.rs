//! The bridge as people read it.

use std::io::{self, Write};

use iotedge_model::UnixMillis;

use crate::ctl::protocol::{
    BridgeStatus, BridgeTested, ConflictInfo, QueueInfo, RouteStatus, UpstreamStatus,
};
use crate::ctl::text::{bytes, counts, plain, span, table, time};

pub(super) fn upstreams(
    upstreams: &[UpstreamStatus],
    now: UnixMillis,
    out: &mut dyn Write,
) -> io::Result<()> {
    let rows: Vec<_> = upstreams
        .iter()
        .map(|u| {
            let retry = match u.next_retry {
                Some(at) => format!("in {}", span(at.0.saturating_sub(now.0) / 1000)),
                None => "-".to_owned(),
            };
            [
                u.name.clone(),
                u.url.clone(),
                u.state.clone(),
                time(u.since),
                retry,
                u.reason.clone(),
            ]
        })
        .collect();
    let header = ["UPSTREAM", "URL", "STATE", "SINCE", "RETRY", "REASON"];
    table(out, header, &rows, "no upstreams")?;
    for u in upstreams {
        if let (Some(spent), Some(limit)) = (u.day_bytes, u.daily_bytes) {
            let (spent, limit) = (bytes(spent), bytes(limit));
            writeln!(
                out,
                "{} has spent {spent} of today's {limit}",
                plain(&u.name)
            )?;
        }
    }
    let routes: Vec<_> = routes(upstreams)
        .map(|(u, r)| {
            [
                format!("{}/{}", u.name, r.name),
                r.accepted.to_string(),
                r.delivered.to_string(),
                r.queued.to_string(),
                bytes(r.queued_bytes),
                r.resent.to_string(),
                counts(&r.dropped),
            ]
        })
        .collect();
    if routes.is_empty() {
        return synchronised(upstreams, out);
    }
    writeln!(out)?;
    let header = [
        "ROUTE",
        "ACCEPTED",
        "DELIVERED",
        "QUEUED",
        "BYTES",
        "RESENT",
        "DROPPED",
    ];
    table(out, header, &routes, "")?;
    synchronised(upstreams, out)
}

fn synchronised(upstreams: &[UpstreamStatus], out: &mut dyn Write) -> io::Result<()> {
    let rows: Vec<_> = upstreams
        .iter()
        .filter_map(|u| Some((u, u.shadows?)))
        .map(|(u, s)| {
            [
                u.name.clone(),
                s.shadows.to_string(),
                s.in_step.to_string(),
                s.refused.to_string(),
                s.sent.to_string(),
                s.conflicts.to_string(),
                s.failures.to_string(),
            ]
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let header = [
        "SHADOWS OF",
        "ALL",
        "IN STEP",
        "REFUSED",
        "SENT",
        "CONFLICTS",
        "FAILURES",
    ];
    table(out, header, &rows, "")
}

pub(in crate::ctl) fn conflicts(all: &[ConflictInfo], out: &mut dyn Write) -> io::Result<()> {
    let value = |value: &Option<serde_json::Value>| match value {
        None => "nothing".to_owned(),
        Some(value) => value.to_string(),
    };
    let mut rows = Vec::new();
    for conflict in all {
        rows.push([
            time(UnixMillis(conflict.at)),
            conflict.upstream.clone(),
            conflict.shadow.clone(),
            conflict.text.clone(),
        ]);
        for leaf in &conflict.leaves {
            let (kept, lost) = match leaf.local_won {
                true => (&leaf.local, &leaf.cloud),
                false => (&leaf.cloud, &leaf.local),
            };
            let side = if leaf.local_won { "here" } else { "the cloud" };
            rows.push([
                String::new(),
                String::new(),
                String::new(),
                format!(
                    "{}: {} of {side} stands, {} is lost",
                    leaf.path,
                    value(kept),
                    value(lost)
                ),
            ]);
        }
    }
    table(
        out,
        ["TIME", "UPSTREAM", "SHADOW", "WHAT"],
        &rows,
        "no conflicts",
    )
}

fn routes(upstreams: &[UpstreamStatus]) -> impl Iterator<Item = (&UpstreamStatus, &RouteStatus)> {
    upstreams
        .iter()
        .flat_map(|u| u.routes.iter().map(move |r| (u, r)))
}

pub(in crate::ctl) fn bridge(status: &BridgeStatus, out: &mut dyn Write) -> io::Result<()> {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis());
    let now = UnixMillis(u64::try_from(now).unwrap_or(u64::MAX));
    upstreams(&status.upstreams, now, out)?;
    let written = written(status.written_bytes, status.messages);
    writeln!(out, "\nstore {written}")
}

/// What was written to the disk, and what that comes to for each message.
pub(super) fn written(all: u64, messages: u64) -> String {
    let all_of_it = bytes(all);
    match all.checked_div(messages) {
        Some(each) => format!("{all_of_it} written, {each} bytes for each of {messages} messages"),
        None => format!("{all_of_it} written"),
    }
}

pub(in crate::ctl) fn bridge_test(tested: &BridgeTested, out: &mut dyn Write) -> io::Result<()> {
    let rows: Vec<_> = tested
        .steps
        .iter()
        .map(|step| {
            [
                step.layer.clone(),
                if step.ok { "ok" } else { "FAILS" }.to_owned(),
                format!("{} ms", step.millis),
                step.text.clone(),
            ]
        })
        .collect();
    table(
        out,
        ["LAYER", "RESULT", "TOOK", "FOUND"],
        &rows,
        "nothing to test",
    )
}

pub(in crate::ctl) fn queues(all: &[QueueInfo], out: &mut dyn Write) -> io::Result<()> {
    let rows: Vec<_> = all
        .iter()
        .map(|q| {
            [
                format!("{}/{}", q.upstream, q.route),
                q.queued.to_string(),
                bytes(q.queued_bytes),
                q.oldest_at.map_or_else(|| "-".into(), time),
                q.dead_letters.to_string(),
            ]
        })
        .collect();
    let header = ["ROUTE", "QUEUED", "BYTES", "OLDEST", "DEAD"];
    table(out, header, &rows, "no outbound routes")?;
    let heads = all.iter().flat_map(|q| q.heads.iter().map(move |h| (q, h)));
    let heads: Vec<_> = heads
        .map(|(q, head)| {
            [
                format!("{}/{}", q.upstream, q.route),
                time(head.accepted_at),
                head.topic.clone(),
                bytes(head.bytes),
                head.qos.to_string(),
                head.client_id.clone(),
            ]
        })
        .collect();
    if heads.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let header = ["ROUTE", "ACCEPTED", "TOPIC", "BYTES", "QOS", "CLIENT"];
    table(out, header, &heads, "")
}
