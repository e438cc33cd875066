//! What a request brings along: the facts that variables and conditions ask for.

use std::net::IpAddr;

use iotedge_model::{Action, Arn, ArnScope, UnixMillis};

/// How the client talks to the gateway. The variables of things exist over MQTT only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// MQTT, with or without WebSocket.
    Mqtt,
    /// HTTP.
    Http,
}

/// A thing of the registry, as [`Context::thing`] knows it.
#[derive(Debug, Clone, Copy)]
pub struct Thing<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its type's name.
    pub thing_type: Option<&'a str>,
    /// Its attributes.
    pub attributes: &'a [(String, String)],
    /// Whether the principal that asks is attached to it.
    pub attached: bool,
}

/// What a CONNECT asks for beside the client id.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConnectFacts<'a> {
    /// `iot:ConnectAttributes`: `PersistentConnect`, `LastWill`.
    pub attributes: &'a [&'a str],
    /// The topic of the will.
    pub last_will_topic: Option<&'a str>,
}

/// The names inside a certificate, by the variable's spelling without `iot:Certificate.`:
/// `Subject.CommonName`, `Issuer.AlternativeName.DNSName`, in the certificate's order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CertificateNames {
    names: Vec<(String, Vec<String>)>,
    serial_number: Option<String>,
}

impl CertificateNames {
    /// Adds one value to those of `name` (`Subject.CommonName`).
    pub fn push(&mut self, name: &str, value: impl Into<String>) {
        let value = value.into();
        match self.names.iter_mut().find(|(n, _)| n == name) {
            Some((_, values)) => values.push(value),
            None => self.names.push((name.to_owned(), vec![value])),
        }
    }

    /// `iot:Certificate.SerialNumber`, spelled as policies are to spell it.
    pub fn set_serial_number(&mut self, serial: impl Into<String>) {
        self.serial_number = Some(serial.into());
    }

    /// The serial number.
    pub fn serial_number(&self) -> Option<&str> {
        self.serial_number.as_deref()
    }

    /// The values that count: the first five ("X.509 Certificate policy variable limitations").
    pub fn values(&self, name: &str) -> &[String] {
        const MAX_VALUES: usize = 5;
        let values = self
            .names
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map_or(&[][..], |(_, v)| v.as_slice());
        values.get(..MAX_VALUES).unwrap_or(values)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|(n, _)| n.as_str())
    }
}

/// Who asks, from where.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Region and account of this gateway.
    pub scope: &'a ArnScope,
    /// How it asks.
    pub transport: Transport,
    /// The connection's client id; `""` where there is none.
    pub client_id: &'a str,
    /// The peer's address.
    pub source_ip: Option<IpAddr>,
    /// `iot:DomainName`: the server name that the client asked for in its TLS handshake.
    pub domain_name: Option<&'a str>,
    /// `aws:SecureTransport`: whether the connection is over TLS, where it is known.
    pub secure: Option<bool>,
    /// `aws:CurrentTime`, `aws:EpochTime`: only a time that can be trusted.
    pub now: Option<UnixMillis>,
    /// The certificate's id.
    pub certificate_id: Option<&'a str>,
    /// The certificate's names.
    pub certificate: Option<&'a CertificateNames>,
    /// The thing of the registry whose name is the client id. One of another name is ignored.
    pub thing: Option<Thing<'a>>,
    /// For `iot:Connect`. Conditions on it fail closed when a CONNECT comes without.
    pub connect: Option<ConnectFacts<'a>>,
}

impl<'a> Context<'a> {
    /// One with nothing but a client id, over MQTT.
    pub fn new(scope: &'a ArnScope, client_id: &'a str) -> Self {
        Self {
            scope,
            transport: Transport::Mqtt,
            client_id,
            source_ip: None,
            domain_name: None,
            secure: None,
            now: None,
            certificate_id: None,
            certificate: None,
            thing: None,
            connect: None,
        }
    }

    /// The thing that the connection speaks for, attached or not: it has the client id for its name.
    pub(crate) fn connected_thing(&self) -> Option<&Thing<'a>> {
        self.thing
            .as_ref()
            .filter(|t| self.transport == Transport::Mqtt && t.name == self.client_id)
    }
}

/// One question.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// What is asked for.
    pub action: Action,
    /// On what, without the ARN's beginning: topic, filter, client id, `thing[/shadow]`.
    pub resource: &'a str,
    /// By whom.
    pub context: Context<'a>,
}

impl Request<'_> {
    /// The ARN that resource patterns are held against. Listing retained messages has no resource
    /// of its own: only `*` allows it.
    pub(crate) fn arn(&self) -> String {
        match self.action {
            Action::ListRetainedMessages => "*".to_owned(),
            action => {
                let arn: Arn = self.context.scope.resource(action, self.resource);
                arn.as_str().to_owned()
            }
        }
    }
}
