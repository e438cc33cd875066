//! One POST over HTTP or HTTPS, with a connection of its own.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::{Request, Uri, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::call::MAX_ANSWER;

/// Where requests go.
pub(super) struct Target {
    uri: Uri,
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Target {
    /// `http://HOST[:PORT]/PATH` or `https://...`; `ca`: whose certificates are trusted with
    /// `https`, else the system's.
    pub(super) fn new(url: &str, ca: Option<&PathBuf>) -> Result<Self, String> {
        let (uri, secure) = parse(url)?;
        let host = uri.host().unwrap_or_default().to_owned();
        // An IPv6 address has brackets in a URL only.
        let bare = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let tls = if secure {
            let name = ServerName::try_from(bare.clone()).map_err(|e| format!("{url}: {e}"))?;
            Some((TlsConnector::from(Arc::new(tls(ca)?)), name))
        } else {
            None
        };
        Ok(Self {
            port: uri.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            host: bare,
            uri,
            tls,
        })
    }

    pub(super) async fn post(&self, body: String) -> Result<Vec<u8>, String> {
        let failed = |e: &dyn std::fmt::Display| format!("{}: {e}", self.uri);
        let socket = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|e| failed(&e))?;
        match &self.tls {
            None => self.exchange(socket, body).await,
            Some((connector, name)) => {
                let connecting = connector.connect(name.clone(), socket);
                let stream = connecting.await.map_err(|e| failed(&e))?;
                self.exchange(stream, body).await
            }
        }
        .map_err(|e| failed(&e))
    }

    async fn exchange<S>(&self, stream: S, body: String) -> Result<Vec<u8>, String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let text = |e: hyper::Error| e.to_string();
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(text)?;
        let authority = self.uri.authority().map_or("", |a| a.as_str());
        let path = self.uri.path_and_query().map_or("/", |p| p.as_str());
        let request = Request::post(path)
            .header(header::HOST, authority)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json")
            .header(header::CONNECTION, "close")
            .body(Full::new(Bytes::from(body)))
            .map_err(|e| e.to_string())?;
        let asking = async {
            let response = sender.send_request(request).await.map_err(text)?;
            let status = response.status();
            if status != hyper::StatusCode::OK {
                return Err(format!("status {status}"));
            }
            let most = usize::try_from(MAX_ANSWER).unwrap_or(usize::MAX);
            let body = Limited::new(response.into_body(), most).collect();
            Ok(body.await.map_err(|e| e.to_string())?.to_bytes().to_vec())
        };
        let mut asking = std::pin::pin!(asking);
        // The connection lives as long as the question.
        tokio::select! {
            answer = &mut asking => answer,
            ended = connection => match ended {
                Ok(()) => asking.await,
                Err(e) => Err(e.to_string()),
            },
        }
    }
}

/// Checks a URL; whether it is over TLS.
pub(super) fn parse(url: &str) -> Result<(Uri, bool), String> {
    let uri: Uri = url.parse().map_err(|e| format!("{url:?} is no URL: {e}"))?;
    let secure = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(format!("{url:?} is neither http:// nor https://")),
    };
    let authority = uri.authority().map_or("", |a| a.as_str());
    if uri.host().is_none_or(str::is_empty) || authority.contains('@') {
        return Err(format!("{url:?} is not http[s]://HOST[:PORT]/PATH"));
    }
    Ok((uri, secure))
}

fn tls(ca: Option<&PathBuf>) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            let failed = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
            let certificates = CertificateDer::pem_file_iter(path).map_err(|e| failed(&e))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|e| failed(&e))?;
                roots.add(certificate).map_err(|e| failed(&e))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err("there is no CA to trust for https".into());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth())
}
