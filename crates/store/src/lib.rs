//! SQLite behind one writer thread a file: queues with takers, sessions, retained messages,
//! versioned documents.
//!
//! What always holds:
//!
//! 1. **Done means there.** When a `done` callback gets `Ok`, its operation and every operation
//!    handed to the same file before it are committed, and survive SIGKILL and (with
//!    `synchronous=FULL`) the loss of power.
//! 2. **Whole or not at all.** An append is in one transaction: all its rows, its retained change
//!    and its counters, or none of them.
//! 3. **The books balance** at every commit, for every taker: accepted = delivered + queued +
//!    dropped. Counters change in the transaction that changes the rows. A row is settled once:
//!    acknowledging it again, or one whose append failed, counts for nothing; an acknowledgement
//!    that overtakes its append counts with it.
//! 4. **Order.** One writer a file applies operations in the order handed in; callbacks come in
//!    that order (but for those kept back by a full disk). Rows are read in the order of ids.
//! 5. **An id is not given twice.** [`Opened::next_message_id`] is above every id that was ever
//!    appended: ids are reserved on disk in blocks of 2^32.
//! 6. **What is gone before its commit was due is never written**, only counted: an append whose
//!    takers have all acknowledged touches no message or queue row. With [`Options::lag`] it brings
//!    no commit either; its counters reach the file with the next one, or after that time.
//! 7. **A full disk is no loss.** Appends that find no room fail through `done`; acknowledgements
//!    and removals are kept and tried again; [`Store::health`] refuses until there is room.
//! 8. **A writer's end is final.** After any other error or a panic each later operation fails
//!    with [`StoreError::WriterStopped`] and [`Options::on_fatal`] is told once, as it is when a
//!    reader meets damage. Nothing that was acknowledged is lost by ending the process then.
//! 9. **A damaged file never stops the start.** It is set aside, what can be read is brought
//!    over, what is lost is counted as dropped and reported in [`Opened::damaged`].
//! 10. **QoS 2 is not forgotten.** An inbound packet id is committed with its message, and an
//!     outbound one, and its PUBREC, before `done`: until they are released or acknowledged they
//!     come back at every start.
//! 11. **A dead letter leaves its queue once**: it is counted as dropped in the transaction that
//!     buries it, and as accepted again in the one that revives it.
//! 12. **Ready without scanning.** Opening reads takers, sessions, retained messages and wills;
//!     queues are neither counted nor read, but for those whose books can not be right.
//!
//! Calls do not wait for the disk, but for [`Store::read`], [`Store::oldest`] and the reads of
//! [`Documents`]. What waits for a commit is in memory, bounded by what callers admit:
//! [`Store::pending_bytes`] says how much.
#![forbid(unsafe_code)]

mod backup;
mod documents;
mod error;
mod file;
#[doc(hidden)]
pub mod fuzzed;
mod queue;
mod salvage;
mod schema;
mod space;
mod store;
mod table;
mod types;
mod writer;

pub use documents::{Document, DocumentError, Documents, Expect, Put};
pub use error::StoreError;
pub use queue::dead::{DeadLetter, DeadLetterError};
pub use store::Store;
pub use table::{ACCEPTED_AT, TableError, TableFile, TableRow, TableValue};
pub use types::{
    Account, Append, Depth, Done, OnFatal, Opened, Options, QueuedRow, RetainedChange, RowState,
    Salvage, SessionRecord, SubscriptionRecord, TakerId, TakerInfo, TakerKind, TakerRow,
    WillRecord,
};
