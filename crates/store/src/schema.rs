//! Tables, as numbered migrations. A migration that was released is never changed.

/// One file's name, its mark in the header and its migrations.
pub(crate) struct Schema {
    pub(crate) file: &'static str,
    pub(crate) application_id: i64,
    /// Bytes of a page of a new file. A commit writes pages: the queue's small commits want small
    /// ones (docs/decisions/0008-few-bytes.md).
    pub(crate) page_size: u32,
    pub(crate) migrations: &'static [&'static str],
}

/// `PRAGMA application_id` of our files: "IoEq" and "IoEs".
pub(crate) const QUEUE: Schema = Schema {
    file: "queue.db",
    application_id: 0x496f_4571,
    page_size: 1024,
    migrations: &[QUEUE_1, QUEUE_2, QUEUE_3, QUEUE_4, QUEUE_5],
};

pub(crate) const STATE: Schema = Schema {
    file: "state.db",
    application_id: 0x496f_4573,
    page_size: 4096,
    migrations: &[STATE_1],
};

/// The envelope's columns, in the order of [`crate::queue::rows`].
macro_rules! envelope {
    () => {
        "trace BLOB NOT NULL, hops INTEGER NOT NULL, principal TEXT NOT NULL, source TEXT NOT NULL,
        client_id TEXT NOT NULL, topic TEXT NOT NULL, qos INTEGER NOT NULL, retain INTEGER NOT NULL,
        accepted_at INTEGER NOT NULL, trusted INTEGER NOT NULL, expiry INTEGER, properties TEXT,
        payload BLOB NOT NULL"
    };
}

const QUEUE_1: &str = concat!(
    "CREATE TABLE meta(name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE messages(id INTEGER PRIMARY KEY, refs INTEGER NOT NULL, ",
    envelope!(),
    ") STRICT;
    CREATE TABLE takers(id INTEGER PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL,
        accepted INTEGER NOT NULL DEFAULT 0, delivered INTEGER NOT NULL DEFAULT 0,
        rows INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0,
        UNIQUE(kind, name)) STRICT;
    CREATE TABLE drops(taker INTEGER NOT NULL, reason TEXT NOT NULL, count INTEGER NOT NULL,
        PRIMARY KEY(taker, reason)) STRICT, WITHOUT ROWID;
    CREATE TABLE queue(taker INTEGER NOT NULL, message INTEGER NOT NULL, qos INTEGER NOT NULL,
        retain INTEGER NOT NULL, bytes INTEGER NOT NULL, identifiers BLOB,
        state INTEGER NOT NULL DEFAULT 0,
        packet_id INTEGER, claimed_by INTEGER,
        PRIMARY KEY(taker, message)) STRICT, WITHOUT ROWID;
    CREATE TABLE garbage(taker INTEGER PRIMARY KEY) STRICT;
    CREATE TABLE sessions(client_id TEXT PRIMARY KEY, taker INTEGER NOT NULL,
        principal TEXT NOT NULL, protocol_level INTEGER NOT NULL, expiry INTEGER NOT NULL,
        created_at INTEGER NOT NULL, ended_at INTEGER, ended_trusted INTEGER NOT NULL,
        waited INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE unreleased(client_id TEXT NOT NULL, packet_id INTEGER NOT NULL,
        PRIMARY KEY(client_id, packet_id)) STRICT, WITHOUT ROWID;
    CREATE TABLE subscriptions(client_id TEXT NOT NULL, text TEXT NOT NULL, qos INTEGER NOT NULL,
        no_local INTEGER NOT NULL, retain_as_published INTEGER NOT NULL,
        retain_handling INTEGER NOT NULL, identifier INTEGER,
        PRIMARY KEY(client_id, text)) STRICT, WITHOUT ROWID;
    CREATE TABLE retained(id INTEGER NOT NULL, ",
    envelope!(),
    ", PRIMARY KEY(topic)) STRICT;
    CREATE TABLE dead_letters(id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL,
        taker TEXT NOT NULL, reason TEXT NOT NULL, died_at INTEGER NOT NULL,
        bytes INTEGER NOT NULL, taker_qos INTEGER NOT NULL, taker_retain INTEGER NOT NULL,
        identifiers BLOB, message INTEGER NOT NULL, ",
    envelope!(),
    ") STRICT;
    INSERT INTO takers(id, kind, name) VALUES (0, 'removed', '');"
);

/// What lifecycle events call a session, and wills that outlive the process.
const QUEUE_2: &str = concat!(
    "ALTER TABLE sessions ADD COLUMN identifier BLOB;
    CREATE TABLE wills(id INTEGER PRIMARY KEY, delay INTEGER NOT NULL, ",
    envelope!(),
    ") STRICT;"
);

/// A session that comes back finds what it had in flight, its own and that of shared subscriptions,
/// without reading whole queues.
const QUEUE_3: &str = "CREATE INDEX queue_in_flight ON queue(taker, message) WHERE state > 0;
    CREATE INDEX queue_claimed ON queue(claimed_by, message) WHERE claimed_by IS NOT NULL;";

/// Parcels: messages of one commit for one taker in one row (docs/decisions/0007-parcels.md). Rows
/// of the older form stay what they are.
const QUEUE_4: &str = "CREATE TABLE bodies(id INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;
    CREATE TABLE parcels(taker INTEGER NOT NULL, first INTEGER NOT NULL, live INTEGER NOT NULL,
        bytes INTEGER NOT NULL, gone INTEGER NOT NULL, body INTEGER NOT NULL, ids BLOB NOT NULL,
        PRIMARY KEY(taker, first)) STRICT, WITHOUT ROWID;";

/// Bodies that say whose they are, which a version before this one takes for damaged; a sum of what
/// is delivered of messages in rows of their own; takers' names in a second place
/// (docs/decisions/0011-salvage-by-pages.md).
const QUEUE_5: &str = "ALTER TABLE messages ADD COLUMN sum INTEGER;
    INSERT OR REPLACE INTO meta(name, value) SELECT 'taker ' || kind || ' ' || name, id FROM takers
        WHERE id > 0 AND kind <> 'session';";

const STATE_1: &str = "CREATE TABLE documents(id INTEGER PRIMARY KEY, collection TEXT NOT NULL,
        key TEXT NOT NULL, version INTEGER NOT NULL, body BLOB, updated_at INTEGER NOT NULL,
        UNIQUE(collection, key)) STRICT;";
