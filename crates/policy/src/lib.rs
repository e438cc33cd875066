//! Policy documents: parse, evaluate, explain. Pure: no clock, no store, no socket.
//!
//! A document is the JSON of AWS IoT policies ("AWS IoT Policies" of the 2016 guide; today's guide
//! for variables, conditions and the later actions). It is compiled once by
//! [`PolicyDocument::parse`]; [`evaluate`] then answers without looking at JSON again:
//!
//! 1. Deny by default: without a statement that says Allow the answer is [`Verdict::ImplicitDeny`].
//! 2. A Deny that matches wins over every Allow.
//! 3. What a variable puts into a pattern is text: a `*` in a client id is no wildcard.
//! 4. A variable without a value fails closed: its Allow does not match, its Deny does, for every
//!    resource that some value of it would deny.
//! 5. `+` and `#` are ordinary characters; only `*` and `?` are wildcards.
//! 6. A wildcard stays in its part of the ARN: a region of `*` never reaches into the topic.
//! 7. Matching goes forward only: it never tries a second way for the same `*`, so a decision takes
//!    time in proportion to the documents plus the resource.
#![forbid(unsafe_code)]

mod arn;
mod case;
mod condition;
mod context;
mod document;
mod error;
mod evaluate;
mod explain;
mod json;
mod lint;
mod operand;
mod pairs;
mod pattern;
mod place;
mod search;
mod variable;

pub use case::{Case, CaseError, CaseOutcome};
pub use context::{CertificateNames, ConnectFacts, Context, Request, Thing, Transport};
pub use document::{Effect, MAX_DOCUMENT_CHARACTERS, MAX_POLICIES_PER_PRINCIPAL, PolicyDocument};
pub use error::{PolicyError, Problem};
pub use evaluate::{Place, Verdict, evaluate};
pub use explain::explain;
pub use lint::{lint, lint_for};
