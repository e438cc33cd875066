//! A server on loopback that does what a test says, with certificates of its own.
#![allow(dead_code)] // each test uses its part

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use iotedge_mqtt::{
    ConnAck, Connect, ConnectReturnCode, Decoder, Packet, PacketId, Publish, QoS, Role, Str,
    SubAck, SubAckCode, Subscribe, encode,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Certificates in a folder, with the SDK's file names.
pub struct Certificates {
    pub dir: tempfile::TempDir,
    config: Arc<ServerConfig>,
}

impl Certificates {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params
                .distinguished_name
                .push(DnType::CommonName, "test CA");
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
            CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
        };
        let issue = |names: &[&str]| {
            let key = KeyPair::generate().unwrap();
            let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
            let params = CertificateParams::new(names).unwrap();
            (params.signed_by(&key, &ca).unwrap(), key)
        };
        let (server, server_key) = issue(&["localhost"]);
        let (client, client_key) = issue(&["device"]);
        let write = |name: &str, text: String| {
            std::fs::write(dir.path().join(name), text).unwrap();
        };
        write("rootCA.crt", ca.pem());
        write("cert.pem", client.pem());
        write("privkey.pem", client_key.serialize_pem());
        write("nonsense.pem", "this is no PEM\n".into());
        let mut roots = RootCertStore::empty();
        let ca_der = CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap();
        roots.add(ca_der).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .unwrap();
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![server.der().clone()],
                PrivateKeyDer::try_from(server_key.serialize_der()).unwrap(),
            )
            .unwrap();
        config.alpn_protocols = vec![b"x-amzn-mqtt-ca".to_vec()];
        Self {
            dir,
            config: Arc::new(config),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

/// One connection, seen by the server.
pub struct Peer {
    stream: StreamOwned<ServerConnection, TcpStream>,
    decoder: Decoder,
    buf: BytesMut,
}

impl Peer {
    fn new(socket: TcpStream, config: Arc<ServerConfig>) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let tls = ServerConnection::new(config).unwrap();
        Self {
            stream: StreamOwned::new(tls, socket),
            decoder: Decoder::new(Role::Server, usize::MAX),
            buf: BytesMut::new(),
        }
    }

    /// The next packet; `None` when the client has gone.
    pub fn receive(&mut self) -> Option<Packet> {
        loop {
            if let Some(packet) = self.decoder.decode(&mut self.buf).expect("legal MQTT") {
                return Some(packet);
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk) {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.buf.extend_from_slice(&chunk[..count]),
            }
        }
    }

    pub fn send(&mut self, packet: &Packet) {
        let mut out = BytesMut::new();
        encode(packet, &mut out).unwrap();
        self.send_raw(&out);
    }

    pub fn send_raw(&mut self, bytes: &[u8]) {
        // The client may have gone already; then its side of the test tells.
        let _ = self
            .stream
            .write_all(bytes)
            .and_then(|()| self.stream.flush());
    }

    /// CONNECT, answered with `code`.
    pub fn connect_with(&mut self, code: ConnectReturnCode) -> Option<Connect> {
        let Packet::Connect(connect) = self.receive()? else {
            panic!("CONNECT comes first");
        };
        self.send(&Packet::ConnAck(ConnAck {
            session_present: false,
            reason: code.into(),
            properties: None,
        }));
        Some(connect)
    }

    /// CONNECT, accepted.
    pub fn accept(&mut self) -> Connect {
        self.connect_with(ConnectReturnCode::Accepted)
            .expect("CONNECT")
    }

    /// SUBSCRIBE, granted.
    pub fn grant(&mut self) -> Subscribe {
        self.answer_subscribe(SubAckCode::Granted(QoS::AtLeastOnce))
    }

    /// SUBSCRIBE, answered with `code`.
    pub fn answer_subscribe(&mut self, code: SubAckCode) -> Subscribe {
        match self.receive() {
            Some(Packet::Subscribe(subscribe)) => {
                self.send(&Packet::SubAck(SubAck {
                    packet_id: subscribe.packet_id,
                    codes: vec![code; subscribe.filters.len()],
                    properties: None,
                }));
                subscribe
            }
            other => panic!("SUBSCRIBE, not {other:?}"),
        }
    }

    pub fn publish(&mut self) -> Publish {
        match self.receive() {
            Some(Packet::Publish(publish)) => publish,
            other => panic!("PUBLISH, not {other:?}"),
        }
    }

    /// Sends a message with QoS 0.
    pub fn tell(&mut self, topic: &str, payload: &str) {
        self.send(&message(topic, payload.as_bytes(), None));
    }

    /// Waits until the client has gone, or has sent something: that is given.
    pub fn until_gone(&mut self) -> Option<Packet> {
        self.receive()
    }

    /// Answers like a broker with one client until it goes: subscriptions to everything.
    pub fn echo(&mut self) {
        while let Some(packet) = self.receive() {
            match packet {
                Packet::Publish(mut publish) => {
                    match (publish.qos, publish.packet_id) {
                        (QoS::AtLeastOnce, Some(id)) => self.send(&Packet::PubAck(id.into())),
                        (QoS::ExactlyOnce, Some(id)) => self.send(&Packet::PubRec(id.into())),
                        _ => {}
                    }
                    publish.retain = false;
                    self.send(&Packet::Publish(publish));
                }
                Packet::PubRec(ack) => self.send(&Packet::PubRel(ack.packet_id.into())),
                Packet::PubRel(ack) => self.send(&Packet::PubComp(ack.packet_id.into())),
                Packet::Subscribe(s) => {
                    let codes = s.filters.iter().map(|(_, o)| SubAckCode::Granted(o.qos));
                    self.send(&Packet::SubAck(SubAck {
                        packet_id: s.packet_id,
                        codes: codes.collect(),
                        properties: None,
                    }));
                }
                Packet::Unsubscribe(u) => self.send(&Packet::UnsubAck(u.packet_id.into())),
                Packet::PingReq => self.send(&Packet::PingResp),
                _ => {}
            }
        }
    }
}

/// A PUBLISH, QoS 1 where there is an id.
pub fn message(topic: &str, payload: &[u8], id: Option<u16>) -> Packet {
    Packet::Publish(Publish {
        dup: false,
        qos: if id.is_some() {
            QoS::AtLeastOnce
        } else {
            QoS::AtMostOnce
        },
        retain: false,
        topic: Str::new(topic).unwrap(),
        packet_id: id.and_then(PacketId::new),
        payload: Bytes::copy_from_slice(payload),
        properties: None,
    })
}

/// A server that runs a script: the closure is called for each connection, with its number.
pub struct Server {
    pub port: u16,
    pub certificates: Certificates,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves `connections` connections, one after the other.
    pub fn start(
        connections: usize,
        mut script: impl FnMut(usize, &mut Peer) + Send + 'static,
    ) -> Self {
        let certificates = Certificates::new();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let config = Arc::clone(&certificates.config);
        let thread = std::thread::spawn(move || {
            for number in 0..connections {
                let (socket, _) = listener.accept().unwrap();
                let mut peer = Peer::new(socket, Arc::clone(&config));
                script(number, &mut peer);
            }
        });
        Self {
            port,
            certificates,
            thread: Some(thread),
        }
    }

    /// Waits for the script's end and tells its failure.
    pub fn finish(mut self) {
        self.thread
            .take()
            .unwrap()
            .join()
            .expect("the server's script");
    }
}

/// Tells the test something from the script or a callback.
pub fn channel<T>() -> (SyncSender<T>, Receiver<T>) {
    sync_channel(64)
}
