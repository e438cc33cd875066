//! From a name to a stream of MQTT's bytes: DNS, TCP, proxy, TLS, WebSocket, each with its own
//! error.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use iotedge_ports::Clock;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::counted::{Counted, Traffic};
use super::found::{self, Found};
use super::{Ended, Kind, Layer, proxy, websocket};
use crate::endpoint::Endpoint;
use crate::{Config, tls};

/// How long data may wait for TCP's acknowledgement before the connection counts as dead.
const USER_TIMEOUT: Duration = Duration::from_secs(60);
/// How long an address is waited for alone, before the next one is tried beside it (RFC 8305, 5, has a
/// quarter of a second to two seconds).
const STAGGER: Duration = Duration::from_secs(1);

/// What the way is made of in the end.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// All that is needed for a way.
pub(super) struct Dial<'a> {
    pub(super) config: &'a Config,
    pub(super) endpoint: &'a Endpoint,
    pub(super) clock: &'a Arc<dyn Clock>,
    pub(super) traffic: &'a Arc<Traffic>,
    pub(super) found: &'a Found,
    pub(super) progress: &'a (dyn Fn(Layer) + Send + Sync),
}

/// A password from its file.
pub(super) fn password(path: &Path) -> Result<String, Ended> {
    let wrong = |why: String| Ended::refused(Layer::Settings, format!("{}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|e| wrong(e.to_string()))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() || text.len() > 65_535 {
        return Err(wrong("a password has 1 to 65535 bytes".into()));
    }
    Ok(text.to_owned())
}

impl Dial<'_> {
    pub(super) async fn dial(&self) -> Result<Box<dyn Stream>, Ended> {
        let scheme = self.endpoint.scheme;
        // Before anything is sent: files that can not be used are no outage.
        let tls = match scheme.is_tls() {
            true => Some(self.tls()?),
            false => None,
        };
        let stream: Box<dyn Stream> = match &self.config.proxy {
            Some(settings) => {
                let login = proxy::Login::read(settings)?;
                let (speaks, host, port) = settings
                    .place()
                    .map_err(|e| Ended::refused(Layer::Settings, e.to_string()))?;
                let way = self.tcp(&host, port).await;
                let mut stream = way.map_err(|ended| Ended {
                    layer: Layer::Proxy,
                    text: format!("the proxy cannot be reached: {}", ended.text),
                    ..ended
                })?;
                (self.progress)(Layer::Proxy);
                proxy::pass(&mut stream, speaks, self.endpoint, login).await?;
                self.found
                    .note(Layer::Proxy, format!("through {}", settings.url));
                Box::new(stream)
            }
            None => Box::new(self.tcp(&self.endpoint.host, self.endpoint.port).await?),
        };
        let stream: Box<dyn Stream> = match tls {
            Some((connector, name)) => {
                (self.progress)(Layer::Tls);
                let connected = connector.connect(name, stream).await;
                let connected = connected.map_err(|e| self.tls_failed(&e))?;
                self.found
                    .note(Layer::Tls, found::tls(connected.get_ref().1));
                Box::new(connected)
            }
            None => stream,
        };
        if !scheme.is_web_socket() {
            return Ok(stream);
        }
        (self.progress)(Layer::WebSocket);
        Ok(Box::new(websocket::open(stream, self.endpoint).await?))
    }

    fn tls(&self) -> Result<(tokio_rustls::TlsConnector, ServerName<'static>), Ended> {
        let settings = |text: String| Ended::refused(Layer::Settings, text);
        let alpn = self.config.default_alpn(self.endpoint.port);
        let config = tls::client_config(self.config, self.clock, alpn)
            .map_err(|e| settings(e.to_string()))?;
        let host = self.endpoint.host.clone();
        let name = ServerName::try_from(host).map_err(|e| settings(e.to_string()))?;
        Ok((Arc::new(config).into(), name))
    }

    async fn tcp(&self, host: &str, port: u16) -> Result<Counted<TcpStream>, Ended> {
        (self.progress)(Layer::Dns);
        let found = tokio::net::lookup_host((host, port)).await;
        let addresses: Vec<SocketAddr> = found
            .map_err(|e| Ended::lost(Layer::Dns, format!("{host}: {e}")))?
            .collect();
        let all: Vec<_> = addresses.iter().map(|a| a.ip().to_string()).collect();
        self.found
            .note(Layer::Dns, format!("{host} is {}", all.join(", ")));
        (self.progress)(Layer::Tcp);
        let stream = reach(&addresses).await.map_err(|text| {
            let text = text.unwrap_or_else(|| format!("{host}: the name has no address"));
            Ended::lost(Layer::Tcp, text)
        })?;
        if let Ok(address) = stream.peer_addr() {
            self.found.note(Layer::Tcp, address.to_string());
        }
        Ok(self.settle(stream))
    }

    fn settle(&self, stream: TcpStream) -> Counted<TcpStream> {
        let millis = u32::try_from(USER_TIMEOUT.as_millis()).unwrap_or(u32::MAX);
        // A kernel that knows neither loses speed and a second watchdog, nothing else.
        let _ = stream.set_nodelay(true);
        let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, millis);
        Counted::new(stream, self.traffic.clone())
    }

    fn tls_failed(&self, error: &io::Error) -> Ended {
        tls_ended(error, self.clock.now().trusted)
            .unwrap_or_else(|| Ended::lost(Layer::Tls, error.to_string()))
    }
}

/// The first of several addresses that answers: one that is silent holds up none behind it. An error:
/// the last one's; `None`: there was no address.
async fn reach(addresses: &[SocketAddr]) -> Result<TcpStream, Option<String>> {
    let mut rest = addresses.iter();
    let (mut tries, mut last) = (FuturesUnordered::new(), None);
    loop {
        match rest.next() {
            Some(address) => tries.push(async move {
                let connected = TcpStream::connect(address).await;
                connected.map_err(|error| format!("{address}: {error}"))
            }),
            None if tries.is_empty() => return Err(last),
            None => {}
        }
        tokio::select! {
            Some(tried) = tries.next() => match tried {
                Ok(stream) => return Ok(stream),
                Err(text) => last = Some(text),
            },
            () = tokio::time::sleep(STAGGER), if rest.len() > 0 => {}
        }
    }
}

/// What TLS says by an error; `None`: it is not of TLS.
pub(super) fn tls_ended(error: &io::Error, clock_trusted: bool) -> Option<Ended> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(match error {
        rustls::Error::InvalidCertificate(
            why @ (CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }
            | CertificateError::Expired
            | CertificateError::ExpiredContext { .. }),
        ) => {
            let text = format!("the upstream's certificate: {why}");
            if clock_trusted {
                Ended::refused(Layer::Tls, text)
            } else {
                Ended {
                    kind: Kind::Clock,
                    ..Ended::lost(
                        Layer::Tls,
                        format!("{text}; our clock is not trusted yet: waiting for it"),
                    )
                }
            }
        }
        rustls::Error::InvalidCertificate(why) => {
            Ended::refused(Layer::Tls, format!("the upstream's certificate: {why}"))
        }
        rustls::Error::AlertReceived(alert) => alerted(*alert),
        other => Ended::lost(Layer::Tls, other.to_string()),
    })
}

fn alerted(alert: AlertDescription) -> Ended {
    use AlertDescription as Alert;
    match alert {
        Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateExpired
        | Alert::CertificateUnknown
        | Alert::UnknownCA
        | Alert::AccessDenied
        | Alert::DecryptError
        | Alert::NoCertificate
        | Alert::CertificateRequired => Ended::refused(
            Layer::Tls,
            format!("the upstream refuses our certificate (alert {alert:?})"),
        ),
        Alert::NoApplicationProtocol => Ended::refused(
            Layer::Tls,
            "the upstream speaks none of the protocols in alpn",
        ),
        Alert::UnrecognisedName => {
            Ended::refused(Layer::Tls, "the upstream does not know its name in url")
        }
        other => Ended::lost(Layer::Tls, format!("the upstream sent alert {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(error: rustls::Error, trusted: bool) -> Ended {
        tls_ended(&io::Error::other(error), trusted).unwrap()
    }

    #[tokio::test]
    async fn addresses_that_are_silent_hold_up_none_behind_them() {
        // A listener with a full backlog answers nobody.
        let silent = tokio::net::TcpSocket::new_v4().unwrap();
        silent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let silent = silent.listen(1).unwrap();
        let dead = silent.local_addr().unwrap();
        let mut fill = Vec::new();
        for _ in 0..8 {
            let one = tokio::time::timeout(Duration::from_millis(100), TcpStream::connect(dead));
            fill.push(one.await);
        }
        assert!(fill.iter().any(Result::is_err), "it is silent now");
        let live = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = live.local_addr().unwrap();
        let all = [dead, dead, dead, address];
        let reached = tokio::time::timeout(Duration::from_secs(5), reach(&all));
        let stream = reached.await.unwrap().unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
        let closed = "127.0.0.1:1".parse().unwrap();
        let refused = reach(&[closed]).await.unwrap_err().unwrap();
        assert!(refused.starts_with("127.0.0.1:1: "), "{refused}");
        assert_eq!(reach(&[]).await.unwrap_err(), None);
    }

    #[test]
    fn only_a_trusted_clock_judges_a_certificates_time() {
        let early = rustls::Error::InvalidCertificate(CertificateError::NotValidYet);
        assert_eq!(ended(early.clone(), true).kind, Kind::Refused);
        let waits = ended(early, false);
        assert_eq!(waits.kind, Kind::Clock);
        assert!(waits.text.contains("clock is not trusted"), "{waits:?}");
        let stranger = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        assert_eq!(ended(stranger, false).kind, Kind::Refused);
    }

    #[test]
    fn an_alert_about_our_certificate_is_a_refusal() {
        let alert = |a| ended(rustls::Error::AlertReceived(a), true).kind;
        assert_eq!(alert(AlertDescription::CertificateRevoked), Kind::Refused);
        assert_eq!(alert(AlertDescription::InternalError), Kind::Lost);
        assert_eq!(tls_ended(&io::Error::other("cable"), true), None);
    }
}
