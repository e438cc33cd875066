//! What the admin listener says.

use iotedge_ports::UpstreamPort as _;
use iotedge_store::TakerKind;
use iotedge_telemetry::{Gauge, METRICS};

use super::Rooms;
use crate::admin::Health;

impl Health for Rooms {
    fn metrics(&self) -> String {
        let broker = self.broker.status();
        let plain = |name, value| Gauge {
            name,
            label: None,
            value,
        };
        let mut gauges = vec![
            plain("clients_connected", broker.connected as u64),
            plain("sessions", broker.sessions as u64),
            plain("subscriptions", broker.subscriptions as u64),
            plain("retained_messages", broker.retained as u64),
            plain("session_messages_queued", broker.queued),
            plain("store_bytes", self.store.used_bytes()),
            plain("store_written_bytes", self.store.written_bytes()),
            plain("store_messages", self.store.stored_messages()),
        ];
        for synchroniser in &self.synchronisers {
            let status = synchroniser.status();
            for (name, value) in [
                ("shadow_sync_shadows", status.shadows as u64),
                ("shadow_sync_in_step", status.in_step as u64),
                ("shadow_sync_refused", status.refused as u64),
                ("shadow_sync_left_out", status.left_out),
                ("shadow_sync_requests", status.requests),
                ("shadow_sync_sent", status.sent),
                ("shadow_sync_merged", status.merged),
                ("shadow_sync_refusals", status.refusals),
                ("shadow_sync_conflicts", status.conflicts),
                ("shadow_sync_failures", status.failures),
            ] {
                gauges.push(Gauge {
                    name,
                    label: Some(("upstream", synchroniser.upstream().to_owned())),
                    value,
                });
            }
        }
        let dead = self.store.dead_counts(TakerKind::Route);
        METRICS.render(&gauges)
            + &super::bridge_metrics::render(&self.bridge.status(), dead.as_ref().ok())
            + &super::rule_metrics::render(self)
    }

    fn trouble(&self) -> Option<String> {
        self.store.health().err().map(|e| e.to_string())
    }

    fn ready(&self) -> bool {
        self.is_started()
    }
}
