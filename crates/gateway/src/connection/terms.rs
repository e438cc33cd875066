//! What a client has asked for in CONNECT, for as long as its connection lasts.

use std::num::{NonZeroU16, NonZeroU32};

use iotedge_mqtt::{Connect, ConnectProperties, Version};

use crate::Limits;

/// A client's terms. 3.1.1 has none of them: what it cannot say has version 5's default.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) version: Version,
    /// How many QoS 1 messages it takes at once.
    pub(crate) receive_maximum: NonZeroU16,
    /// Bytes of the largest packet that it takes.
    pub(crate) max_packet_bytes: usize,
    /// The highest topic alias that it takes.
    pub(crate) topic_alias_maximum: u16,
    /// Seconds that its session outlives the connection, within what the configuration allows.
    pub(crate) session_expiry: u32,
    /// It asked for more.
    pub(crate) session_expiry_cut: bool,
    /// Seconds between two packets at most, within what the configuration allows; 0 for ever.
    pub(crate) keep_alive: u16,
    /// It asked for another.
    pub(crate) keep_alive_changed: bool,
    /// It wants words with the reason codes of its own packets (MQTT 5, 3.1.2.11.7).
    pub(crate) problem_information: bool,
}

impl Terms {
    /// Of a CONNECT that could not be read, as far as it could.
    pub(crate) fn unknown(version: Version, max_packet_bytes: Option<NonZeroU32>) -> Self {
        Self {
            version,
            receive_maximum: NonZeroU16::MAX,
            max_packet_bytes: max_packet_bytes
                .and_then(|size| usize::try_from(size.get()).ok())
                .unwrap_or(usize::MAX),
            topic_alias_maximum: 0,
            session_expiry: 0,
            session_expiry_cut: false,
            keep_alive: 0,
            keep_alive_changed: false,
            problem_information: true,
        }
    }

    pub(crate) fn of(connect: &Connect, limits: &Limits) -> Self {
        let keep_alive = limits.keep_alive(connect.keep_alive);
        if connect.version == Version::V311 {
            let session_expiry = if connect.clean {
                0
            } else {
                limits.session_expiry
            };
            return Self {
                session_expiry,
                keep_alive,
                ..Self::unknown(Version::V311, None)
            };
        }
        let default = ConnectProperties::default();
        let asked = connect.properties.as_deref().unwrap_or(&default);
        let session_expiry = asked.session_expiry.min(limits.max_session_expiry);
        Self {
            receive_maximum: asked.receive_maximum,
            topic_alias_maximum: asked.topic_alias_maximum,
            session_expiry,
            session_expiry_cut: session_expiry != asked.session_expiry,
            keep_alive,
            keep_alive_changed: keep_alive != connect.keep_alive,
            problem_information: asked.request_problem_information,
            ..Self::unknown(Version::V5, asked.maximum_packet_size)
        }
    }

    pub(crate) fn is_v5(&self) -> bool {
        self.version == Version::V5
    }
}
