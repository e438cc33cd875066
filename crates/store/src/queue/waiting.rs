//! What waits in memory while the disk is full, without what later ones make needless: clients come
//! and go meanwhile, and each leaves something to be written.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, ToSql};

use super::Op;
use crate::TakerId;
use crate::types::id_column;
use crate::writer::Job;

/// What is kept of one session: places among all.
#[derive(Default)]
struct Session {
    /// Its record.
    record: Option<usize>,
    /// All since it was removed last.
    places: Vec<usize>,
    removed: bool,
}

/// The same effect by fewer operations. Wills that were not written, and takers of sessions that
/// began and ended meanwhile, are not in the file and need not be removed from it.
pub(super) fn compact(
    jobs: Vec<Job<Op>>,
    connection: &Connection,
    known: &HashSet<TakerId>,
) -> Vec<Job<Op>> {
    let mut waiting = Waiting {
        passing: passing(&jobs, known),
        connection,
        sessions: HashMap::new(),
        kept: Vec::with_capacity(jobs.len()),
    };
    for job in jobs {
        if job.done.is_some() {
            waiting.kept.push(Some(job));
        } else {
            waiting.take(job);
        }
    }
    waiting.kept.into_iter().flatten().collect()
}

/// Takers that are made and removed by these very operations.
fn passing(jobs: &[Job<Op>], known: &HashSet<TakerId>) -> HashSet<TakerId> {
    let made = jobs.iter().filter_map(|job| match &job.op {
        Op::CreateTaker { id, .. } if !known.contains(id) => Some(*id),
        _ => None,
    });
    let made: HashSet<TakerId> = made.collect();
    let removed = jobs.iter().filter_map(|job| match &job.op {
        Op::RemoveTaker { id, .. } => Some(*id),
        Op::RemoveSession { taker, .. } => *taker,
        _ => None,
    });
    removed.filter(|id| made.contains(id)).collect()
}

struct Waiting<'a> {
    passing: HashSet<TakerId>,
    connection: &'a Connection,
    sessions: HashMap<Arc<str>, Session>,
    kept: Vec<Option<Job<Op>>>,
}

impl Waiting<'_> {
    /// Whether the file has a row; what can not be read is left to be written.
    fn has(&self, sql: &str, key: &dyn ToSql) -> bool {
        let found = self
            .connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.query_row([key], |_| Ok(())).optional());
        !matches!(found, Ok(None))
    }

    fn take(&mut self, job: Job<Op>) {
        let is_needed = match &job.op {
            Op::CreateTaker { id, .. } | Op::RemoveTaker { id, .. } => !self.passing.contains(id),
            Op::RemoveWill { id } => self.has("SELECT 1 FROM wills WHERE id = ?1", &id_column(*id)),
            Op::RemoveSession { client_id, taker } => self.ends(client_id, *taker),
            Op::PutSession(session) => {
                let client = session.client_id.as_str().into();
                let place = self.kept.len();
                let session = self.sessions.entry(client).or_default();
                let earlier = session
                    .record
                    .and_then(|at| self.kept.get_mut(at)?.as_mut());
                if let Some(earlier) = earlier {
                    // What came after it may rest on it: the newest record takes its place.
                    earlier.op = job.op;
                    return;
                }
                session.record = Some(place);
                session.places.push(place);
                true
            }
            Op::PutSubscription { client_id, .. } => self.note(client_id.as_str()),
            Op::RemoveSubscription { client_id, .. } => self.note(client_id),
            _ => true,
        };
        if is_needed {
            self.kept.push(Some(job));
        }
    }

    /// What comes next is of this session.
    fn note(&mut self, client: &str) -> bool {
        let place = self.kept.len();
        let session = self.sessions.entry(client.into()).or_default();
        session.places.push(place);
        true
    }

    /// A session ends: nothing of it is written any more. Whether there is anything to remove.
    fn ends(&mut self, client: &Arc<str>, taker: Option<TakerId>) -> bool {
        let session = self.sessions.entry(client.clone()).or_default();
        session.record = None;
        for place in std::mem::take(&mut session.places) {
            if let Some(place) = self.kept.get_mut(place) {
                *place = None;
            }
        }
        let removed = std::mem::replace(&mut session.removed, true);
        let passes = taker.is_some_and(|taker| self.passing.contains(&taker));
        // What was there before it goes already, or was not there either.
        !passes || (!removed && self.has("SELECT 1 FROM sessions WHERE client_id = ?1", client))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use bytes::Bytes;
    use iotedge_model::{ClientId, Message, MessageId, Principal, QoS, Topic, UnixMillis};

    use super::*;
    use crate::{SessionRecord, TakerKind, WillRecord, file, schema};
    use iotedge_model::DropReason;

    const OLD: TakerId = TakerId(1);

    fn put(client: &str, taker: TakerId, waited: u64) -> Op {
        Op::PutSession(Box::new(SessionRecord {
            client_id: ClientId::new(client).unwrap(),
            taker,
            principal: Arc::new(Principal::service("test")),
            protocol_level: 4,
            expiry: 60,
            identifier: 0,
            created_at: UnixMillis(0),
            ended_at: None,
            ended_trusted: false,
            waited,
            subscriptions: Vec::new(),
            unreleased: Vec::new(),
        }))
    }

    fn remove(client: &str, taker: Option<TakerId>) -> Op {
        let client_id = Arc::from(client);
        Op::RemoveSession { client_id, taker }
    }

    fn make(id: TakerId) -> Op {
        let (kind, name) = (TakerKind::Session, Arc::from("x"));
        Op::CreateTaker { id, kind, name }
    }

    fn unsubscribe(client: &str) -> Op {
        let (client_id, text) = (Arc::from(client), Arc::from("a"));
        Op::RemoveSubscription { client_id, text }
    }

    fn job(op: Op) -> Job<Op> {
        let (cost, at) = (op.cost(), Instant::now());
        Job {
            op,
            done: None,
            cost,
            urgent: false,
            at,
        }
    }

    /// What is left, in short. The file has the session `old` and the will 1.
    fn left(ops: Vec<Op>) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let connection = file::open(&dir.path().join("queue.db"), &schema::QUEUE).unwrap();
        let topic = Topic::new("t").unwrap();
        let mut message = Message::internal("test", topic, Bytes::new(), QoS::AtLeastOnce);
        message.id = MessageId(1);
        let will = WillRecord { delay: 0, message };
        let mut memory = super::super::memory::Memory::default();
        let mut batch = super::super::batch::Batch::new(&connection, &mut memory, 0);
        for op in [make(OLD), put("old", OLD, 0), Op::PutWill(Box::new(will))] {
            batch.apply(&op).unwrap();
        }
        batch.finish().unwrap();
        let jobs = ops.into_iter().map(job).collect();
        let told = |job: &Job<Op>| match &job.op {
            Op::CreateTaker { id, .. } => format!("make {}", id.0),
            Op::PutSession(s) => format!("put {} {}", s.client_id.as_str(), s.waited),
            Op::RemoveSession { client_id, .. } => format!("remove {client_id}"),
            Op::RemoveSubscription { client_id, .. } => format!("unsubscribe {client_id}"),
            Op::RemoveWill { id } => format!("no will {}", id.0),
            other => format!("{other:?}"),
        };
        let kept = compact(jobs, &connection, &memory.known);
        kept.iter().map(told).collect()
    }

    #[test]
    fn the_newest_record_of_a_session_takes_the_place_of_the_first() {
        let mut ops = vec![put("old", OLD, 0), unsubscribe("old"), unsubscribe("b")];
        ops.extend((1..1000).map(|n| put("old", OLD, n)));
        assert_eq!(
            left(ops),
            ["put old 999", "unsubscribe old", "unsubscribe b"]
        );
    }

    #[test]
    fn nothing_is_written_of_a_session_that_ends() {
        let ops = vec![
            put("old", OLD, 1),
            unsubscribe("old"),
            remove("old", Some(OLD)),
            put("old", TakerId(7), 2),
        ];
        assert_eq!(left(ops), ["remove old", "put old 2"]);
    }

    #[test]
    fn sessions_that_came_and_went_leave_nothing() {
        let mut ops = Vec::new();
        for n in 2..1000 {
            let taker = TakerId(n);
            ops.extend([
                make(taker),
                put("new", taker, n),
                remove("new", Some(taker)),
            ]);
        }
        assert_eq!(left(ops), [""; 0]);
        // One before them is to be removed once.
        let mut ops = Vec::new();
        for n in 2..1000 {
            let taker = TakerId(n);
            ops.extend([
                remove("old", Some(taker)),
                make(taker),
                put("old", taker, n),
            ]);
        }
        ops.push(remove("old", Some(TakerId(999))));
        assert_eq!(left(ops), ["remove old"]);
    }

    #[test]
    fn a_will_that_was_not_written_is_not_removed() {
        let ops = (0..1000).map(|id| Op::RemoveWill { id: MessageId(id) });
        assert_eq!(left(ops.collect()), ["no will 1"]);
        let reason = DropReason::TakerRemoved;
        let made = vec![
            make(TakerId(3)),
            Op::RemoveTaker {
                id: TakerId(3),
                reason,
            },
        ];
        assert_eq!(left(made), [""; 0]);
    }
}
