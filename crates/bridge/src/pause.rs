//! An operator's pause. It is kept, for who pauses a link for its costs means the next start, too.

use std::sync::mpsc;

use iotedge_ports::Pause;
use iotedge_store::{Documents, Done, Expect};

/// What holds the pause of an upstream; its name has no slash.
fn key(upstream: &str) -> String {
    format!("{upstream}/paused")
}

/// The pause of an earlier start. What cannot be read as one still pauses: nobody has undone it.
pub(crate) fn read(kept: &Documents, upstream: &str) -> Option<Pause> {
    match kept.get(&key(upstream)) {
        Ok(document) => document.map(|document| {
            serde_json::from_slice(&document.body).unwrap_or_else(|_| Pause {
                since: document.updated_at,
                by: "an operator".into(),
            })
        }),
        Err(error) => {
            tracing::error!(
                event = iotedge_telemetry::event::UPSTREAM,
                upstream,
                %error,
                "whether an operator has paused the link could not be read"
            );
            None
        }
    }
}

/// Keeps a pause, or its end; returns after the commit.
pub(crate) fn write(kept: &Documents, upstream: &str, pause: Option<&Pause>) -> Result<(), String> {
    let (tell, told) = mpsc::sync_channel(1);
    let done: Done = Box::new(move |outcome| drop(tell.send(outcome)));
    let key = key(upstream);
    let put = match pause {
        Some(pause) => {
            let body = serde_json::to_vec(pause).map_err(|e| e.to_string())?;
            kept.put(&key, body, Expect::Any, Some(done)).map(drop)
        }
        None => kept.delete(&key, Expect::Any, Some(done)).map(drop),
    };
    put.map_err(|e| e.to_string())?;
    match told.recv() {
        Ok(outcome) => outcome.map_err(|e| e.to_string()),
        Err(_) => Err("the store gave no answer".into()),
    }
}
