//! From the first byte to CONNACK.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use iotedge_model::{Action, ClientId, Topic, TraceId};
use iotedge_mqtt::{
    ConnAck, ConnAckProperties, Connect, DecodeError, Decoder, LastWill, Packet, ReasonCode,
    Version, WillProperties,
};
use iotedge_ports::{
    ConnectFacts, ConnectFailed, ConnectRefused, ConnectRequest, Connected, NotAuthenticated,
    PrincipalStatus, Wake, Will,
};
use iotedge_telemetry::{METRICS, Metric, Traffic, event};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

use super::auth::Asker;
use super::end::reason_string;
use super::handle::Handle;
use super::terms::Terms;
use super::{LAST_WORDS, Peer, hang_up};
use crate::authenticate::{self, Stay};
use crate::{Context, Limits};

/// Why there is no connection.
#[derive(Debug, Error)]
pub(crate) enum Refused {
    #[error("{0}")]
    Decode(#[from] DecodeError),
    #[error("the connection was closed before CONNECT")]
    Closed,
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("an empty client id needs clean session")]
    EmptyClientId,
    #[error("an empty client id, and the listener has allow_empty_client_id = false")]
    NoClientId,
    #[error("{0}")]
    ClientId(String),
    #[error("enhanced authentication with method {0:?} is not supported")]
    AuthenticationMethod(String),
    #[error("the certificate is {0}")]
    Certificate(&'static str),
    #[error("not authenticated: {0}")]
    Credentials(NotAuthenticated),
    #[error("iot:Connect is denied")]
    Connect,
    #[error("the will on topic {topic:?} is refused: {reason}")]
    Will {
        topic: String,
        reason: String,
        code: ReasonCode,
    },
    #[error("a will of QoS {qos}, more than max_qos ({max})")]
    WillQos {
        qos: u8,
        max: u8,
        /// AWS IoT Core closes the connection of a 3.1.1 client without CONNACK.
        silent: bool,
    },
    #[error("the session of client id {0:?} belongs to a certificate")]
    NotYours(String),
    #[error(
        "the gateway has as many clients or sessions as broker.max_connections or broker.max_sessions allow"
    )]
    TooMany,
    #[error("the client id connects more often than broker.max_connects_per_client allows")]
    TooSoon,
    #[error("the gateway stops")]
    Stopping,
    #[error("the store takes nothing: what CONNACK promises could not be kept")]
    NotKept,
}

impl Refused {
    /// The reason in the CONNACK that says so, where the standard has one. What 3.1.1 has for it is
    /// [`ReasonCode::return_code`]'s business.
    fn connack(&self, version: Version) -> Option<ReasonCode> {
        Some(match self {
            Self::Decode(error) => error.connack(version)?,
            Self::Closed | Self::Io(_) => return None,
            Self::EmptyClientId | Self::NoClientId | Self::ClientId(_) => {
                ReasonCode::ClientIdentifierNotValid
            }
            Self::WillQos { silent: true, .. } if version == Version::V311 => return None,
            Self::WillQos { .. } => ReasonCode::QosNotSupported,
            Self::AuthenticationMethod(_) => ReasonCode::BadAuthenticationMethod,
            Self::Will { code, .. } => *code,
            Self::Credentials(NotAuthenticated::Refused(_)) => ReasonCode::BadUserNameOrPassword,
            Self::Credentials(NotAuthenticated::Busy(_)) => ReasonCode::ServerBusy,
            Self::Credentials(NotAuthenticated::Unavailable(_)) => ReasonCode::ServerUnavailable,
            Self::Certificate(_) | Self::Connect | Self::NotYours(_) => ReasonCode::NotAuthorized,
            Self::TooMany | Self::TooSoon => ReasonCode::QuotaExceeded,
            Self::Stopping | Self::NotKept => ReasonCode::ServerUnavailable,
        })
    }

    /// It may not be here, or may not have its will: there is a lifecycle event for that.
    pub(crate) fn is_unauthorized(&self) -> bool {
        match self {
            Self::Certificate(_)
            | Self::Credentials(NotAuthenticated::Refused(_))
            | Self::Connect
            | Self::NotYours(_) => true,
            Self::Will { code, .. } => *code == ReasonCode::NotAuthorized,
            _ => false,
        }
    }

    fn metric(&self) -> Metric {
        match self {
            Self::Decode(_)
            | Self::Closed
            | Self::Io(_)
            | Self::EmptyClientId
            | Self::NoClientId
            | Self::ClientId(_)
            | Self::WillQos { .. } => Metric::ConnectClientError,
            Self::AuthenticationMethod(_)
            | Self::Certificate(_)
            | Self::Credentials(NotAuthenticated::Refused(_))
            | Self::Connect
            | Self::Will { .. }
            | Self::NotYours(_) => Metric::ConnectAuthError,
            Self::Credentials(NotAuthenticated::Unavailable(_))
            | Self::TooMany
            | Self::Stopping
            | Self::NotKept => Metric::ConnectServerError,
            Self::Credentials(NotAuthenticated::Busy(_)) | Self::TooSoon => Metric::ConnectThrottle,
        }
    }
}

/// A session with its connection.
pub(crate) struct Opened {
    pub(crate) connected: Connected,
    pub(crate) handle: Arc<Handle>,
    pub(crate) client_id: ClientId,
    /// The client had none of its own.
    pub(crate) assigned: bool,
    pub(crate) terms: Terms,
    /// On what terms it stays, where it showed credentials.
    pub(crate) stay: Option<Stay>,
}

/// How long the connection that had the client id before may take to end.
const PREDECESSOR: Duration = Duration::from_secs(1);

/// Bytes read at once before the connection has proved that it needs more.
pub(crate) const FIRST_READ: usize = 512;

pub(crate) async fn read_connect<R: AsyncRead + Unpin>(
    reader: &mut R,
    decoder: &mut Decoder,
    buffer: &mut BytesMut,
) -> Result<Connect, Refused> {
    loop {
        match decoder.decode(buffer)? {
            Some(Packet::Connect(connect)) => {
                METRICS.passed(Traffic::Connects, 1);
                METRICS.passed(Traffic::PacketsReceived, 1);
                return Ok(connect);
            }
            // The decoder lets nothing else come first.
            Some(_) => return Err(Refused::Closed),
            None => {}
        }
        buffer.reserve(FIRST_READ);
        match reader.read_buf(buffer).await? {
            0 => return Err(Refused::Closed),
            n => METRICS.passed(Traffic::BytesReceived, n as u64),
        }
    }
}

/// Answers as the standard says, and explains in the log.
pub(crate) async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    peer: &Peer,
    refused: &Refused,
    terms: &Terms,
) {
    METRICS.count(refused.metric(), peer.protocol);
    tracing::warn!(
        event = event::CONNECT_REFUSED,
        remote = %peer.remote,
        listener = %peer.listener.name,
        principal_id = %peer.principal,
        trace_id = %peer.trace,
        "{refused}"
    );
    if let Some(reason) = refused.connack(terms.version) {
        let mut out = BytesMut::new();
        let mut ack = ConnAck::from(reason);
        if terms.is_v5() {
            ack.properties = Some(Box::new(ConnAckProperties {
                reason_string: reason_string(&refused.to_string()),
                ..ConnAckProperties::default()
            }));
        }
        let packet = Packet::ConnAck(ack);
        let most = terms.max_packet_bytes;
        match iotedge_mqtt::encode_within(terms.version, &packet, most, &mut out) {
            Ok(()) => {
                METRICS.passed(Traffic::AnswersSent, 1);
                METRICS.passed(Traffic::BytesSent, out.len() as u64);
                // The peer may be gone already; there is nobody else to tell.
                let _ = stream.write_all(&out).await;
            }
            Err(error) => tracing::debug!(%error, "the refusal could not be written"),
        }
    }
    let _ = tokio::time::timeout(LAST_WORDS, hang_up(stream)).await;
}

/// Asks everything there is to ask of a CONNECT and attaches its session.
pub(crate) async fn attach(
    connect: Connect,
    terms: Terms,
    peer: &mut Peer,
    context: &Arc<Context>,
) -> Result<Opened, Refused> {
    let asked = connect.client_id.clone();
    let opened = match authenticate::client(&connect, peer).await {
        Ok(stay) => match admit(connect, terms, peer, context).await {
            Ok(opened) => Ok(Opened { stay, ..opened }),
            Err(refused) => Err(refused),
        },
        Err(why) => Err(Refused::Credentials(why)),
    };
    let unauthorized = matches!(&opened, Err(refused) if refused.is_unauthorized());
    // A client without an id of its own has no event.
    if let (true, Ok(client_id)) = (unauthorized, ClientId::new(asked.as_str())) {
        context.broker.connect_failed(ConnectFailed {
            client_id,
            principal: peer.principal.clone(),
            remote: peer.remote.address(),
        });
    }
    opened
}

fn check_certificate(peer: &Peer, context: &Context) -> Result<(), Refused> {
    match standing_text(peer.standing(context)) {
        None => Ok(()),
        Some(status) => Err(Refused::Certificate(status)),
    }
}

/// What is wrong with a certificate that may not be here, in words for the log.
pub fn standing_text(status: PrincipalStatus) -> Option<&'static str> {
    match status {
        PrincipalStatus::Active => None,
        PrincipalStatus::Inactive => Some("INACTIVE"),
        PrincipalStatus::Revoked => Some("REVOKED"),
        PrincipalStatus::PendingActivation => Some("PENDING_ACTIVATION"),
        PrincipalStatus::Expired => Some("outside its validity"),
        PrincipalStatus::Unknown => Some("not registered"),
    }
}

async fn admit(
    connect: Connect,
    terms: Terms,
    peer: &Peer,
    context: &Arc<Context>,
) -> Result<Opened, Refused> {
    check_certificate(peer, context)?;
    let method = connect.properties.as_deref();
    if let Some(method) = method.and_then(|p| p.authentication_method.as_ref()) {
        let method = method.as_str().to_owned();
        return Err(Refused::AuthenticationMethod(method));
    }
    let assigned = connect.client_id.as_str().is_empty();
    let client_id = client_id(&connect, &context.limits)?;
    let asker = Asker::new(context, peer, &client_id);
    let facts = ConnectFacts {
        persistent: !connect.clean || terms.session_expiry > 0,
        will_topic: connect.will.as_ref().map(|will| will.topic.as_str()),
    };
    if !asker.ask_connect(facts) {
        return Err(Refused::Connect);
    }
    let will = connect
        .will
        .map(|will| check_will(will, asker, &context.limits))
        .transpose()?
        .flatten();
    let handle = Arc::new(Handle::default());
    if context
        .broker
        .make_way(&client_id, &peer.principal, handle.clone())
    {
        // One that does not end by itself is taken over.
        let ended = poll_fn(|cx| handle.poll_notified(cx));
        let _ = tokio::time::timeout(PREDECESSOR, ended).await;
    }
    // No publish of this connection has been numbered.
    let ack = (handle.clone() as Arc<_>, 0);
    let request = ConnectRequest {
        client_id: client_id.clone(),
        clean: connect.clean,
        session_expiry: terms.session_expiry,
        principal: peer.principal.clone(),
        will,
        protocol_level: terms.version.level(),
        keep_alive: terms.keep_alive,
        receive_maximum: terms.receive_maximum,
        remote: peer.remote.address(),
        listener: peer.listener.name.clone(),
        handle: handle.clone(),
        silent: false,
        ack,
    };
    let connected = context
        .broker
        .connect(request)
        .map_err(|refused| match refused {
            ConnectRefused::NotYours => Refused::NotYours(client_id.to_string()),
            ConnectRefused::TooMany => Refused::TooMany,
            ConnectRefused::TooSoon => Refused::TooSoon,
            ConnectRefused::Stopping => Refused::Stopping,
        })?;
    METRICS.count(Metric::ConnectSuccess, peer.protocol);
    tracing::info!(
        event = event::CONNECT,
        remote = %peer.remote,
        principal_id = %peer.principal,
        trace_id = %peer.trace,
        client_id = %client_id,
        protocol_level = terms.version.level(),
        session_present = connected.session_present,
        "connected"
    );
    Ok(Opened {
        connected,
        handle,
        client_id,
        assigned,
        terms,
        stay: None,
    })
}

/// Waits until what CONNACK says of the session outlives a crash.
pub(crate) async fn promise_is_kept(opened: &Opened, deadline: Instant) -> Result<(), Refused> {
    if opened.connected.promised {
        return Ok(());
    }
    let handle = &opened.handle;
    let mut acked = Vec::new();
    loop {
        tokio::time::timeout_at(deadline, poll_fn(|cx| handle.poll_notified(cx)))
            .await
            .map_err(|_| Refused::NotKept)?;
        handle.take(&mut acked);
        if let Some((_, outcome)) = acked.first() {
            outcome.map_err(|_| Refused::NotKept)?;
            break;
        }
    }
    // Whatever else has come is looked at by who goes on.
    handle.wake();
    Ok(())
}

/// [MQTT-3.1.3-6], [MQTT-3.1.3-7]: an empty one is replaced by a unique one; in 3.1.1 only with
/// clean session, in version 5, which tells the client its name, always.
fn client_id(connect: &Connect, limits: &Limits) -> Result<ClientId, Refused> {
    let text = connect.client_id.as_str();
    if text.is_empty() {
        if !limits.allow_empty_client_id {
            return Err(Refused::NoClientId);
        }
        if !connect.clean && connect.version == Version::V311 {
            return Err(Refused::EmptyClientId);
        }
        let name = format!("auto-{}", TraceId::unique());
        return ClientId::new(&name).map_err(|_| Refused::EmptyClientId);
    }
    if text.len() > limits.max_client_id_bytes {
        return Err(Refused::ClientId(format!(
            "a client id of {} bytes, more than broker.max_client_id_bytes ({})",
            text.len(),
            limits.max_client_id_bytes
        )));
    }
    if limits.is_aws() && text.starts_with('$') {
        let what = "client ids that begin with $ are reserved".to_owned();
        return Err(Refused::ClientId(what));
    }
    ClientId::new(text).map_err(|error| Refused::ClientId(error.to_string()))
}

/// `None` for a will that nobody will get.
fn check_will(will: LastWill, asker: Asker<'_>, limits: &Limits) -> Result<Option<Will>, Refused> {
    let refused = |reason: String, code| Refused::Will {
        topic: will.topic.as_str().to_owned(),
        reason,
        code,
    };
    let topic = Topic::new(will.topic.as_str())
        .map_err(|error| refused(error.to_string(), ReasonCode::TopicNameInvalid))?;
    if will.qos > limits.max_qos {
        return Err(Refused::WillQos {
            qos: will.qos.into(),
            max: limits.max_qos.into(),
            silent: limits.is_aws(),
        });
    }
    if will.retain && !limits.retain_available {
        let what = "broker.retain_available is false".to_owned();
        return Err(refused(what, ReasonCode::RetainNotSupported));
    }
    let documented = limits.reserved_wills && limits.may_publish(&topic);
    if limits.is_reserved(&topic) && (will.retain || !documented) {
        // As AWS IoT does, which takes the CONNECT all the same.
        tracing::warn!(
            event = event::MESSAGE_DROPPED,
            client_id = asker.client_id().as_str(),
            topic = %topic,
            "a will on this reserved topic is ignored"
        );
        return Ok(None);
    }
    if let Some(excess) = limits.topic_excess(topic.as_str()) {
        return Err(refused(excess, ReasonCode::TopicNameInvalid));
    }
    if let Some(excess) = limits.payload_excess(will.payload.len()) {
        return Err(refused(excess, ReasonCode::QuotaExceeded));
    }
    let denied = |action| refused(format!("{action} is denied"), ReasonCode::NotAuthorized);
    if !asker.ask(Action::Publish, topic.as_str()) {
        return Err(denied(Action::Publish));
    }
    if will.retain && !asker.ask(Action::RetainPublish, topic.as_str()) {
        return Err(denied(Action::RetainPublish));
    }
    let WillProperties {
        delay,
        message_expiry,
        message,
    } = will.properties.map(|p| *p).unwrap_or_default();
    Ok(Some(Will {
        topic,
        payload: bytes::Bytes::copy_from_slice(&will.payload),
        qos: will.qos,
        retain: will.retain,
        delay,
        expiry: limits.message_expiry(message_expiry),
        properties: message,
    }))
}
