use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use iotedge_model::{ClientId, DropReason, MessageId, Topic, UnixMillis};

use crate::documents::engine::StateEngine;
use crate::documents::{Documents, Overlay, StateFile};
use crate::file::{DirectoryLock, Journal};
use crate::queue::engine::QueueEngine;
use crate::queue::memory::Memory;
use crate::queue::mirror::{Mirror, signed};
use crate::queue::read::Readers;
use crate::queue::{Burial, Op, Settled, batch, dead, read};
use crate::schema::{QUEUE, STATE};
use crate::space::Space;
use crate::writer::{Job, Writer};
use crate::{
    Account, Append, DeadLetter, DeadLetterError, Depth, Done, Opened, Options, QueuedRow,
    SessionRecord, StoreError, SubscriptionRecord, TakerId, TakerInfo, TakerKind, WillRecord,
    backup, salvage,
};

/// The part of `store.max_bytes` that dead letters may have: enough to see what went wrong, too
/// little to keep out what waits.
const DEAD_SHARE: u64 = 16;

/// Both files of a data directory. Cheap to clone; the last clone to go commits what waits.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    queue: Writer<Op>,
    readers: Readers,
    mirror: Arc<Mutex<Mirror>>,
    state: Arc<StateFile>,
    space: Arc<Space>,
    dir: PathBuf,
    // Last, so that the directory is free only when both writers are done.
    _lock: DirectoryLock,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.close();
        self.state.writer.close();
    }
}

impl Store {
    /// Opens `queue.db` and `state.db` in `dir`, which must exist. A damaged file is set aside and
    /// salvaged; so is an empty one in a directory that was in use.
    ///
    /// # Errors
    /// [`StoreError::Busy`], [`StoreError::Newer`], [`StoreError::Foreign`], [`StoreError::Io`],
    /// and [`StoreError::DiskFull`] when not even opening finds room.
    pub fn open(dir: &Path, options: Options) -> Result<(Self, Opened), StoreError> {
        let lock = DirectoryLock::take(dir)?;
        let space = Arc::new(Space::new(dir, options.max_bytes, options.min_free_disk));
        let mut opened = Opened::default();
        let used = salvage::was_used(dir);

        let path = dir.join(QUEUE.file);
        let (connection, found) = salvage::open_queue(&path, used, &mut opened)?;
        let mirror = Mirror::new(&opened.takers, &found.removed, found.next_taker);
        let mirror = Arc::new(Mutex::new(mirror));
        opened.next_message_id = found.next_message_id;
        space.committed(&connection, &path);
        let engine = QueueEngine {
            connection,
            mirror: mirror.clone(),
            space: space.clone(),
            memory: Memory {
                known: opened.takers.iter().map(|t| t.id).collect(),
                reserved: found.next_message_id.saturating_add(batch::ID_BLOCK),
                ..Memory::default()
            },
            lag: options.lag,
            max_dead_bytes: options.max_bytes / DEAD_SHARE,
            full: false,
            journal: Journal::default(),
            path: path.clone(),
        };
        let readers = Readers::new(&path, options.on_fatal.clone());
        let times = (options.linger, options.lag);
        let queue = Writer::start(&path, times, options.on_fatal.clone(), engine)?;

        let path = dir.join(STATE.file);
        let connection = salvage::open_state(&path, used, &mut opened)?;
        space.committed(&connection, &path);
        let overlay = Arc::new(Mutex::new(Overlay::default()));
        let engine = StateEngine {
            path: path.clone(),
            connection,
            overlay: overlay.clone(),
            space: space.clone(),
            full: false,
            journal: Journal::default(),
        };
        let on_fatal = options.on_fatal.clone();
        let writer = Writer::start(&path, (options.linger, Duration::ZERO), on_fatal, engine)?;
        let state = Arc::new(StateFile {
            writer,
            readers: Readers::new(&path, options.on_fatal),
            overlay,
            space: space.clone(),
        });
        let inner = Inner {
            queue,
            readers,
            mirror,
            state,
            space,
            dir: dir.to_path_buf(),
            _lock: lock,
        };
        Ok((Self(Arc::new(inner)), opened))
    }

    fn mirror(&self) -> MutexGuard<'_, Mirror> {
        self.0.mirror.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Books what the operation is expected to do and hands it to the writer, both under the
    /// mirror's lock: the writer gets operations in the order in which the books changed.
    fn push(&self, mut mirror: MutexGuard<'_, Mirror>, op: Op, done: Option<Done>) {
        let job = Job {
            at: Instant::now(),
            urgent: done.is_some() || matches!(op, Op::Append(_)),
            cost: op.cost(),
            op,
            done,
        };
        job.op
            .expect(|taker, change| mirror.expect(taker, |tally| change(tally)));
        let refused = self.0.queue.push(job);
        drop(mirror);
        if let Err(refused) = refused {
            refused.tell();
        }
    }

    /// The taker of this kind and name; made when there is none. Durable with the next commit, and
    /// not later than any row of it.
    pub fn create_taker(&self, kind: TakerKind, name: &str) -> TakerId {
        let mut mirror = self.mirror();
        if let Some(id) = mirror.find(kind, name) {
            return id;
        }
        let id = mirror.create(kind, name);
        let name = Arc::from(name);
        self.push(mirror, Op::CreateTaker { id, kind, name }, None);
        id
    }

    /// The taker of this kind and name, if there is one.
    pub fn find_taker(&self, kind: TakerKind, name: &str) -> Option<TakerId> {
        self.mirror().find(kind, name)
    }

    /// All takers with their books, in the order of their making.
    pub fn takers(&self) -> Vec<TakerInfo> {
        self.mirror().takers()
    }

    /// Removes a taker: what waits for it counts as dropped, its books go on in
    /// [`Store::removed_account`]. `done` is called when that is durable; the rows are cleared away
    /// in small steps after it. Later operations on the id do nothing.
    pub fn remove_taker(&self, id: TakerId, reason: DropReason, done: Option<Done>) {
        let mut mirror = self.mirror();
        mirror.remove(id);
        self.push(mirror, Op::RemoveTaker { id, reason }, done);
    }

    /// Appends, all or nothing, in one transaction. Messages must come in the order of their ids,
    /// taker by taker: [`Store::read`] goes by them. Rows of takers that are not there (any more)
    /// are left out.
    pub fn append(&self, entries: Vec<Append>, done: Option<Done>) {
        let mirror = self.mirror();
        self.push(mirror, Op::Append(entries), done);
    }

    /// The taker has these: their rows go, counted as delivered. It may come before the append: the
    /// row is then counted and never written. A second one counts for nothing. Durable with the next commit or about 50 ms later.
    pub fn acknowledge(&self, taker: TakerId, ids: &[MessageId]) {
        self.settle(taker, ids, Settled::Delivered, 0);
    }

    /// The taker will not get these: their rows go, counted as dropped.
    pub fn discard(&self, taker: TakerId, ids: &[MessageId], reason: DropReason) {
        self.settle(taker, ids, Settled::Dropped(reason), 0);
    }

    /// [`Store::discard`] of rows of `bytes` bytes together, which [`Store::depth`] counts no more
    /// from the call on.
    pub fn discard_sized(&self, taker: TakerId, ids: &[MessageId], reason: DropReason, bytes: u64) {
        self.settle(taker, ids, Settled::Dropped(reason), signed(bytes));
    }

    fn settle(&self, taker: TakerId, ids: &[MessageId], how: Settled, bytes: i64) {
        if ids.is_empty() {
            return;
        }
        let ids = ids.to_vec();
        let mut mirror = self.mirror();
        mirror.settling(taker, &ids);
        let op = Op::Settle {
            taker,
            ids,
            how,
            bytes,
        };
        self.push(mirror, op, None);
    }

    /// These QoS 2 rows are about to leave, each with its packet id: send the PUBLISH when `done`
    /// has `Ok`. The append must have been handed in before; a row that is not there is passed
    /// over, one in [`crate::RowState::Received`] stays so. On a full disk `done` waits for room.
    /// [`Store::acknowledge`] ends the row at PUBCOMP. `claimant` is the session that has it where
    /// the queue is a shared subscription's: it alone resumes it, and with it the row ends
    /// ([`Store::remove_session`]).
    pub fn mark_sent(
        &self,
        taker: TakerId,
        claimant: Option<TakerId>,
        sent: &[(MessageId, NonZeroU16)],
        done: Option<Done>,
    ) {
        let sent = sent.to_vec();
        let op = Op::MarkSent {
            taker,
            claimant,
            sent,
        };
        let mirror = self.mirror();
        self.push(mirror, op, done);
    }

    /// These rows were marked as sent and have not left: they wait again.
    pub fn unmark(&self, taker: TakerId, ids: &[MessageId]) {
        let ids = ids.to_vec();
        let mirror = self.mirror();
        self.push(mirror, Op::Unmark { taker, ids }, None);
    }

    /// The PUBREC of a row that was sent has come: send PUBREL when `done` has `Ok`. After a
    /// restart the row needs PUBREL with its packet id and no PUBLISH. On a full disk `done` waits
    /// for room.
    pub fn mark_received(&self, taker: TakerId, id: MessageId, done: Option<Done>) {
        let mirror = self.mirror();
        self.push(mirror, Op::MarkReceived { taker, id }, done);
    }

    /// The PUBREL of an inbound QoS 2 message has come ([`Append::inbound`]): its packet id may
    /// name another message from now on. Answer PUBCOMP when `done` has `Ok`.
    pub fn release_inbound(&self, client_id: &ClientId, packet_id: NonZeroU16, done: Option<Done>) {
        let client_id = Arc::from(client_id.as_str());
        let op = Op::ReleaseInbound {
            client_id,
            packet_id,
        };
        let mirror = self.mirror();
        self.push(mirror, op, done);
    }

    /// The taker will never get these: their rows become dead letters, counted as dropped with the
    /// reason `upstream-refused` (an outbox's: `action-failed`). `reason` says why, to people. A row that is not there (yet) is
    /// treated as [`Store::acknowledge`] does. Above a sixteenth of [`Options::max_bytes`]
    /// (by [`iotedge_model::Message::cost`]) the oldest dead letters go. On a full disk `done` gets the error and the rows wait as before.
    pub fn bury(&self, taker: TakerId, ids: &[MessageId], reason: &str, done: Option<Done>) {
        let mut mirror = self.mirror();
        let Some((kind, name)) = mirror.name(taker) else {
            return self.push(mirror, Op::Append(Vec::new()), done);
        };
        let ids = ids.to_vec();
        mirror.settling(taker, &ids);
        let burial = Arc::new(Burial {
            kind,
            name,
            reason: Arc::from(reason),
            died_at: wall(),
        });
        self.push(mirror, Op::Bury { taker, ids, burial }, done);
    }

    /// Committed dead letters after the one of number `after`, oldest first, at most `limit`. One
    /// that is not as it was written is passed over.
    pub fn dead_letters(
        &self,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let after = after.map_or(-1, signed);
        self.0.readers.with(|c| dead::list(c, after, limit))
    }

    /// How many dead letters there are of each taker of this kind, by its name. Looks at all of them.
    pub fn dead_counts(&self, kind: TakerKind) -> Result<BTreeMap<String, u64>, StoreError> {
        self.0.readers.with(|c| dead::counts(c, kind))
    }

    /// Puts a dead letter back into its taker's queue as `message`, an id above all given to this
    /// taker before; counted as accepted once more. Of two calls for one letter the second does
    /// nothing. On a full disk `done` gets the error and the letter stays.
    ///
    /// # Errors
    /// At once and with `done` dropped, when the letter or its taker is not there.
    pub fn revive(
        &self,
        id: u64,
        message: MessageId,
        done: Option<Done>,
    ) -> Result<TakerId, DeadLetterError> {
        let letter = self.0.readers.with(|c| dead::one(c, id))?;
        let letter = letter.ok_or(DeadLetterError::Absent { id })?;
        let mirror = self.mirror();
        let taker = mirror.find(letter.kind, &letter.taker);
        let Some(taker) = taker else {
            return Err(DeadLetterError::NoTaker {
                kind: letter.kind,
                name: letter.taker,
            });
        };
        let op = Op::Revive {
            letter: id,
            taker,
            message,
            bytes: batch::cost(&letter.message),
        };
        self.push(mirror, op, done);
        Ok(taker)
    }

    /// Removes a dead letter for good.
    pub fn remove_dead(&self, id: u64, done: Option<Done>) {
        let mirror = self.mirror();
        self.push(mirror, Op::RemoveDead { letter: id }, done);
    }

    /// Counts `n` messages as accepted for the taker and dropped before they became rows.
    pub fn count_drop(&self, taker: TakerId, reason: DropReason, n: u64) {
        let mirror = self.mirror();
        self.push(mirror, Op::CountDrop { taker, reason, n }, None);
    }

    /// Committed rows of `taker` after `after` that are not settled (an acknowledgement counts from
    /// the call on, committed or not), oldest first: at most `max_rows`, and at most
    /// `max_bytes` ([`iotedge_model::Message::cost`]) but at least one. A row that is no message any more is
    /// discarded with the reason `damaged`.
    pub fn read(
        &self,
        taker: TakerId,
        after: Option<MessageId>,
        max_rows: usize,
        max_bytes: usize,
    ) -> Result<Vec<QueuedRow>, StoreError> {
        if max_rows == 0 {
            return Ok(Vec::new());
        }
        let mut after = after;
        loop {
            // Before the read: what is committed in between is not in the file then.
            let passed = self.mirror().passed_over(taker);
            let found = self
                .0
                .readers
                .with(|c| read::read(c, taker, after, max_rows, max_bytes, &passed))?;
            self.discard(taker, &found.unreadable, DropReason::Damaged);
            let Some(next) = found.next.filter(|_| found.rows.is_empty()) else {
                return Ok(found.rows);
            };
            // Nothing but unreadable rows: an empty answer would mean that nothing waits.
            after = Some(MessageId(next.0.saturating_sub(1)));
        }
    }

    /// Committed rows of `taker` that were marked as sent or received and are not settled, oldest
    /// first: what a session resumes after a restart. Found without reading what waits.
    pub fn in_flight(&self, taker: TakerId) -> Result<Vec<QueuedRow>, StoreError> {
        let passed = self.mirror().passed_over(taker);
        let found = self
            .0
            .readers
            .with(|c| read::in_flight(c, taker, &passed))?;
        self.discard(taker, &found.unreadable, DropReason::Damaged);
        Ok(found.rows)
    }

    /// Committed rows of shared subscriptions that were sent to the session of `claimant`
    /// ([`Store::mark_sent`]) and are not settled, oldest first, each with its queue.
    pub fn claimed(&self, claimant: TakerId) -> Result<Vec<(TakerId, QueuedRow)>, StoreError> {
        let passed = self.mirror().passed_over_shared();
        let found = self
            .0
            .readers
            .with(|c| read::claimed(c, claimant, &passed))?;
        for (taker, id) in &found.unreadable {
            self.discard(*taker, &[*id], DropReason::Damaged);
        }
        Ok(found.rows)
    }

    /// The ids of the oldest `n` committed rows.
    pub fn oldest(&self, taker: TakerId, n: usize) -> Result<Vec<MessageId>, StoreError> {
        let passed = self.mirror().passed_over(taker);
        self.0.readers.with(|c| read::oldest(c, taker, n, &passed))
    }

    /// What waits for the taker, operations on their way included. Bytes of rows that were
    /// acknowledged count until that is committed (about 50 ms), but for [`Store::discard_sized`].
    pub fn depth(&self, taker: TakerId) -> Depth {
        self.mirror().depth(taker)
    }

    /// What waits for all takers together, operations on their way included.
    pub fn waiting(&self) -> Depth {
        self.mirror().waiting()
    }

    /// The taker's books, operations on their way included.
    pub fn account(&self, taker: TakerId) -> Account {
        self.mirror().account(taker)
    }

    /// The books of all takers that were removed, together.
    pub fn removed_account(&self) -> Account {
        self.mirror().removed()
    }

    /// Writes a session's record (not its subscriptions and unreleased packet ids).
    pub fn put_session(&self, session: impl Into<Box<SessionRecord>>, done: Option<Done>) {
        let mirror = self.mirror();
        self.push(mirror, Op::PutSession(session.into()), done);
    }

    /// Removes a session with its subscriptions, its unreleased packet ids and its taker (kind
    /// session, named by the client id). Its rows, and those of shared subscriptions that were sent
    /// to it, count as dropped with the reason `session-ended`.
    pub fn remove_session(&self, client_id: &str, done: Option<Done>) {
        let mut mirror = self.mirror();
        let taker = mirror.find(TakerKind::Session, client_id);
        if let Some(taker) = taker {
            mirror.remove(taker);
        }
        let client_id = Arc::from(client_id);
        self.push(mirror, Op::RemoveSession { client_id, taker }, done);
    }

    /// Writes one subscription of a session, new or changed.
    pub fn put_subscription(
        &self,
        client_id: &ClientId,
        record: SubscriptionRecord,
        done: Option<Done>,
    ) {
        let client_id = client_id.clone();
        let mirror = self.mirror();
        self.push(mirror, Op::PutSubscription { client_id, record }, done);
    }

    /// Removes one subscription of a session by its text.
    pub fn remove_subscription(&self, client_id: &str, text: &str, done: Option<Done>) {
        let (client_id, text) = (Arc::from(client_id), Arc::from(text));
        let mirror = self.mirror();
        self.push(mirror, Op::RemoveSubscription { client_id, text }, done);
    }

    /// Keeps a will until [`Store::remove_will`], whatever becomes of its session.
    pub fn put_will(&self, will: WillRecord, done: Option<Done>) {
        let mirror = self.mirror();
        self.push(mirror, Op::PutWill(Box::new(will)), done);
    }

    /// Removes a will by the id of its message.
    pub fn remove_will(&self, id: MessageId, done: Option<Done>) {
        let mirror = self.mirror();
        self.push(mirror, Op::RemoveWill { id }, done);
    }

    /// Removes the retained message of `topic` if it is still the one with this id.
    pub fn remove_retained(&self, topic: &Topic, id: MessageId, done: Option<Done>) {
        let topic = topic.clone();
        let mirror = self.mirror();
        self.push(mirror, Op::RemoveRetained { topic, id }, done);
    }

    /// Calls `done` when everything handed in so far is in `queue.db`.
    pub fn flush(&self, done: Done) {
        self.append(Vec::new(), Some(done));
    }

    /// A collection of versioned documents.
    pub fn documents(&self, collection: &'static str) -> Documents {
        Documents {
            file: self.0.state.clone(),
            collection,
        }
    }

    /// Whether more may be appended: both writers run, no reader has met
    /// damage, the quota and the disk's floor are kept.
    /// Cheap; the file system is asked once a second at most.
    pub fn health(&self) -> Result<(), StoreError> {
        let state = &self.0.state;
        let ended = (self.0.queue.ended())
            .or_else(|| state.writer.ended())
            .or_else(|| self.0.readers.damaged())
            .or_else(|| state.readers.damaged());
        if let Some(error) = ended {
            return Err(error);
        }
        self.0.space.check(self.pending_bytes())
    }

    /// Bytes of operations that wait for their commit.
    pub fn pending_bytes(&self) -> u64 {
        self.0.queue.pending_bytes() + self.0.state.writer.pending_bytes()
    }

    /// Bytes used in both files.
    pub fn used_bytes(&self) -> u64 {
        self.0.space.used()
    }

    /// Bytes that both writers have sent on their way to the disk since the start, as the kernel
    /// counts them (`write_bytes` of the threads): whole pages of its cache, nothing on a file
    /// system in memory. At most a second behind while they write.
    pub fn written_bytes(&self) -> u64 {
        self.0.space.written()
    }

    /// Messages for takers since the start, those included that were never written because their
    /// takers had them in time: [`Store::written_bytes`] by these is what a message costs the disk,
    /// with all that is written beside it.
    pub fn stored_messages(&self) -> u64 {
        self.0.space.messages()
    }

    /// Copies both files into the new folder `to` while they are in use: a folder that
    /// [`Store::open`] opens. Each copy is what its file held at one moment, with everything in it
    /// that was reported done before the call; `state.db` is the earlier one. Both are examined
    /// before `to` appears. Waits until it is done (reading all, writing all: not on a thread that
    /// serves connections). It goes on beside the writers, whose journals grow as long as it
    /// takes; on an error nothing is left.
    ///
    /// To go back to it: stop the daemon, and put the folder in the place of the data directory's
    /// two files, without their `-wal` and `-shm`. Message ids go on above all that the copy knows;
    /// what was delivered since then comes again.
    ///
    /// # Errors
    /// [`StoreError::Io`] (also when `to` is there already or has no room), and
    /// [`StoreError::Damaged`].
    pub fn backup(&self, to: &Path) -> Result<(), StoreError> {
        backup::backup(&self.0.dir, to)
    }

    /// Commits what waits and ends both writers. What other clones hand in after it fails with
    /// [`StoreError::Closed`].
    pub fn close(self) {
        self.0.queue.close();
        self.0.state.writer.close();
    }
}

/// Now, by the wall clock.
fn wall() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let millis = since.unwrap_or_default().as_millis();
    UnixMillis(u64::try_from(millis).unwrap_or(u64::MAX))
}
