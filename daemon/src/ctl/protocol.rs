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

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use iotedge_model::{CertificateId, QoS, ShadowName, ThingName, Topic, TopicFilter};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

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

mod answers;
mod policies;
mod things;
mod upstreams;

pub use answers::*;
pub use policies::*;
pub use things::*;

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
    CertList(CertList),
    /// → [`CertificateInfo`] with PEM.
    CertDescribe(Certificate),
    /// → [`CertificateInfo`], without PEM.
    CertActivate(Certificate),
    /// Closes its connections. → [`CertificateInfo`], without PEM.
    CertDeactivate(Certificate),
    /// Closes its connections, for ever. → [`CertificateInfo`], without PEM.
    CertRevoke(Certificate),
    /// Forgets a certificate that cannot connect. → `null`.
    CertDelete(Certificate),
    /// → a list of [`CaInfo`], without PEM.
    CaList,
    /// → [`CaInfo`] with PEM.
    CaDescribe(Certificate),
    /// → [`RegistrationCode`].
    CaRegistrationCode(CaRegistrationCode),
    /// Registers a CA made elsewhere. → [`CaInfo`], without PEM.
    CaRegister(CaRegister),
    /// → [`CaInfo`], without PEM.
    CaUpdate(CaUpdate),
    /// Forgets an inactive registered CA. → `null`.
    CaDelete(Certificate),
    /// Puts a new CA in the place of the gateway's own. → [`CaRotated`].
    CaRotate,
    /// Forgets the CA from before the rotation. → the ids of the certificates that it revoked.
    CaDrop(CaDrop),
    /// → [`ClockInfo`].
    ClockShow,
    /// Takes the system's clock for right. → [`ClockInfo`].
    ClockTrust,
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
    /// Adds a version. → [`PolicyVersionInfo`], without document.
    PolicyVersionCreate(PolicyVersionCreate),
    /// → a list of [`PolicyVersionInfo`], without documents.
    PolicyVersionList(Policy),
    /// → [`PolicyVersionInfo`].
    PolicyVersionShow(PolicyVersion),
    /// Puts a version in force. → `null`.
    PolicyVersionSetDefault(PolicyVersion),
    /// → `null`.
    PolicyVersionDelete(PolicyVersion),
    /// → [`ThingInfo`].
    ThingCreate(ThingCreate),
    /// → a list of [`ThingInfo`].
    ThingList(ThingList),
    /// → [`ThingInfo`].
    ThingDescribe(Thing),
    /// → [`ThingInfo`].
    ThingUpdate(ThingUpdate),
    /// → `null`.
    ThingDelete(ThingDelete),
    /// Attaches a certificate to a thing. → `null`.
    ThingAttach(ThingAttach),
    /// Detaches a certificate from a thing. → `null`.
    ThingDetach(ThingAttach),
    /// → [`ThingGroupInfo`].
    ThingGroupCreate(ThingGroupCreate),
    /// → a list of [`ThingGroupInfo`], without things.
    ThingGroupList,
    /// → [`ThingGroupInfo`].
    ThingGroupDescribe(ThingGroup),
    /// → `null`.
    ThingGroupDelete(ThingGroup),
    /// Puts a thing into a group. → `null`.
    ThingGroupAdd(ThingGroupMember),
    /// Takes a thing out of a group. → `null`.
    ThingGroupRemove(ThingGroupMember),
    /// Attaches a policy to a group. → `null`.
    ThingGroupAttachPolicy(ThingGroupPolicy),
    /// Detaches a policy from a group. → `null`.
    ThingGroupDetachPolicy(ThingGroupPolicy),
    /// → [`ThingTypeInfo`].
    ThingTypeCreate(ThingTypeCreate),
    /// → a list of [`ThingTypeInfo`].
    ThingTypeList,
    /// → [`ThingTypeInfo`].
    ThingTypeDescribe(ThingType),
    /// → [`ThingTypeInfo`].
    ThingTypeDeprecate(ThingTypeDeprecate),
    /// → `null`.
    ThingTypeDelete(ThingType),
    /// → the shadow document, as the service answers it.
    ShadowGet(Shadow),
    /// → the accepted document, as the service answers it.
    ShadowUpdate(ShadowUpdate),
    /// → the service's answer.
    ShadowDelete(Shadow),
    /// → a list of [`ShadowInfo`], sorted.
    ShadowList(ShadowList),
    /// → a list of [`ConflictInfo`], oldest first.
    ShadowConflicts(ShadowConflicts),
    /// Removes all of them. → how many they were.
    ShadowConflictsClear,
    /// → a list of [`RuleInfo`], without documents.
    RuleList,
    /// → [`RuleInfo`].
    RuleShow(Rule),
    /// Makes or replaces a rule. → [`RuleInfo`], without document.
    RuleCreate(RuleCreate),
    /// → [`RuleInfo`], without document.
    RuleEnable(Rule),
    /// → [`RuleInfo`], without document.
    RuleDisable(Rule),
    /// → `null`.
    RuleDelete(Rule),
    /// → a list of [`DeadLetterInfo`], without bodies, oldest first.
    DeadLetterList(DeadLetterList),
    /// → [`DeadLetterInfo`].
    DeadLetterShow(DeadLetter),
    /// Answered when it waits in its queue again, durably. → `null`.
    DeadLetterReplay(DeadLetter),
    /// → `null`.
    DeadLetterDrop(DeadLetter),
    /// → [`BridgeStatus`].
    BridgeStatus,
    /// The link pauses meanwhile. → [`BridgeTested`].
    BridgeTest(BridgeTest),
    /// → a list of [`QueueInfo`].
    BridgeQueue(BridgeQueue),
    /// → `null`.
    BridgePause(Upstream),
    /// → `null`.
    BridgeResume(Upstream),
    /// Answered when the message is accepted and, with QoS 1 and 2, durable. → `null`.
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

arguments! {
    /// Of [`Request::CertCreate`].
    CertCreate {
        /// The subject's common name; without it that of `csr`.
        #[serde(default)]
        name: Option<String>,
        /// A certificate signing request, PEM: for its key, and with its subject.
        #[serde(default)]
        csr: Option<String>,
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
        /// The registered CA that signed it, where several have its key.
        #[serde(default)]
        ca: Option<CertificateId>,
        /// Whether it may be used at once.
        #[serde(default)]
        active: bool,
        /// Policies to attach; must exist.
        #[serde(default)]
        policies: Vec<String>,
    }
    /// Of [`Request::CertList`].
    CertList {
        /// Only those that this CA signed.
        #[serde(default)]
        ca: Option<CertificateId>,
    }
    /// Of [`Request::CaRegistrationCode`].
    CaRegistrationCode {
        /// Makes another one.
        #[serde(default)]
        anew: bool,
    }
    /// Of [`Request::CaRegister`].
    CaRegister {
        /// One CA certificate.
        pem: String,
        /// A certificate that its key signed, with the registration code as its common name.
        verification: String,
        /// Whether it may be used at once.
        #[serde(default)]
        active: bool,
        /// Whether its certificates register themselves.
        #[serde(default)]
        auto_registration: bool,
    }
    /// Of [`Request::CaUpdate`].
    CaUpdate {
        /// Its id.
        id: CertificateId,
        /// Whether certificates that it signed may be registered; `None` leaves it.
        #[serde(default)]
        active: Option<bool>,
        /// Whether they register themselves; `None` leaves it.
        #[serde(default)]
        auto_registration: Option<bool>,
    }
    /// Of [`Request::CaDrop`].
    CaDrop {
        /// Revokes what it signed; otherwise that is in the way.
        #[serde(default)]
        revoke: bool,
    }
    /// Names a certificate.
    Certificate {
        /// Its id.
        id: CertificateId,
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
    /// Of [`Request::ShadowList`]: a page of at most 500.
    ShadowList {
        /// Only of this thing.
        #[serde(default)]
        thing: Option<ThingName>,
        /// Those behind this one: `thing` or `thing/shadow`.
        #[serde(default)]
        after: Option<String>,
    }
    /// Of [`Request::ShadowConflicts`]: a page of at most 100.
    ShadowConflicts {
        /// Those behind the one of this number.
        #[serde(default)]
        after: Option<u64>,
    }
    /// Names a rule.
    Rule {
        /// Its name.
        name: String,
    }
    /// Of [`Request::RuleCreate`].
    RuleCreate {
        /// Its name.
        name: String,
        /// The rule's document: `topicRulePayload`.
        document: String,
        /// Whether it must be there already and is replaced; else it must not.
        #[serde(default)]
        replace: bool,
    }
    /// Of [`Request::BridgeTest`].
    BridgeTest {
        /// The upstream's name.
        upstream: String,
        /// A topic of the upstream that gets an empty message.
        #[serde(default)]
        publish: Option<String>,
    }
    /// Of [`Request::BridgeQueue`].
    BridgeQueue {
        /// Only of this upstream.
        #[serde(default)]
        upstream: Option<String>,
        /// How many messages of each to show.
        #[serde(default)]
        peek: u32,
    }
    /// Of [`Request::DeadLetterList`].
    DeadLetterList {
        /// Only of this queue, or of all queues of this rule or upstream.
        #[serde(default)]
        queue: Option<String>,
        /// Only of queues of this kind: `route`, `outbox`.
        #[serde(default)]
        kind: Option<String>,
        /// Only behind this number.
        #[serde(default)]
        after: Option<u64>,
        /// At most so many.
        limit: u32,
    }
    /// Names a dead letter.
    DeadLetter {
        /// Its number.
        id: u64,
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

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
