//! The errors of the guide with their exact messages ("Device Shadow Error Messages").

use iotedge_model::{NameError, Now};
use serde_json::{Value, json};
use thiserror::Error;

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ShadowError {
    /// Not JSON, or no object.
    #[error("Invalid JSON")]
    InvalidJson,
    /// No `state`.
    #[error("Missing required node: state")]
    MissingState,
    /// `state` is of another type.
    #[error("State node must be an object")]
    StateNotObject,
    /// `desired` is of another type.
    #[error("Desired node must be an object")]
    DesiredNotObject,
    /// `reported` is of another type.
    #[error("Reported node must be an object")]
    ReportedNotObject,
    /// `version` is no whole number from 0.
    #[error("Invalid version")]
    InvalidVersion,
    /// `clientToken` is no string or too long.
    #[error("Invalid clientToken")]
    InvalidClientToken,
    /// Too many levels in a section.
    #[error("JSON contains too many levels of nesting; maximum is {max}")]
    TooDeep {
        /// The limit.
        max: usize,
    },
    /// Something beside desired and reported, or null in an array.
    #[error("State contains an invalid node")]
    InvalidNode,
    /// The thing's or shadow's name in the topic or path.
    #[error("{0}")]
    InvalidName(NameError),
    /// A parameter of a list request.
    #[error("{0}")]
    InvalidParameter(&'static str),
    /// Nobody has said who asks, and who is nobody may not.
    #[error("Unauthorized")]
    Unauthorized,
    /// A policy says no.
    #[error("Forbidden")]
    Forbidden,
    /// The path is there, for other methods.
    #[error("Method not allowed")]
    MethodNotAllowed,
    /// No such shadow.
    #[error("No shadow exists with name: '{name}'")]
    NotFound {
        /// The thing; for a named shadow `thing~shadow`.
        name: String,
    },
    /// The version is not the shadow's.
    #[error("Version conflict")]
    VersionConflict,
    /// Both sections together are too large.
    #[error("The payload exceeds the maximum size allowed")]
    TooLarge,
    /// Not UTF-8.
    #[error("Unsupported documented encoding; supported encoding is UTF-8")]
    Encoding,
    /// Too many requests for the thing are under way.
    #[error("The Device Shadow service has {max} in-flight requests for this thing")]
    TooManyRequests {
        /// The limit.
        max: usize,
    },
    /// The store could not do its part.
    #[error("Internal service failure")]
    Internal,
}

impl ShadowError {
    /// The `code` of error documents and the status of HTTP answers.
    pub fn code(&self) -> u16 {
        match self {
            Self::InvalidJson
            | Self::MissingState
            | Self::StateNotObject
            | Self::DesiredNotObject
            | Self::ReportedNotObject
            | Self::InvalidVersion
            | Self::InvalidClientToken
            | Self::TooDeep { .. }
            | Self::InvalidNode
            | Self::InvalidName(_)
            | Self::InvalidParameter(_) => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound { .. } => 404,
            Self::MethodNotAllowed => 405,
            Self::VersionConflict => 409,
            Self::TooLarge => 413,
            Self::Encoding => 415,
            Self::TooManyRequests { .. } => 429,
            Self::Internal => 500,
        }
    }

    /// The name of the error in the data plane's API (`x-amzn-errortype`).
    pub fn aws_type(&self) -> &'static str {
        match self.code() {
            400 => "InvalidRequestException",
            401 => "UnauthorizedException",
            403 => "ForbiddenException",
            404 => "ResourceNotFoundException",
            405 => "MethodNotAllowedException",
            409 => "ConflictException",
            413 => "RequestEntityTooLargeException",
            415 => "UnsupportedDocumentEncodingException",
            429 => "ThrottlingException",
            _ => "InternalFailureException",
        }
    }
}

/// A refusal, with the client token that goes back with it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{reason}")]
pub struct Rejection {
    /// Why.
    pub reason: ShadowError,
    /// From the request, where it had a valid one.
    pub client_token: Option<String>,
}

impl Rejection {
    /// The error document.
    pub fn to_json(&self, now: &Now) -> Value {
        let document = json!({
            "code": self.reason.code(),
            "message": self.reason.to_string(),
            "timestamp": now.wall.seconds(),
        });
        super::with_token(document, self.client_token.as_deref())
    }
}

impl From<ShadowError> for Rejection {
    fn from(reason: ShadowError) -> Self {
        Self {
            reason,
            client_token: None,
        }
    }
}
