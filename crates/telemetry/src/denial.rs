//! The log's line of a denial.

use iotedge_model::{Action, Principal, Protocol, TraceId};

use crate::event;

/// What was denied over HTTP, and why: the explanation of the policies.
pub fn log_http_denial(
    principal: &Principal,
    trace: TraceId,
    action: Action,
    resource: &str,
    why: &str,
) {
    tracing::warn!(
        event = event::POLICY_DENIED,
        principal_id = %principal,
        trace_id = %trace,
        protocol = Protocol::Http.as_str(),
        action = %action,
        resource,
        "{why}"
    );
}
