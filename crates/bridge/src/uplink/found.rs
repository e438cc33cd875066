//! What a try to connect has found on its way, for who tests a link; and what its end says.

use std::sync::{Mutex, PoisonError};

use rustls::ClientConnection;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{Ended, Kind, Layer};

/// Of the last try.
#[derive(Default)]
pub(super) struct Found(Mutex<Vec<(Layer, String)>>);

impl Found {
    pub(super) fn forget(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    pub(super) fn note(&self, layer: Layer, text: String) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push((layer, text));
    }

    pub(super) fn all(&self) -> Vec<(Layer, String)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.clone()
    }
}

/// Version, cipher and protocol of a TLS connection, and whose certificate is at its other end.
pub(super) fn tls(connection: &ClientConnection) -> String {
    let mut parts = Vec::new();
    if let Some(version) = connection.protocol_version() {
        parts.push(format!("{version:?}"));
    }
    if let Some(suite) = connection.negotiated_cipher_suite() {
        parts.push(format!("{:?}", suite.suite()));
    }
    if let Some(protocol) = connection.alpn_protocol() {
        parts.push(format!("ALPN {}", String::from_utf8_lossy(protocol)));
    }
    let chain = connection.peer_certificates().unwrap_or_default();
    parts.extend(chain.first().and_then(certificate));
    parts.join(", ")
}

fn certificate(der: &CertificateDer<'_>) -> Option<String> {
    let (_, found) = X509Certificate::from_der(der).ok()?;
    let until = found.validity().not_after.timestamp();
    let until = jiff::Timestamp::from_second(until).ok()?;
    Some(format!(
        "certificate of {} by {} until {until}",
        name(&found.subject().to_string()),
        name(&found.issuer().to_string()),
    ))
}

fn name(text: &str) -> &str {
    match text {
        "" => "nobody",
        name => name,
    }
}

/// The end of a connection whose CONNACK did not come.
pub(super) fn before_connack(ended: Ended, tls: bool) -> Ended {
    let closed = matches!(ended.layer, Layer::Tcp | Layer::Mqtt);
    if ended.code.is_some()
        || ended.kind != Kind::Lost
        || !(closed || ended.layer == Layer::Connack)
    {
        return ended;
    }
    let what = match closed {
        true => format!(
            "the other side ended the connection before CONNACK ({})",
            ended.text
        ),
        false => format!(
            "the other side does not answer as MQTT does ({})",
            ended.text
        ),
    };
    let look = match tls {
        true => "does it speak MQTT here, and want a certificate or `alpn`?",
        false => "does it want TLS (mqtts:// or wss://)?",
    };
    Ended::lost(Layer::Connack, format!("{what}: {look}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_before_connack_is_told_as_one() {
        let told = before_connack(Ended::lost(Layer::Tcp, "Connection reset by peer"), false);
        assert_eq!(told.layer, Layer::Connack);
        assert!(
            told.text.contains("before CONNACK (Connection reset"),
            "{told:?}"
        );
        assert!(told.text.contains("mqtts://"), "{told:?}");
        let over = before_connack(Ended::lost(Layer::Mqtt, "closed"), true);
        assert!(!over.text.contains("mqtts://"), "{over:?}");
        for other in [
            Ended::connack(5, None),
            Ended::connack(3, None),
            Ended::refused(Layer::Tls, "alert"),
            Ended::lost(Layer::Tls, "alert"),
        ] {
            assert_eq!(before_connack(other.clone(), false), other);
        }
    }
}
