//! A WebSocket in front of a broker on TCP.

use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

pub struct Front {
    pub port: u16,
    task: tokio::task::JoinHandle<()>,
}

impl Front {
    /// With TLS when there are a certificate and its key.
    pub async fn start(broker: u16, tls: Option<(&str, &str)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let acceptor = tls.map(|(certificate, key)| {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = rustls::ServerConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(
                    vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                    PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
                )
                .unwrap();
            tokio_rustls::TlsAcceptor::from(Arc::new(config))
        });
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    match acceptor {
                        Some(acceptor) => serve(acceptor.accept(stream).await.ok()?, broker).await,
                        None => serve(stream, broker).await,
                    }
                });
            }
        });
        Self { port, task }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, broker: u16) -> Option<()> {
    #[allow(clippy::result_large_err)]
    let check = |request: &Request, mut response: Response| {
        let asked = &request.headers()["Sec-WebSocket-Protocol"];
        assert_eq!(asked, "mqtt");
        assert_eq!(request.uri().path(), "/mqtt");
        let headers = response.headers_mut();
        headers.insert("Sec-WebSocket-Protocol", "mqtt".parse().unwrap());
        Ok(response)
    };
    let mut socket = tokio_tungstenite::accept_hdr_async(stream, check)
        .await
        .ok()?;
    let mut mqtt = TcpStream::connect(("127.0.0.1", broker)).await.ok()?;
    // Small, so that packets span frames.
    let mut buffer = [0; 700];
    loop {
        tokio::select! {
            message = socket.next() => match message?.ok()? {
                Message::Binary(data) => mqtt.write_all(&data).await.ok()?,
                Message::Close(_) => return None,
                other => assert!(!other.is_text()),
            },
            read = mqtt.read(&mut buffer) => {
                let read = read.ok().filter(|n| *n > 0)?;
                let frame = Message::binary(buffer[..read].to_vec());
                socket.send(frame).await.ok()?;
                socket.send(Message::Ping("still there?".into())).await.ok()?;
            }
        }
    }
}
