//! Amazon Resource Names of this gateway's resources.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Action;

/// What stands between `arn:aws:iot:` and the resource: the gateway's region and account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArnScope {
    /// `gateway.region`.
    pub region: Arc<str>,
    /// `gateway.account_id`, 12 digits.
    pub account_id: Arc<str>,
}

impl ArnScope {
    /// The ARN of what `action` is done to.
    pub fn resource(&self, action: Action, resource: &str) -> Arn {
        self.arn(action.resource_type(), resource)
    }

    /// `arn:aws:iot:REGION:ACCOUNT:KIND/NAME`.
    pub fn arn(&self, kind: &str, name: &str) -> Arn {
        Arn(format!(
            "arn:aws:iot:{}:{}:{kind}/{name}",
            self.region, self.account_id
        ))
    }
}

/// A whole ARN.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Arn(String);

impl Arn {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Arn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Arn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
