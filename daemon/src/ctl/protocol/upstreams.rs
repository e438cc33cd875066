//! From the bridge's own words to the protocol's.

use super::{RouteStatus, UpstreamStatus};

impl From<&iotedge_ports::UpstreamStatus> for UpstreamStatus {
    fn from(status: &iotedge_ports::UpstreamStatus) -> Self {
        use iotedge_ports::LinkState as S;
        Self {
            name: status.name.to_string(),
            url: status.url.clone(),
            state: match status.state {
                S::Resolving => "resolving",
                S::Connecting => "connecting",
                S::Handshaking => "handshaking",
                S::Connected => "connected",
                S::Degraded => "degraded",
                S::BackingOff => "backing-off",
                S::Paused => "paused",
                S::Misconfigured => "misconfigured",
                S::Stopped => "stopped",
            }
            .to_owned(),
            reason: status.reason.clone(),
            since: status.since,
            next_retry: status.next_retry,
            connects: status.connects,
            bytes_sent: status.bytes_sent,
            bytes_received: status.bytes_received,
            daily_bytes: status.daily_bytes,
            day_bytes: status.day_bytes,
            paused: status.paused.clone(),
            routes: status.routes.iter().map(RouteStatus::from).collect(),
            shadows: None,
        }
    }
}

impl From<&iotedge_ports::RouteStatus> for RouteStatus {
    fn from(route: &iotedge_ports::RouteStatus) -> Self {
        Self {
            name: route.name.to_string(),
            direction: route.direction.to_owned(),
            filter: route.filter.clone(),
            accepted: route.accepted,
            delivered: route.delivered,
            queued: route.queued,
            queued_bytes: route.queued_bytes,
            dropped: route.dropped.clone(),
            resent: route.resent,
        }
    }
}
