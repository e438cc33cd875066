//! What `iotedgectl` and the daemon say to each other over the control socket.
//!
//! One JSON text a line, UTF-8, at most [`MAX_LINE`] bytes with its line feed. The client sends one
//! [`Request`] and gets one line: `{"ok": ...}` or `{"error": {"reason": ..., "message": ...}}`
//! ([`Reply`]); then it may send the next. After the `ok` of [`Request::Subscribe`] the daemon
//! sends `{"message": ...}` lines until the client closes.
//!
//! Bytes are base64 texts. What stands inside `ok` is said at each request. Names of what AWS IoT
//! has are AWS's (`certificateId`, `policyDocument`); the gateway's own are in snake case.
//!
//! No enum here is internally tagged: with serde_json's `arbitrary_precision` numbers inside such
//! enums cannot be read back.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use iotedge_model::{CertificateId, QoS, ShadowName, ThingName, Topic, TopicFilter, UnixMillis};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// Longest line, line feed included: one payload of 16 MiB in base64, and what surrounds it.
pub const MAX_LINE: usize = 24 << 20;

/// Bytes that travel as base64.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Base64(pub Vec<u8>);

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        STANDARD
            .decode(text.as_bytes())
            .map(Self)
            .map_err(serde::de::Error::custom)
    }
}

/// A request: `"status"`, `{"cert-create": {"name": "pump"}}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// → [`Status`].
    Status,
    /// Makes a certificate. → [`CertificateCreated`].
    CertCreate(CertCreate),
    /// Registers a certificate made elsewhere. → [`CertificateInfo`].
    CertRegister(CertRegister),
    /// → a list of [`CertificateInfo`], without PEM.
    CertList,
    /// → [`CertificateInfo`] with PEM.
    CertDescribe(Certificate),
    /// → [`CertificateInfo`], without PEM.
    CertActivate(Certificate),
    /// Closes its connections. → [`CertificateInfo`], without PEM.
    CertDeactivate(Certificate),
    /// Closes its connections, for ever. → [`CertificateInfo`], without PEM.
    CertRevoke(Certificate),
    /// → [`PolicyInfo`], without document.
    PolicyCreate(PolicyCreate),
    /// → a list of [`PolicyInfo`], without documents.
    PolicyList,
    /// → [`PolicyInfo`].
    PolicyShow(Policy),
    /// → `null`.
    PolicyDelete(Policy),
    /// → `null`.
    PolicyAttach(PolicyTarget),
    /// → `null`.
    PolicyDetach(PolicyTarget),
    /// → [`Explained`].
    PolicyExplain(PolicyExplain),
    /// → [`ThingInfo`].
    ThingCreate(ThingCreate),
    /// → a list of [`ThingInfo`].
    ThingList,
    /// → [`ThingInfo`].
    ThingDescribe(Thing),
    /// → `null`.
    ThingDelete(Thing),
    /// Attaches a certificate to a thing. → `null`.
    ThingAttach(ThingAttach),
    /// → the shadow document, as the service answers it.
    ShadowGet(Shadow),
    /// → the accepted document, as the service answers it.
    ShadowUpdate(ShadowUpdate),
    /// → the service's answer.
    ShadowDelete(Shadow),
    /// → a list of [`RuleInfo`].
    RuleList,
    /// → [`BridgeStatus`].
    BridgeStatus,
    /// → `null`.
    BridgePause(Upstream),
    /// → `null`.
    BridgeResume(Upstream),
    /// Answered when the message is accepted and, with QoS 1, durable. → `null`.
    Publish(Publish),
    /// → `null`, then [`Reply::Message`] lines.
    Subscribe(Subscribe),
    /// Reads the configuration again; answered when the new one is in force. → [`Reloaded`].
    Reload,
}

/// A line of the daemon's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// Done.
    Ok(Value),
    /// Refused or failed.
    Error(Failure),
    /// A message for [`Request::Subscribe`].
    Message(Message),
}

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// One word for machines: `invalid`, `not-found`, `exists`, `conflict`, `refused`, `failed`,
    /// `unsupported`; for shadows the code of the service (`404`).
    pub reason: String,
    /// For people.
    pub message: String,
}

impl Failure {
    /// One with its reason.
    pub fn new(reason: &str, message: impl Into<String>) -> Self {
        Self {
            reason: reason.to_owned(),
            message: message.into(),
        }
    }
}

impl Reply {
    /// `{"ok": ...}` of anything that can be written as JSON.
    pub fn ok<T: Serialize>(value: &T) -> Self {
        match serde_json::to_value(value) {
            Ok(value) => Self::Ok(value),
            Err(e) => Self::error("failed", format!("the answer cannot be written: {e}")),
        }
    }

    /// `{"ok": null}`.
    pub fn done() -> Self {
        Self::Ok(Value::Null)
    }

    /// `{"error": ...}`.
    pub fn error(reason: &str, message: impl Into<String>) -> Self {
        Self::Error(Failure::new(reason, message))
    }

    /// The line, with its line feed.
    pub fn to_line(&self) -> Vec<u8> {
        line(self)
    }
}

impl Request {
    /// The line, with its line feed.
    pub fn to_line(&self) -> Vec<u8> {
        line(self)
    }

    /// From a line, with or without line feed.
    ///
    /// # Errors
    /// A [`Failure`] to send back.
    pub fn from_line(line: &[u8]) -> Result<Self, Failure> {
        serde_json::from_slice(line)
            .map_err(|e| Failure::new("invalid", format!("the request cannot be read: {e}")))
    }
}

fn line<T: Serialize>(value: &T) -> Vec<u8> {
    // Maps with text keys and no own serializers that fail: there is nothing to go wrong.
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line
}

macro_rules! arguments {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type),*
        }
    )*};
}

arguments! {
    /// Of [`Request::CertCreate`].
    CertCreate {
        /// The subject's common name.
        name: String,
        /// Policies to attach; must exist.
        #[serde(default)]
        policies: Vec<String>,
        /// A thing to attach it to; made when it is missing.
        #[serde(default)]
        thing: Option<ThingName>,
    }
    /// Of [`Request::CertRegister`].
    CertRegister {
        /// One certificate.
        pem: String,
        /// What to call it; default: its common name.
        #[serde(default)]
        name: Option<String>,
        /// Whether it may be used at once.
        #[serde(default)]
        active: bool,
        /// Policies to attach; must exist.
        #[serde(default)]
        policies: Vec<String>,
    }
    /// Names a certificate.
    Certificate {
        /// Its id.
        id: CertificateId,
    }
    /// Of [`Request::PolicyCreate`].
    PolicyCreate {
        /// Its name.
        name: String,
        /// The policy document's text.
        document: String,
        /// Whether one that is there gets a new version.
        #[serde(default)]
        replace: bool,
    }
    /// Names a policy.
    Policy {
        /// Its name.
        name: String,
    }
    /// Of [`Request::PolicyAttach`] and [`Request::PolicyDetach`].
    PolicyTarget {
        /// The policy's name.
        name: String,
        /// The certificate.
        certificate: CertificateId,
    }
    /// Of [`Request::PolicyExplain`].
    PolicyExplain {
        /// Whose policies.
        certificate: CertificateId,
        /// The client id that it would connect with.
        client_id: String,
        /// As policies spell it: `iot:Publish`.
        action: String,
        /// Topic, filter, client id or `thing[/shadow]`, without the ARN's beginning.
        resource: String,
        /// The peer's address.
        #[serde(default)]
        source_ip: Option<std::net::IpAddr>,
    }
    /// Of [`Request::ThingCreate`].
    ThingCreate {
        /// Its name.
        name: ThingName,
        /// Its attributes.
        #[serde(default)]
        attributes: BTreeMap<String, String>,
    }
    /// Names a thing.
    Thing {
        /// Its name.
        name: ThingName,
    }
    /// Of [`Request::ThingAttach`].
    ThingAttach {
        /// The thing.
        name: ThingName,
        /// The certificate.
        certificate: CertificateId,
    }
    /// Names a shadow.
    Shadow {
        /// The thing.
        thing: ThingName,
        /// The shadow; `None` is the classic one.
        #[serde(default)]
        name: Option<ShadowName>,
    }
    /// Of [`Request::ShadowUpdate`].
    ShadowUpdate {
        /// The thing.
        thing: ThingName,
        /// The shadow; `None` is the classic one.
        #[serde(default)]
        name: Option<ShadowName>,
        /// The request document, as a device would send it.
        document: Base64,
    }
    /// Names an upstream.
    Upstream {
        /// Its name.
        upstream: String,
    }
    /// Of [`Request::Publish`].
    Publish {
        /// Topic.
        topic: Topic,
        /// Payload.
        payload: Base64,
        /// 0 or 1.
        qos: QoS,
        /// Whether it is retained.
        #[serde(default)]
        retain: bool,
    }
    /// Of [`Request::Subscribe`].
    Subscribe {
        /// Filter.
        filter: TopicFilter,
        /// 0 or 1.
        qos: QoS,
    }
    /// In [`Reply::Message`].
    Message {
        /// Topic.
        topic: String,
        /// Payload.
        payload: Base64,
        /// QoS of the delivery.
        qos: QoS,
        /// RETAIN flag of the delivery.
        retain: bool,
    }
}

macro_rules! answers {
    ($case:literal $($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
        #[serde(rename_all = $case, default)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type),*
        }
    )*};
}

// An answer may get more members: a client of another version reads what it knows.
answers! { "camelCase"
    /// A certificate just made. The key is nowhere else.
    CertificateCreated {
        /// SHA-256 of the certificate.
        certificate_id: String,
        /// Its ARN.
        certificate_arn: String,
        /// The certificate.
        certificate_pem: String,
        /// Its key.
        private_key: String,
        /// The CA that signed it and the gateway's server certificate.
        ca_pem: String,
    }
    /// A certificate.
    CertificateInfo {
        /// SHA-256 of the certificate.
        certificate_id: String,
        /// Its ARN.
        certificate_arn: String,
        /// What the operator called it.
        name: String,
        /// `ACTIVE`, `INACTIVE`, `REVOKED`, `PENDING_ACTIVATION`.
        status: String,
        /// `created` here or `registered`.
        origin: String,
        /// Subject, one line.
        subject: String,
        /// Issuer, one line.
        issuer: String,
        /// Hex digits.
        serial_number: String,
        /// Seconds since 1970.
        not_before: i64,
        /// Seconds since 1970.
        not_after: i64,
        /// When it was made or registered here.
        creation_date: UnixMillis,
        /// Attached policies.
        policies: Vec<String>,
        /// Things that it is attached to.
        things: Vec<String>,
        /// The certificate, where it was asked for.
        #[serde(skip_serializing_if = "Option::is_none")]
        certificate_pem: Option<String>,
    }
    /// A policy.
    PolicyInfo {
        /// Its name.
        policy_name: String,
        /// Its ARN.
        policy_arn: String,
        /// `store` or `file`.
        origin: String,
        /// The default version's number.
        version: u64,
        /// To how many certificates it is attached.
        attachments: u64,
        /// The document's text, where it was asked for.
        #[serde(skip_serializing_if = "Option::is_none")]
        policy_document: Option<String>,
        /// Remarks on the document.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        warnings: Vec<String>,
    }
    /// A thing.
    ThingInfo {
        /// Its name.
        thing_name: String,
        /// Its ARN.
        thing_arn: String,
        /// Its type.
        #[serde(skip_serializing_if = "Option::is_none")]
        thing_type_name: Option<String>,
        /// Its attributes.
        attributes: BTreeMap<String, String>,
        /// Grows with each change.
        version: u64,
        /// Certificates attached to it.
        principals: Vec<String>,
    }
    /// A rule.
    RuleInfo {
        /// Its name.
        rule_name: String,
        /// Its statement.
        sql: String,
        /// Its topic filter.
        topic_pattern: String,
        /// Whether it is switched off.
        rule_disabled: bool,
        /// `file` or `store`.
        origin: String,
        /// Names of its actions.
        actions: Vec<String>,
        /// What it has done since start, by name (`executed`, `failed`, ...).
        counts: BTreeMap<String, u64>,
    }
}

answers! { "snake_case"
    /// Of [`Request::PolicyExplain`].
    Explained {
        /// Whether it is allowed.
        allowed: bool,
        /// The verdict, the statement that gave it, variables filled in; several lines.
        explanation: String,
    }
    /// Of [`Request::Status`].
    Status {
        /// The daemon's version.
        version: String,
        /// The gateway as a thing.
        thing_name: String,
        /// Process id.
        pid: u32,
        /// Seconds since its start.
        uptime: u64,
        /// The wall clock.
        time: UnixMillis,
        /// Whether that can be believed.
        time_trusted: bool,
        /// Listeners.
        listeners: Vec<ListenerStatus>,
        /// Connected clients.
        clients: u64,
        /// Sessions, connected or waiting.
        sessions: u64,
        /// Subscriptions of all sessions.
        subscriptions: u64,
        /// Retained messages.
        retained: u64,
        /// Messages waiting for sessions.
        queued: u64,
        /// The store.
        store: StoreStatus,
        /// Upstreams.
        upstreams: Vec<UpstreamStatus>,
        /// Serial ports.
        serial: Vec<SerialStatus>,
        /// Drops since start, by reason.
        dropped: BTreeMap<String, u64>,
    }
    /// A listener.
    ListenerStatus {
        /// `mqtt`, `mqtts`, ...
        protocol: String,
        /// Where it listens.
        address: String,
        /// `certificate`, `anonymous`.
        auth: String,
    }
    /// The store.
    StoreStatus {
        /// Whether it takes messages.
        healthy: bool,
        /// Why it does not.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// Bytes of both files.
        used_bytes: u64,
        /// `store.max_bytes`.
        max_bytes: u64,
        /// Bytes that wait for their commit.
        pending_bytes: u64,
    }
    /// A serial port.
    SerialStatus {
        /// Its name.
        name: String,
        /// Its device.
        path: String,
        /// `open`, or what else it is.
        state: String,
        /// Why it is not open.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// Lines that became messages, since start.
        lines: u64,
        /// Lines that did not, since start.
        errors: u64,
    }
    /// Of [`Request::BridgeStatus`].
    BridgeStatus {
        /// All upstreams.
        upstreams: Vec<UpstreamStatus>,
    }
    /// An upstream.
    UpstreamStatus {
        /// Its name.
        name: String,
        /// Its URL.
        url: String,
        /// `connecting`, `connected`, `backing-off`, `paused`, `misconfigured`, `stopped`.
        state: String,
        /// Why it stands there.
        reason: String,
        /// Since when.
        since: UnixMillis,
        /// When the next try begins.
        next_retry: Option<UnixMillis>,
        /// Successful connections since start.
        connects: u64,
        /// Its routes.
        routes: Vec<RouteStatus>,
    }
    /// A route's accounts: accepted = delivered + queued + the sum of dropped.
    RouteStatus {
        /// Its name.
        name: String,
        /// `out` or `in`.
        direction: String,
        /// Its filter.
        filter: String,
        /// Messages taken in, since ever.
        accepted: u64,
        /// Messages that the other side acknowledged, since ever.
        delivered: u64,
        /// Messages waiting.
        queued: u64,
        /// Their bytes.
        queued_bytes: u64,
        /// Drops since ever, by reason.
        dropped: BTreeMap<String, u64>,
        /// Sent again after a lost connection, since start.
        resent: u64,
    }
    /// Of [`Request::Reload`].
    Reloaded {
        /// What changed, a line each; empty: nothing.
        changes: Vec<String>,
    }
}

impl From<&iotedge_ports::UpstreamStatus> for UpstreamStatus {
    fn from(status: &iotedge_ports::UpstreamStatus) -> Self {
        use iotedge_ports::LinkState as S;
        Self {
            name: status.name.to_string(),
            url: status.url.clone(),
            state: match status.state {
                S::Connecting => "connecting",
                S::Connected => "connected",
                S::BackingOff => "backing-off",
                S::Paused => "paused",
                S::Misconfigured => "misconfigured",
                S::Stopped => "stopped",
            }
            .to_owned(),
            reason: status.reason.clone(),
            since: status.since,
            next_retry: status.next_retry,
            connects: status.connects,
            routes: status.routes.iter().map(RouteStatus::from).collect(),
        }
    }
}

impl From<&iotedge_ports::RouteStatus> for RouteStatus {
    fn from(route: &iotedge_ports::RouteStatus) -> Self {
        Self {
            name: route.name.to_string(),
            direction: route.direction.to_owned(),
            filter: route.filter.clone(),
            accepted: route.accepted,
            delivered: route.delivered,
            queued: route.queued,
            queued_bytes: route.queued_bytes,
            dropped: route.dropped.clone(),
            resent: route.resent,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn round_trip(request: Request, text: &str) {
        let line = request.to_line();
        assert_eq!(String::from_utf8_lossy(&line).trim_end(), text);
        assert_eq!(line.last(), Some(&b'\n'));
        assert_eq!(Request::from_line(&line), Ok(request));
    }

    #[test]
    fn requests_are_lines_as_written_here() {
        round_trip(Request::Status, r#""status""#);
        round_trip(
            Request::Publish(Publish {
                topic: Topic::new("a/b").unwrap(),
                payload: Base64(vec![0, 255]),
                qos: QoS::AtLeastOnce,
                retain: false,
            }),
            r#"{"publish":{"topic":"a/b","payload":"AP8=","qos":1,"retain":false}}"#,
        );
        round_trip(
            Request::ShadowGet(Shadow {
                thing: ThingName::new("lamp").unwrap(),
                name: None,
            }),
            r#"{"shadow-get":{"thing":"lamp","name":null}}"#,
        );
    }

    #[test]
    fn what_is_no_request_is_refused_with_a_reason() {
        for line in [
            "",
            "{",
            r#""frobnicate""#,
            r#"{"shadow-get":{"thing":"a/b"}}"#,
            r#"{"publish":{"topic":"a/#","payload":"","qos":0}}"#,
            r#"{"publish":{"topic":"a","payload":"","qos":3}}"#,
            r#"{"publish":{"topic":"a","payload":"=","qos":0}}"#,
            r#"{"cert-revoke":{"id":"a","x":1}}"#,
        ] {
            let failure = Request::from_line(line.as_bytes()).unwrap_err();
            assert_eq!(failure.reason, "invalid", "{line}");
        }
    }

    #[test]
    fn replies_go_there_and_back_with_their_numbers() {
        let status = Status {
            uptime: 17,
            dropped: BTreeMap::from([("policy".to_owned(), 3)]),
            ..Status::default()
        };
        let line = Reply::ok(&status).to_line();
        let Reply::Ok(value) = serde_json::from_slice(&line).unwrap() else {
            panic!("not ok");
        };
        assert_eq!(serde_json::from_value::<Status>(value).unwrap(), status);
        let line = Reply::error("not-found", "no such thing").to_line();
        assert_eq!(
            String::from_utf8_lossy(&line),
            "{\"error\":{\"reason\":\"not-found\",\"message\":\"no such thing\"}}\n"
        );
        let document: Value =
            serde_json::from_str(r#"{"n":1.10,"b":12345678901234567890123}"#).unwrap();
        let line = Reply::Ok(document.clone()).to_line();
        assert_eq!(
            serde_json::from_slice::<Reply>(&line).unwrap(),
            Reply::Ok(document)
        );
    }
}
