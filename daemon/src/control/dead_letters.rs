//! Dead letters: of rules' actions and of routes.

use std::sync::mpsc;

use iotedge_rules::Work;
use iotedge_store::{DeadLetter, DeadLetterError, TakerKind};

use super::Answer;
use crate::ctl::protocol::{self as p, Base64, DeadLetterInfo, Failure, Reply};
use crate::house::Rooms;

/// Rows read at once.
const PAGE: usize = 100;

pub(super) fn list(rooms: &Rooms, list: &p::DeadLetterList) -> Answer {
    let limit = list.limit as usize;
    let mut found = Vec::new();
    let mut after = list.after;
    while found.len() < limit {
        let page = rooms.store.dead_letters(after, PAGE).map_err(failed)?;
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        let wanted = page.iter().filter(|l| is_of(l, list));
        found.extend(wanted.map(|letter| info(letter, false)));
    }
    found.truncate(limit);
    Ok(Reply::ok(&found))
}

fn kind(letter: &DeadLetter) -> String {
    format!("{:?}", letter.kind).to_lowercase()
}

/// Whether it died in this queue, or in one of this rule or upstream.
fn is_of(letter: &DeadLetter, asked: &p::DeadLetterList) -> bool {
    if asked.kind.as_ref().is_some_and(|k| *k != kind(letter)) {
        return false;
    }
    let Some(queue) = asked.queue.as_deref() else {
        return true;
    };
    let rest = letter.taker.strip_prefix(queue);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

pub(super) fn show(rooms: &Rooms, id: u64) -> Answer {
    let found = match id.checked_sub(1) {
        Some(before) => rooms.store.dead_letters(Some(before), 1).map_err(failed)?,
        None => Vec::new(),
    };
    match found.iter().find(|letter| letter.id == id) {
        Some(letter) => Ok(Reply::ok(&info(letter, true))),
        None => Err(absent(id)),
    }
}

pub(super) fn replay(rooms: &Rooms, id: u64) -> Answer {
    let (tell, told) = mpsc::sync_channel(1);
    let done = Box::new(move |outcome| drop(tell.send(outcome)));
    rooms.broker.revive(id, done).map_err(|error| match error {
        DeadLetterError::Absent { id } => absent(id),
        DeadLetterError::NoTaker { .. } => Failure::new("refused", error.to_string()),
        DeadLetterError::Store(error) => failed(error),
    })?;
    committed(&told)
}

pub(super) fn drop_one(rooms: &Rooms, id: u64) -> Answer {
    // Says that there is none.
    show(rooms, id)?;
    let (tell, told) = mpsc::sync_channel(1);
    let done = Box::new(move |outcome| drop(tell.send(outcome)));
    rooms.store.remove_dead(id, Some(done));
    committed(&told)
}

fn committed(told: &mpsc::Receiver<Result<(), iotedge_store::StoreError>>) -> Answer {
    match told.recv() {
        Ok(Ok(())) => Ok(Reply::done()),
        Ok(Err(error)) => Err(failed(error)),
        Err(_) => Err(Failure::new("failed", "the store gave no answer")),
    }
}

fn absent(id: u64) -> Failure {
    Failure::new("not-found", format!("there is no dead letter {id}"))
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::new("failed", error.to_string())
}

fn info(letter: &DeadLetter, whole: bool) -> DeadLetterInfo {
    let message = &letter.message;
    let work = match letter.kind {
        TakerKind::Outbox => Work::decode(&message.payload),
        _ => None,
    };
    let action = work.as_ref();
    let action = action.and_then(|work| serde_json::to_value(&work.task).ok());
    let body = work.as_ref().map_or(&message.payload, |work| &work.body);
    let original = work.as_ref().map(|work| Base64(work.original.to_vec()));
    DeadLetterInfo {
        id: letter.id,
        kind: kind(letter),
        queue: letter.taker.to_string(),
        reason: letter.reason.to_string(),
        died_at: letter.died_at,
        accepted_at: message.accepted_at,
        topic: message.topic.as_str().to_owned(),
        client_id: message.client_id.to_string(),
        trace_id: message.trace.to_string(),
        body: whole.then(|| Base64(body.to_vec())),
        original: original.filter(|_| whole),
        action,
    }
}
