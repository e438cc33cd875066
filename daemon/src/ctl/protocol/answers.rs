//! What stands inside `ok`.

use std::collections::BTreeMap;

use iotedge_model::UnixMillis;
use serde::{Deserialize, Serialize};

use super::Base64;

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
        #[serde(skip_serializing_if = "Option::is_none")]
        private_key: Option<String>,
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
        /// The CA that signed it, where it is known here.
        #[serde(skip_serializing_if = "Option::is_none")]
        ca_certificate_id: Option<String>,
        /// Things that it is attached to.
        things: Vec<String>,
        /// The certificate, where it was asked for.
        #[serde(skip_serializing_if = "Option::is_none")]
        certificate_pem: Option<String>,
    }
    /// A CA.
    CaInfo {
        /// SHA-256 of its certificate.
        certificate_id: String,
        /// Its ARN.
        certificate_arn: String,
        /// `own`, `own-old` or `registered`.
        kind: String,
        /// `ACTIVE`, `INACTIVE`.
        status: String,
        /// `ENABLE`, `DISABLE`.
        auto_registration_status: String,
        /// Its subject.
        subject: String,
        /// Begin of its validity, seconds since 1970.
        not_before: i64,
        /// End of its validity, seconds since 1970.
        not_after: i64,
        /// When it was registered.
        #[serde(skip_serializing_if = "Option::is_none")]
        creation_date: Option<UnixMillis>,
        /// How many certificates that are known here it signed.
        certificates: u64,
        /// Its certificate, where it was asked for.
        #[serde(skip_serializing_if = "Option::is_none")]
        certificate_pem: Option<String>,
    }
    /// Of [`Request::CaRegistrationCode`].
    RegistrationCode {
        /// 64 hex digits.
        registration_code: String,
    }
    /// Of [`Request::CaRotate`].
    CaRotated {
        /// Clients that know the old CA alone go on.
        crossed: bool,
        /// The gateway's own CAs now.
        authorities: Vec<CaInfo>,
        /// The new CA's certificate.
        ca_pem: String,
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
        /// To which thing groups it is attached.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        thing_groups: Vec<String>,
        /// The document's text, where it was asked for.
        #[serde(skip_serializing_if = "Option::is_none")]
        policy_document: Option<String>,
        /// Remarks on the document.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        warnings: Vec<String>,
    }
    /// A version of a policy.
    PolicyVersionInfo {
        /// Its number.
        version_id: u64,
        /// Whether it is in force.
        is_default_version: bool,
        /// When it was made.
        create_date: UnixMillis,
        /// The document's text, where it was asked for.
        #[serde(skip_serializing_if = "Option::is_none")]
        policy_document: Option<String>,
        /// Remarks on the document.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        warnings: Vec<String>,
    }
    /// A thing type.
    ThingTypeInfo {
        /// Its name.
        thing_type_name: String,
        /// Its ARN.
        thing_type_arn: String,
        /// What it was created with.
        thing_type_properties: ThingTypeProperties,
        /// What became of it.
        thing_type_metadata: ThingTypeMetadata,
    }
    /// Of a thing type.
    ThingTypeProperties {
        /// What it is.
        #[serde(skip_serializing_if = "Option::is_none")]
        thing_type_description: Option<String>,
        /// Attributes that things of the type are looked for by.
        searchable_attributes: Vec<String>,
    }
    /// Of a thing type.
    ThingTypeMetadata {
        /// Whether things may no longer get it.
        deprecated: bool,
        /// Since when.
        #[serde(skip_serializing_if = "Option::is_none")]
        deprecation_date: Option<UnixMillis>,
        /// When it was made.
        creation_date: UnixMillis,
    }
    /// A thing.
    ThingInfo {
        /// Its name.
        thing_name: String,
        /// The client id that it best connects with.
        default_client_id: String,
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
        /// The groups that it is in.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        thing_groups: Vec<String>,
    }
    /// A thing group.
    ThingGroupInfo {
        /// Its name.
        thing_group_name: String,
        /// Its ARN.
        thing_group_arn: String,
        /// What it is.
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<String>,
        /// The groups that it is in, the next first.
        parents: Vec<String>,
        /// Policies that are attached to it.
        policies: Vec<String>,
        /// When it was made.
        creation_date: UnixMillis,
        /// The things in it, where they were asked for.
        #[serde(skip_serializing_if = "Option::is_none")]
        things: Option<Vec<String>>,
    }
    /// A shadow.
    ShadowInfo {
        /// The thing.
        thing: String,
        /// Its name; `None` for the classic one.
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// Its version.
        version: u64,
        /// When it was last updated, in seconds since 1970.
        timestamp: u64,
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
        /// The file, where it is of one.
        #[serde(skip_serializing_if = "Option::is_none")]
        file: Option<String>,
        /// `awsIotSqlVersion`.
        aws_iot_sql_version: String,
        /// Its description.
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<String>,
        /// The document's text, where it was asked for.
        #[serde(skip_serializing_if = "Option::is_none")]
        topic_rule_payload: Option<String>,
        /// What its author should look at again.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        warnings: Vec<String>,
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
    /// Of [`Request::ClockShow`].
    ClockInfo {
        /// What it says.
        time: UnixMillis,
        /// Whether that can be believed.
        trusted: bool,
        /// On what that rests.
        basis: String,
        /// What is certainly over.
        last_known_time: UnixMillis,
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
        /// Outboxes of rules' actions with something waiting, or with a sink that is tried again.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        outboxes: Vec<OutboxStatus>,
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
        /// Bytes that the store has sent to the disk since the start; 0 where the kernel does not
        /// count them.
        written_bytes: u64,
        /// Messages for sessions, groups, routes and rules since the start, those included that were
        /// never written.
        #[serde(default)]
        messages: u64,
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
        /// As in [`StoreStatus`].
        #[serde(default)]
        written_bytes: u64,
        /// As in [`StoreStatus`].
        #[serde(default)]
        messages: u64,
    }
    /// An upstream.
    UpstreamStatus {
        /// Its name.
        name: String,
        /// Its URL.
        url: String,
        /// `resolving`, `connecting`, `handshaking`, `connected`, `degraded`, `backing-off`, `paused`,
        /// `misconfigured`, `stopped`.
        state: String,
        /// Why it stands there.
        reason: String,
        /// Since when.
        since: UnixMillis,
        /// When the next try begins.
        next_retry: Option<UnixMillis>,
        /// Successful connections since start.
        connects: u64,
        /// Bytes sent since start, without TCP's and IP's headers.
        bytes_sent: u64,
        /// Bytes received since start, likewise.
        bytes_received: u64,
        /// What a day may cost, both ways.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        daily_bytes: Option<u64>,
        /// What today has cost, where there is a limit.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        day_bytes: Option<u64>,
        /// The pause that an operator has asked for: `since` and `by`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        paused: Option<iotedge_ports::Pause>,
        /// Its routes.
        routes: Vec<RouteStatus>,
        /// Shadows that are kept together with its own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shadows: Option<iotedge_shadow::sync::Status>,
    }
    /// A line of the journal of shadow conflicts.
    ConflictInfo {
        /// Its number.
        id: u64,
        /// When, in milliseconds since 1970.
        at: u64,
        /// The upstream.
        upstream: String,
        /// `thing` or `thing/shadow`.
        shadow: String,
        /// What has happened, in a sentence.
        text: String,
        /// The leaves that both sides had changed.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        leaves: Vec<iotedge_shadow::core::sync::Conflict>,
    }
    /// Of [`Request::BridgeTest`].
    BridgeTested {
        /// Layer after layer; the last one failed if one did.
        steps: Vec<BridgeTestStep>,
    }
    /// One layer of a connection.
    BridgeTestStep {
        /// `settings`, `DNS`, `TCP`, `proxy`, `TLS`, `WebSocket`, `CONNACK`, `subscribe` or `policy`.
        layer: String,
        /// Whether it stands.
        ok: bool,
        /// What was found.
        text: String,
        /// How long it took.
        millis: u64,
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
    /// What waits for one action of a rule.
    OutboxStatus {
        /// `RULE/0`, … `RULE/error`.
        name: String,
        /// Messages.
        queued: u64,
        /// Their bytes.
        queued_bytes: u64,
        /// Why the first of them is tried again.
        #[serde(skip_serializing_if = "Option::is_none")]
        trouble: Option<String>,
    }
    /// The queue of an outbound route.
    QueueInfo {
        /// The upstream.
        upstream: String,
        /// The route.
        route: String,
        /// Messages waiting.
        queued: u64,
        /// Their bytes.
        queued_bytes: u64,
        /// When the oldest of them was accepted.
        #[serde(skip_serializing_if = "Option::is_none")]
        oldest_at: Option<UnixMillis>,
        /// Seconds since then, by the daemon's clock; `None` where that can not be believed.
        #[serde(skip_serializing_if = "Option::is_none")]
        oldest_age: Option<u64>,
        /// Dead letters of the route that are kept.
        dead_letters: u64,
        /// The first of those that wait, where they were asked for.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        heads: Vec<QueueHead>,
    }
    /// A message that waits.
    QueueHead {
        /// Its number.
        id: u64,
        /// Its topic here.
        topic: String,
        /// Bytes of its payload.
        bytes: u64,
        /// The QoS that it goes with.
        qos: u8,
        /// When it was accepted.
        accepted_at: UnixMillis,
        /// Who published it.
        client_id: String,
    }
    /// A message that its queue's other side never takes.
    DeadLetterInfo {
        /// Its number.
        id: u64,
        /// `outbox`, `route`, …
        kind: String,
        /// The queue: `RULE/0` of a rule's first action, `UPSTREAM/ROUTE`.
        queue: String,
        /// Why, in words.
        reason: String,
        /// When it was given up.
        died_at: UnixMillis,
        /// When its message was accepted.
        accepted_at: UnixMillis,
        /// The message's topic.
        topic: String,
        /// Who published it.
        client_id: String,
        /// Its trace.
        trace_id: String,
        /// What was to be done; `null` for a message as it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        action: Option<serde_json::Value>,
        /// What was to be sent or written.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        body: Option<Base64>,
        /// The payload of the message that a rule made it of.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        original: Option<Base64>,
    }
    /// Of [`Request::Reload`].
    Reloaded {
        /// What changed, a line each; empty: nothing.
        changes: Vec<String>,
    }
}

impl ShadowInfo {
    /// What [`super::ShadowList`] goes on behind.
    pub fn key(&self) -> String {
        match &self.name {
            None => self.thing.clone(),
            Some(name) => format!("{}/{name}", self.thing),
        }
    }
}
