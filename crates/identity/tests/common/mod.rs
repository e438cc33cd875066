//! What the tests of this crate share: a clock to set, a client, and foreign certificates.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

pub mod exercise;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use iotedge_identity::Identity;
use iotedge_model::{Now, UnixMillis};
use iotedge_ports::Clock;
use iotedge_store::{Options, Store};
use rcgen::{CertificateParams, DnType, Issuer, KeyPair, SigningKey};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore, ServerConfig,
    ServerConnection, SignatureScheme, SupportedProtocolVersion,
};

/// 2026-01-01T00:00:00Z.
pub const NEW_YEAR_2026: u64 = 1_767_225_600;

/// A clock that stands still until it is set.
pub struct TestClock {
    now: Mutex<Now>,
    floor: AtomicU64,
    remembered: AtomicU64,
}

impl TestClock {
    pub fn at(seconds: u64, trusted: bool) -> Arc<Self> {
        let clock = Self {
            now: Mutex::new(Now {
                mono: 0,
                wall: UnixMillis(0),
                trusted,
            }),
            floor: AtomicU64::new(0),
            remembered: AtomicU64::new(0),
        };
        clock.set(seconds, trusted);
        Arc::new(clock)
    }
    pub fn set(&self, seconds: u64, trusted: bool) {
        *self.now.lock().unwrap() = Now {
            mono: 0,
            wall: UnixMillis(seconds * 1000),
            trusted,
        };
    }
    pub fn set_floor(&self, seconds: u64) {
        self.floor.store(seconds * 1000, Ordering::Relaxed);
    }
    pub fn remembered(&self) -> u64 {
        self.remembered.load(Ordering::Relaxed)
    }
}

impl Clock for TestClock {
    fn now(&self) -> Now {
        *self.now.lock().unwrap()
    }
    fn floor(&self) -> UnixMillis {
        UnixMillis(self.floor.load(Ordering::Relaxed))
    }
    fn remember(&self, over: UnixMillis) {
        self.remembered.store(over.0, Ordering::Relaxed);
    }
}

/// A gateway in a directory of its own.
pub struct Gateway {
    pub identity: Opened,
    pub clock: Arc<TestClock>,
    pub directory: tempfile::TempDir,
}

/// An identity and the store it lives in.
pub struct Opened {
    identity: Identity,
    pub store: Store,
}

impl std::ops::Deref for Opened {
    type Target = Identity;
    fn deref(&self) -> &Identity {
        &self.identity
    }
}

pub fn open(directory: &Path, clock: Arc<TestClock>) -> Opened {
    let options = Options {
        min_free_disk: 0,
        ..Options::default()
    };
    let store = Store::open(directory, options).unwrap().0;
    Opened {
        identity: Identity::open(&directory.join("ca"), &store, clock).unwrap(),
        store,
    }
}

pub fn gateway() -> Gateway {
    let directory = tempfile::tempdir().unwrap();
    let clock = TestClock::at(NEW_YEAR_2026, true);
    Gateway {
        identity: open(directory.path(), clock.clone()),
        clock,
        directory,
    }
}

/// A certificate and its key, PEM.
#[derive(Clone)]
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

/// A CA that is not the gateway's.
pub struct ForeignCa {
    pub pem: String,
    params: CertificateParams,
    key: KeyPair,
}

impl ForeignCa {
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, params, key }
    }

    /// The same subject and key in another certificate.
    pub fn renewed(&self) -> Self {
        self.renewed_until(2049)
    }

    pub fn renewed_until(&self, year: i32) -> Self {
        let key = KeyPair::from_pem(&self.key.serialize_pem()).unwrap();
        let mut params = self.params.clone();
        params.serial_number = Some(rcgen::SerialNumber::from_slice(&key_number()));
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, params, key }
    }

    pub fn sign(&self, edit: impl FnOnce(&mut CertificateParams)) -> Pair {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "device");
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2040, 1, 1);
        edit(&mut params);
        let issuer = Issuer::from_params(&self.params, &self.key);
        let certificate = params.signed_by(&key, &issuer).unwrap();
        Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    /// A version 1 certificate: the fields of one of version 3 without version and extensions,
    /// signed again.
    pub fn sign_version_1(&self) -> Pair {
        let pair = self.sign(|_| {});
        let der = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap();
        let (outer, _) = tlv(&der);
        let (tbs, after_tbs) = tlv(outer);
        let (algorithm, _) = element(after_tbs);
        let mut fields = Vec::new();
        let mut rest = tbs;
        while !rest.is_empty() {
            let (field, after) = element(rest);
            // [0] is the version, [3] are the extensions.
            if field[0] & 0xc0 != 0x80 {
                fields.extend_from_slice(field);
            }
            rest = after;
        }
        let tbs = encode(0x30, &fields);
        let mut signature = vec![0];
        signature.extend(self.key.sign(&tbs).unwrap());
        let mut all = tbs;
        all.extend_from_slice(algorithm);
        all.extend(encode(0x03, &signature));
        let text = pem_text(&encode(0x30, &all));
        Pair {
            certificate: text,
            key: pair.key,
        }
    }
}

/// Another number each time.
fn key_number() -> [u8; 8] {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes()
}

fn header(der: &[u8]) -> (usize, usize) {
    let first = usize::from(der[1]);
    if first < 0x80 {
        return (2, first);
    }
    let count = first & 0x7f;
    let length = der[2..2 + count]
        .iter()
        .fold(0, |n, b| n << 8 | usize::from(*b));
    (2 + count, length)
}

/// The contents of the first element, and what follows it.
fn tlv(der: &[u8]) -> (&[u8], &[u8]) {
    let (start, length) = header(der);
    (&der[start..start + length], &der[start + length..])
}

/// The first element whole, and what follows it.
fn element(der: &[u8]) -> (&[u8], &[u8]) {
    let (start, length) = header(der);
    der.split_at(start + length)
}

fn encode(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    let mut out = vec![tag, 0x82, length[0], length[1]];
    if content.len() < 0x80 {
        out = vec![tag, length[1]];
    } else if content.len() < 0x100 {
        out = vec![tag, 0x81, length[1]];
    }
    out.extend_from_slice(content);
    out
}

pub fn pem_text(der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut body = String::new();
    for chunk in der.chunks(3) {
        let n = chunk.iter().fold(0_u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let digit = ALPHABET[(n >> (18 - 6 * i) & 63) as usize];
            body.push(if i <= chunk.len() { digit as char } else { '=' });
        }
    }
    let lines: Vec<_> = body
        .as_bytes()
        .chunks(64)
        .map(|l| String::from_utf8_lossy(l).into_owned())
        .collect();
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        lines.join("\n")
    )
}

/// How the handshake of a client ends, seen from the server.
pub fn handshake(
    server: &Arc<ServerConfig>,
    client: ClientConfig,
) -> Result<ServerConnection, Error> {
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(server.clone()).unwrap();
    let mut refusal = None;
    while refusal.is_none() && (server.is_handshaking() || client.is_handshaking()) {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        let to_server = wire.len();
        server.read_tls(&mut wire.as_slice()).unwrap();
        refusal = server.process_new_packets().err();
        wire.clear();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        if refusal.is_none() {
            client.process_new_packets().expect("the client is content");
        }
        assert!(to_server + wire.len() > 0, "the handshake stands still");
    }
    match refusal {
        Some(error) => Err(error),
        None => Ok(server),
    }
}

/// A client that trusts `ca` and shows `pair`.
pub fn client(
    ca: &str,
    pair: Option<&Pair>,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap())
        .unwrap();
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let Some(pair) = pair else {
        return builder.with_no_client_auth();
    };
    let chain = CertificateDer::pem_slice_iter(pair.certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .unwrap();
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    let key = provider.key_provider.load_private_key(key).unwrap();
    // Not `with_client_auth_cert`: it refuses version 1.
    let certified = CertifiedKey::new(chain, key);
    builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
}

/// Believes any server.
#[derive(Debug)]
pub struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
