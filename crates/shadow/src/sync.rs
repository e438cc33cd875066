//! Shadows and their counterparts in the cloud, kept together.
//!
//! [`Machine`] decides: what is asked of the cloud and of the service next, given what they have
//! answered and the time; no socket, no clock, no thread. [`Synchroniser`] carries between it, the
//! [`ShadowService`](crate::ShadowService) and the upstream's
//! [`UpstreamLine`](iotedge_ports::UpstreamLine), by AWS IoT's own shadow topics.
//!
//! 1. A shadow is a state and no queue: however often it changes, at most one request for it is under
//!    way, and the next one carries what is there then.
//! 2. Nothing that was heard before a connection was lost is believed after it: the cloud is asked
//!    again. A crash loses no more than that.
//! 3. An update names the version that it was compared with. Where somebody was faster (409), the
//!    cloud is asked and both sides are merged again.
//! 4. What this side was changed to by a merge is no change that the other side has to hear of.
//! 5. A refusal of the document is no outage: it goes to the [`Journal`], and the shadow waits until
//!    one side changes.
//! 6. At most [`Settings::max_subscriptions`] subscriptions and [`MAX_IN_FLIGHT`] requests are held
//!    on the link, and no more than [`Settings::rate`] requests a second leave.

mod journal;
mod machine;
mod selection;
mod synchroniser;
mod topics;

pub use journal::{Entry, Journal, Kind};
pub use machine::{Action, MAX_IN_FLIGHT, Machine, Status};
pub use selection::{Pattern, Selection, SelectionError, Settings};
pub use synchroniser::Synchroniser;
