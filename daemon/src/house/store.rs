//! The store at the start: what a former run left in it.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use iotedge_model::DropReason;
use iotedge_store::{Opened, Options as StoreOptions, Store, TakerKind};
use iotedge_telemetry::{METRICS, event};

use super::{Fatal, Problems, convert, problem};
use crate::config::Config;

/// Opens it in the data directory, which is made where there is none.
pub(super) fn open(config: &Config, fatal: &Arc<Fatal>) -> Result<(Store, Opened), Problems> {
    make_directory(&config.data_dir)?;
    let (store, opened) = open_store(config, fatal.clone())?;
    report_salvage(&opened);
    remove_orphans(&store, &opened, config);
    Ok((store, opened))
}

fn make_directory(path: &Path) -> Result<(), Problems> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(path)
        .map_err(|e| problem(format!("data_dir {}: {e}", path.display())))
}

/// How old counters of messages that were never written may be after a crash, where commits wait
/// for company.
const COUNTERS_LAG: Duration = Duration::from_secs(1);

fn open_store(config: &Config, fatal: Arc<Fatal>) -> Result<(Store, Opened), Problems> {
    let options = StoreOptions {
        linger: config.store.linger,
        lag: if config.store.linger.is_zero() {
            Duration::ZERO
        } else {
            COUNTERS_LAG
        },
        max_bytes: config.store.max_bytes,
        min_free_disk: config.store.min_free_disk,
        on_fatal: Some(Arc::new(move |error| {
            let _ = fatal.reason.set(error.to_string());
            fatal.notify.notify_waiters();
        })),
    };
    Store::open(&config.data_dir, options).map_err(problem)
}

/// Queues that nobody reads any more: routes that are gone from the configuration, and sessions
/// whose record did not come through a kill. What waits in them is counted as dropped.
fn remove_orphans(store: &Store, opened: &Opened, config: &Config) {
    let routes: HashSet<String> = convert::route_names(config);
    for taker in &opened.takers {
        let orphan = match taker.kind {
            TakerKind::Route => !routes.contains(&*taker.name),
            TakerKind::Session => !opened.sessions.iter().any(|s| s.taker == taker.id),
            TakerKind::Outbox | TakerKind::Shared => false,
        };
        if orphan {
            tracing::warn!(
                event = event::STORE,
                taker = %taker.name,
                queued = taker.account.queued,
                "nobody reads this queue any more; it is removed"
            );
            METRICS.dropped(DropReason::TakerRemoved, taker.account.queued);
            store.remove_taker(taker.id, DropReason::TakerRemoved, None);
        }
    }
}

fn report_salvage(opened: &Opened) {
    for salvage in &opened.damaged {
        tracing::error!(
            event = event::STORE,
            file = salvage.file,
            set_aside = %salvage.set_aside.display(),
            lost_rows = salvage.lost_rows,
            recovered = ?salvage.recovered,
            incomplete = ?salvage.incomplete,
            "a damaged file was set aside and what could be read was brought over: {}",
            salvage.reason
        );
    }
}
