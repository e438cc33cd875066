//! The opening handshake (RFC 6455, chapter 4).

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::Full;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Version};

/// Where MQTT is, as with AWS IoT.
pub(crate) const PATH: &str = "/mqtt";
/// The subprotocol that is chosen ([MQTT-6.0.0-4]).
const SUBPROTOCOL: &str = "mqtt";
/// Appended to the client's key (1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Why there is no WebSocket.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) status: u16,
    pub(crate) kind: &'static str,
    pub(crate) message: String,
}

fn refused(status: u16, kind: &'static str, message: impl Into<String>) -> Refused {
    Refused {
        status,
        kind,
        message: message.into(),
    }
}

fn bad(message: &str) -> Refused {
    refused(400, "InvalidRequestException", message)
}

/// Whether a request asks for a WebSocket at all.
pub(crate) fn is_upgrade<B>(request: &Request<B>) -> bool {
    names(request.headers(), &header::UPGRADE, "websocket")
}

/// Which web pages may come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origins<'a> {
    /// From elsewhere.
    pub(crate) allowed: &'a [String],
    /// The listener is for this machine only.
    pub(crate) loopback: bool,
}

/// The answer that opens the WebSocket, or why not.
pub(crate) fn accept<B>(
    request: &Request<B>,
    origins: Origins<'_>,
) -> Result<Response<Full<bytes::Bytes>>, Refused> {
    let headers = request.headers();
    if request.uri().path() != PATH {
        let message = format!("MQTT over WebSocket is at {PATH}");
        return Err(refused(404, "ResourceNotFoundException", message));
    }
    if !is_upgrade(request) {
        let message = "MQTT over WebSocket begins with the header Upgrade: websocket";
        return Err(refused(426, "InvalidRequestException", message));
    }
    if request.method() != Method::GET || request.version() != Version::HTTP_11 {
        return Err(bad("A WebSocket begins with GET in HTTP/1.1"));
    }
    if !names(headers, &header::CONNECTION, "upgrade") {
        return Err(bad("A WebSocket needs the header Connection: Upgrade"));
    }
    let version = headers.get(header::SEC_WEBSOCKET_VERSION);
    if version.is_none_or(|version| version != "13") {
        let message = "The version of WebSocket is 13";
        return Err(refused(426, "InvalidRequestException", message));
    }
    let key = headers
        .get(header::SEC_WEBSOCKET_KEY)
        .filter(|key| STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16))
        .ok_or_else(|| bad("Sec-WebSocket-Key is not 16 bytes in base64"))?;
    if !names(headers, &header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL) {
        return Err(bad("The subprotocol that is spoken here is \"mqtt\""));
    }
    check_origin(headers, origins)?;
    Ok(switching(key))
}

fn switching(key: &HeaderValue) -> Response<Full<bytes::Bytes>> {
    let mut context = ring::digest::Context::new(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key.as_bytes());
    context.update(GUID);
    let accept = STANDARD.encode(context.finish());
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Ok(accept) = HeaderValue::try_from(accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    headers.insert(
        header::SEC_WEBSOCKET_PROTOCOL,
        HeaderValue::from_static(SUBPROTOCOL),
    );
    response
}

/// Whether a header that is a list has `word` in it, in whatever case.
fn names(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|item| item.trim().eq_ignore_ascii_case(word))
}

/// A browser says which page asks, and shows the user's certificate whichever it is: any page in
/// the world could speak as the user. So a page comes from the listener's own host and port, or
/// from an origin that is allowed. What is no browser has no origin, or gives the listener's own.
///
/// Any name can be made to lead to this machine. Where the listener is for this machine only, its
/// own host is one that cannot.
fn check_origin(headers: &HeaderMap, origins: Origins<'_>) -> Result<(), Refused> {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return Ok(());
    };
    let origin = origin.to_str().unwrap_or_default();
    let host = headers.get(header::HOST).and_then(|h| h.to_str().ok());
    let own = origin.split_once("://").map(|(_, authority)| authority);
    let same = match (own, host) {
        (Some(own), Some(host)) => {
            own.eq_ignore_ascii_case(host) && (!origins.loopback || is_loopback(host))
        }
        _ => false,
    };
    let fits = |one: &String| one == "*" || one.eq_ignore_ascii_case(origin);
    if same || origins.allowed.iter().any(fits) {
        return Ok(());
    }
    let message = format!("Pages from {origin:?} may not connect: allowed_origins of the listener");
    Err(refused(403, "ForbiddenException", message))
}

/// Whether a host, with its port, is this machine by any name server.
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
    name.eq_ignore_ascii_case("localhost")
        || bare
            .unwrap_or(name)
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Origins<'_> = Origins {
        allowed: &[],
        loopback: false,
    };
    const GOOD: &[(&str, &str)] = &[
        ("host", "gateway:8884"),
        ("upgrade", "WebSocket"),
        ("connection", "keep-alive, Upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", "chat, mqtt"),
    ];

    fn request(path: &str, change: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::get(path).body(()).unwrap();
        for (name, value) in GOOD.iter().chain(change) {
            let name = HeaderName::try_from(*name).unwrap();
            if value.is_empty() {
                request.headers_mut().remove(name);
            } else {
                request
                    .headers_mut()
                    .insert(name, HeaderValue::try_from(*value).unwrap());
            }
        }
        request
    }

    fn status(path: &str, change: &[(&str, &str)]) -> u16 {
        let allowed = ["https://page.example".to_owned()];
        let origins = Origins {
            allowed: &allowed,
            loopback: false,
        };
        match accept(&request(path, change), origins) {
            Ok(response) => response.status().as_u16(),
            Err(refused) => refused.status,
        }
    }

    /// The example of RFC 6455, 1.3.
    #[test]
    fn the_key_is_answered_as_the_standard_shows() {
        let response = accept(&request(PATH, &[]), NONE).unwrap();
        let header = |name| response.headers().get(name).unwrap();
        assert_eq!(
            header("sec-websocket-accept"),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        assert_eq!(header("sec-websocket-protocol"), "mqtt");
        assert_eq!(header("connection"), "Upgrade");
    }

    #[test]
    fn each_flaw_of_a_handshake_is_refused() {
        assert_eq!(status(PATH, &[]), 101);
        assert_eq!(status("/", &[]), 404);
        assert_eq!(status("/mqtt/", &[]), 404);
        assert_eq!(status(PATH, &[("upgrade", "")]), 426);
        assert_eq!(status("/mqtt?x=y", &[]), 101);
        for (change, code) in [
            (("connection", "close"), 400),
            (("sec-websocket-version", "8"), 426),
            (("sec-websocket-version", ""), 426),
            (("sec-websocket-key", ""), 400),
            (("sec-websocket-key", "c2hvcnQ="), 400),
            (("sec-websocket-protocol", ""), 400),
            (("sec-websocket-protocol", "mqttv3.1"), 400),
        ] {
            assert_eq!(status(PATH, &[change]), code, "{change:?}");
        }
    }

    #[test]
    fn a_page_comes_from_the_same_host_or_an_allowed_origin() {
        for (origin, code) in [
            ("https://gateway:8884", 101),
            ("http://GATEWAY:8884", 101),
            ("https://page.example", 101),
            ("https://gateway", 403),
            ("http://page.example", 403),
            ("https://page.example.evil", 403),
            ("null", 403),
        ] {
            assert_eq!(status(PATH, &[("origin", origin)]), code, "{origin}");
        }
        let allowed = ["*".to_owned()];
        let anyone = Origins {
            allowed: &allowed,
            ..NONE
        };
        assert!(accept(&request(PATH, &[("origin", "null")]), anyone).is_ok());
    }

    #[test]
    fn no_name_that_leads_to_this_machine_makes_a_page_its_own() {
        let loopback = Origins {
            loopback: true,
            ..NONE
        };
        for (host, good) in [
            ("localhost:1883", true),
            ("127.0.0.1:1883", true),
            ("127.9.9.9", true),
            ("[::1]:1883", true),
            ("LocalHost", true),
            ("rebound.example:1883", false),
            ("localhost.example", false),
            ("192.0.2.1", false),
        ] {
            let origin = format!("http://{host}");
            let request = request(PATH, &[("host", host), ("origin", &origin)]);
            assert_eq!(accept(&request, loopback).is_ok(), good, "{host}");
        }
    }
}
