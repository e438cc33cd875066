//! From a name to a stream of MQTT's bytes: DNS, TCP, proxy, TLS, WebSocket, each with its own
//! error.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

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
/// The longest that one of several addresses is tried.
const EACH_ADDRESS: Duration = Duration::from_secs(5);

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
        let mut last = Ended::lost(Layer::Dns, format!("{host}: the name has no address"));
        for (at, address) in addresses.iter().enumerate() {
            let only = at + 1 == addresses.len();
            // The last one has what is left of the whole try's time.
            let patience = if only { Duration::MAX } else { EACH_ADDRESS };
            let text = match tokio::time::timeout(patience, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    self.found.note(Layer::Tcp, address.to_string());
                    return Ok(self.settle(stream));
                }
                Ok(Err(error)) => format!("{address}: {error}"),
                Err(_) => format!("{address}: no answer"),
            };
            last = Ended::lost(Layer::Tcp, text);
        }
        Err(last)
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
