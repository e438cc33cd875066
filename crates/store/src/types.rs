use std::collections::BTreeMap;
use std::num::{NonZeroU16, NonZeroU32};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use iotedge_model::{
    ClientId, DropReason, Message, MessageId, Principal, QoS, SubscriptionIds, UnixMillis,
};

use crate::StoreError;

/// Is told how an operation ended, on the writer's thread and in the order of the operations. Must
/// not block; may hand new operations in.
pub type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// Is told once when a writer has come to its end, and once when a reader of a file meets damage
/// (on the reader's thread, perhaps under its caller's locks: must not call back). The daemon
/// decides what follows: ending the process loses nothing acknowledged, and the next start
/// salvages.
pub type OnFatal = Arc<dyn Fn(&StoreError) + Send + Sync>;

/// How the store behaves.
#[derive(Clone)]
pub struct Options {
    /// How long an append may wait for others before it is committed: zero commits at once.
    pub linger: Duration,
    /// How long counters of messages that were never written may be in memory only. Zero writes
    /// them at once, and all other messages with the first that is due; otherwise a commit waits
    /// for as long as the oldest message that is not acknowledged may linger, and what a kill
    /// takes are counts of what was delivered.
    pub lag: Duration,
    /// `store.max_bytes`: bytes of both files together above which [`crate::Store::health`] refuses.
    /// Dead letters may have a sixteenth of it.
    pub max_bytes: u64,
    /// `store.min_free_disk`: free bytes of the file system below which it refuses.
    pub min_free_disk: u64,
    /// Told of what only a restart mends.
    pub on_fatal: Option<OnFatal>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            linger: Duration::ZERO,
            lag: Duration::ZERO,
            max_bytes: 1 << 30,
            min_free_disk: 256 << 20,
            on_fatal: None,
        }
    }
}

/// A taker's number; never given twice while rows of its former owner exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TakerId(pub u64);

/// What a taker is. Names are unique within a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TakerKind {
    /// A session that outlives its connection; named by its client id.
    Session,
    /// A bridge's outbound route; `upstream/route`.
    Route,
    /// A rule's outbox.
    Outbox,
    /// The one queue of a shared subscription with a durable member.
    Shared,
}

impl TakerKind {
    pub(crate) const ALL: [Self; 4] = [Self::Session, Self::Route, Self::Outbox, Self::Shared];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Route => "route",
            Self::Outbox => "outbox",
            Self::Shared => "shared",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.as_str() == text)
    }
}

/// A message's row in one taker's queue.
#[derive(Debug, Clone)]
pub struct TakerRow {
    /// Whose.
    pub taker: TakerId,
    /// QoS of the delivery.
    pub qos: QoS,
    /// RETAIN flag of the delivery.
    pub retain: bool,
    /// Subscription identifiers of the delivery.
    pub identifiers: SubscriptionIds,
}

/// What a message does to the retained message of its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetainedChange {
    /// Becomes it.
    Set,
    /// Removes it.
    Clear,
}

/// A message on its way to the disk.
#[derive(Debug, Clone)]
pub struct Append {
    /// The message, with its id.
    pub message: Arc<Message>,
    /// Who takes it.
    pub takers: Vec<TakerRow>,
    /// What becomes of the retained message.
    pub retained: Option<RetainedChange>,
    /// The publisher and packet id of a QoS 2 PUBLISH: stored with the message until
    /// [`crate::Store::release_inbound`]. Only for clients with a session here
    /// ([`crate::Store::put_session`]); others have nothing that could outlive the process.
    pub inbound: Option<(ClientId, NonZeroU16)>,
}

impl Append {
    /// A message that came with QoS 0 or 1, or from within.
    pub fn new(
        message: Arc<Message>,
        takers: Vec<TakerRow>,
        retained: Option<RetainedChange>,
    ) -> Self {
        Self {
            message,
            takers,
            retained,
            inbound: None,
        }
    }
}

/// How far a QoS 2 delivery has come (MQTT 3.1.1, 4.3.3). A row of QoS 1 stays `Queued` unless its
/// owner marks it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum RowState {
    /// No PUBLISH has left.
    #[default]
    Queued,
    /// The PUBLISH may have left, with this packet id: to be sent again with it.
    Sent,
    /// PUBREC has come: PUBREL is to be sent again, the message never.
    Received,
}

impl RowState {
    const ALL: [Self; 3] = [Self::Queued, Self::Sent, Self::Received];

    pub(crate) fn to_column(self) -> u8 {
        match self {
            Self::Queued => 0,
            Self::Sent => 1,
            Self::Received => 2,
        }
    }

    pub(crate) fn from_column(value: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.to_column() == value)
    }
}

/// A waiting row as [`crate::Store::read`] gives it.
#[derive(Debug, Clone, PartialEq)]
pub struct QueuedRow {
    /// The message with its whole envelope.
    pub message: Message,
    /// QoS of the delivery.
    pub qos: QoS,
    /// RETAIN flag of the delivery.
    pub retain: bool,
    /// Subscription identifiers.
    pub identifiers: SubscriptionIds,
    /// How far a QoS 2 delivery has come.
    pub state: RowState,
    /// Its packet id, from [`RowState::Sent`] on.
    pub packet_id: Option<NonZeroU16>,
    /// The session that a row of a shared subscription was sent to, where that outlives its
    /// connection.
    pub claimant: Option<TakerId>,
}

/// What waits for a taker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Depth {
    /// Rows.
    pub rows: u64,
    /// Their bytes, by [`Message::cost`].
    pub bytes: u64,
}

/// A taker's books: accepted = delivered + queued + the sum of dropped.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Account {
    /// Taken in, since ever.
    pub accepted: u64,
    /// Acknowledged by the taker, since ever.
    pub delivered: u64,
    /// Waiting.
    pub queued: u64,
    /// Bytes waiting.
    pub queued_bytes: u64,
    /// Dropped since ever, by reason.
    pub dropped: BTreeMap<DropReason, u64>,
}

impl Account {
    /// Whether the books balance.
    pub fn balances(&self) -> bool {
        self.accepted == self.delivered + self.queued + self.dropped.values().sum::<u64>()
    }
}

/// A taker found at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakerInfo {
    /// Its number.
    pub id: TakerId,
    /// What it is.
    pub kind: TakerKind,
    /// Its name.
    pub name: Arc<str>,
    /// Its books.
    pub account: Account,
}

/// A session that outlives its connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// Its client id.
    pub client_id: ClientId,
    /// Its queue.
    pub taker: TakerId,
    /// Who it belongs to.
    pub principal: Arc<Principal>,
    /// 4 for MQTT 3.1.1, 5 for 5.
    pub protocol_level: u8,
    /// Seconds that it outlives its connection; `u32::MAX` never ends.
    pub expiry: u32,
    /// What lifecycle events call it: globally unique; 0 for one of a version that had none.
    pub identifier: u128,
    /// When it began.
    pub created_at: UnixMillis,
    /// When its last connection ended; `None` while connected (or when the daemon was killed).
    pub ended_at: Option<UnixMillis>,
    /// Whether the clock could be believed at `ended_at`.
    pub ended_trusted: bool,
    /// Milliseconds since the end of the connection that the daemon ran without a trusted clock.
    pub waited: u64,
    /// Its subscriptions. [`crate::Store::put_session`] ignores them.
    pub subscriptions: Vec<SubscriptionRecord>,
    /// Packet ids of its QoS 2 PUBLISHes whose PUBREL has not come, ascending: another PUBLISH with
    /// one of them is the same message again. [`crate::Store::put_session`] ignores them.
    pub unreleased: Vec<u16>,
}

/// A will that outlives the process: of a session that outlives its connection.
#[derive(Debug, Clone, PartialEq)]
pub struct WillRecord {
    /// Seconds between the end of the connection and the will (MQTT 5, 3.1.3.2.2).
    pub delay: u32,
    /// What is to be published, under the number that [`crate::Store::remove_will`] takes. The
    /// session is that of its client id.
    pub message: Message,
}

/// One subscription of a durable session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionRecord {
    /// The filter as the client wrote it.
    pub text: Arc<str>,
    /// Highest QoS.
    pub qos: QoS,
    /// MQTT 5: not what the same connection published.
    pub no_local: bool,
    /// MQTT 5: keep RETAIN as published.
    pub retain_as_published: bool,
    /// MQTT 5: 0 send, 1 send if new, 2 do not send.
    pub retain_handling: u8,
    /// MQTT 5: subscription identifier.
    pub identifier: Option<NonZeroU32>,
}

/// What was read out of a damaged file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Salvage {
    /// `queue.db` or `state.db`.
    pub file: &'static str,
    /// Where the damaged file lies now.
    pub set_aside: PathBuf,
    /// What was wrong with it.
    pub reason: String,
    /// Rows brought over, by table.
    pub recovered: BTreeMap<&'static str, u64>,
    /// Tables in which rows could not be read.
    pub incomplete: Vec<&'static str>,
    /// Queue rows known to be lost, counted as dropped with the reason `damaged`.
    pub lost_rows: u64,
}

/// What was there at start.
#[derive(Debug, Default)]
pub struct Opened {
    /// Files that had to be set aside.
    pub damaged: Vec<Salvage>,
    /// All takers.
    pub takers: Vec<TakerInfo>,
    /// All sessions with their subscriptions.
    pub sessions: Vec<SessionRecord>,
    /// All retained messages.
    pub retained: Vec<Message>,
    /// All wills, in the order of their numbers.
    pub wills: Vec<WillRecord>,
    /// Sessions, subscriptions, retained messages, wills and takers whose rows SQLite reads but which are
    /// not as they were written: what and why. They are passed over.
    pub unreadable: Vec<String>,
    /// The first message id to give.
    pub next_message_id: u64,
}

pub(crate) fn id_column(id: MessageId) -> i64 {
    // Ids are handed out from 1 upwards and stay far below 2^63.
    i64::try_from(id.0).unwrap_or(i64::MAX)
}
