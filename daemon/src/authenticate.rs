//! Clients without a certificate: users with passwords, and custom authorizers.

mod answer;
mod call;
mod custom;
mod failures;
mod http;
mod users;

pub use custom::{Authorizers, MakeGrant};
pub use users::{Users, read as read_users};

/// Whether a custom authorizer can be asked at this URL.
pub fn check_url(url: &str) -> Result<(), String> {
    http::parse(url).map(|_| ())
}
