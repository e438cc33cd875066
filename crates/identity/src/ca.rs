//! The gateway's own CA, its server certificate, and client certificates signed by it.

mod names;
mod request;
mod rotation;

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use iotedge_model::{CertificateId, Now};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData as _, SerialNumber,
};
use rustls_pki_types::CertificateDer;

use self::names::alternative_name;
pub use self::names::{check_host_name, host_names};
pub(crate) use self::request::Request;
pub use self::request::common_name_of_request;
use crate::files::{self, Secrecy};
use crate::x509;
use crate::{CaError, CertificateError};

/// First year of every validity: long before any gateway was made, so that a certificate made on
/// a Pi that believes in 1970 is valid today, and one made today is valid on a device whose clock
/// lags.
const FIRST_YEAR: i32 = 2020;
/// Last year of validity, as of AWS IoT's own device certificates (they end with 2049).
const LAST_YEAR: i32 = 2049;
/// The server certificate is renewed when less than this is left of it, in seconds.
const RENEW_BEFORE: i64 = 30 * 24 * 3600;

/// The gateway's CA: signs its own server certificate and client certificates.
pub struct CertificateAuthority {
    directory: PathBuf,
    key: KeyPair,
    id: CertificateId,
    pem: Arc<str>,
    der: CertificateDer<'static>,
    old: Option<OldCa>,
}

/// The CA that was there before a rotation, until it is dropped.
#[derive(Debug)]
pub(crate) struct OldCa {
    pub(crate) id: CertificateId,
    pub(crate) der: CertificateDer<'static>,
    /// The new CA, signed by this one: clients that know this one alone find the way by it. A CA
    /// that may sign no other has none.
    cross: Option<String>,
}

/// A client certificate just made. The key is nowhere else.
pub struct CreatedCertificate {
    /// Its id.
    pub id: CertificateId,
    /// The certificate.
    pub certificate_pem: String,
    /// Its private key, PKCS #8; none where the key stays with who asked.
    pub key_pem: Option<String>,
    /// The CA that signed it, which also signed the gateway's server certificate.
    pub ca_pem: String,
}

impl std::fmt::Debug for CreatedCertificate {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedCertificate")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for CertificateAuthority {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertificateAuthority")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

/// Certificate chain and key of a server, as PEM text.
pub(crate) struct ServerPem {
    pub(crate) certificate: String,
    pub(crate) certificate_path: PathBuf,
    pub(crate) key: String,
    pub(crate) key_path: PathBuf,
}

impl CertificateAuthority {
    /// Reads the CA in `directory` (`ca.pem`, `ca.key`), or makes it there when there is none.
    ///
    /// A lost `ca.pem` is made again from `ca.key`: its name comes from the key, so that what was
    /// signed before stays valid. A lost `ca.key` is an error.
    pub fn open(directory: &Path) -> Result<Self, CaError> {
        make_private_directory(directory)?;
        rotation::finish(directory)?;
        let key_path = directory.join("ca.key");
        let pem_path = directory.join("ca.pem");
        let pem = files::read(&pem_path)?;
        let key = match files::read(&key_path)? {
            Some(text) => {
                files::keep_private(&key_path)?;
                read_key(&text, &key_path)?
            }
            None if pem.is_some() => return Err(CaError::KeyMissing(key_path)),
            None => {
                let key = new_key()?;
                files::write(&key_path, &key.serialize_pem(), Secrecy::Private)?;
                key
            }
        };
        let pem = match pem {
            Some(pem) => pem,
            None => {
                let pem = ca_params(&key)?.self_signed(&key).map_err(signing)?.pem();
                files::write(&pem_path, &pem, Secrecy::Public)?;
                pem
            }
        };
        let der = x509::certificate_of_pem(&pem).map_err(|e| bad(&pem_path, e))?;
        check_pair(&der, &pem_path, &key, &key_path)?;
        Ok(Self {
            directory: directory.to_owned(),
            key,
            id: x509::principal_of(&der),
            pem: Arc::from(pem),
            der,
            old: rotation::read_old(directory)?,
        })
    }

    /// The CA's certificate, which clients need to trust the gateway.
    pub fn pem(&self) -> &Arc<str> {
        &self.pem
    }

    /// The SHA-256 of its certificate.
    pub fn id(&self) -> &CertificateId {
        &self.id
    }

    pub(crate) fn old(&self) -> Option<&OldCa> {
        self.old.as_ref()
    }

    pub(crate) fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    fn issuer(&self) -> Result<Issuer<'_, &KeyPair>, CaError> {
        Issuer::from_ca_cert_der(&self.der, &self.key).map_err(signing)
    }

    /// Makes a key and a client certificate with the subject `CN=name`.
    pub(crate) fn create_client(&self, name: &str) -> Result<CreatedCertificate, CaError> {
        let key = new_key()?;
        let mut params = leaf_params(ExtendedKeyUsagePurpose::ClientAuth, LAST_YEAR)?;
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.issuer()?).map_err(signing)?;
        Ok(CreatedCertificate {
            id: x509::principal_of(certificate.der()),
            certificate_pem: certificate.pem(),
            key_pem: Some(key.serialize_pem()),
            ca_pem: self.pem.to_string(),
        })
    }

    /// The gateway's server certificate (`server.pem`, `server.key`): made, or made again when it
    /// does not hold all of `names`, is not signed by this CA, or comes close to its end by a clock
    /// that is trusted. Behind it comes what clients need that know the old CA alone.
    pub(crate) fn server(&self, names: &BTreeSet<String>, now: &Now) -> Result<ServerPem, CaError> {
        let mut pem = self.server_alone(names, now)?;
        if let Some(cross) = self.old.as_ref().and_then(|old| old.cross.as_ref()) {
            pem.certificate.push_str(cross);
        }
        Ok(pem)
    }

    fn server_alone(&self, names: &BTreeSet<String>, now: &Now) -> Result<ServerPem, CaError> {
        let certificate_path = self.directory.join("server.pem");
        let key_path = self.directory.join("server.key");
        if let (Some(certificate), Some(key)) =
            (files::read(&certificate_path)?, files::read(&key_path)?)
        {
            files::keep_private(&key_path)?;
            match self.why_renew(&certificate, &key, names, now) {
                None => {
                    return Ok(ServerPem {
                        certificate,
                        certificate_path,
                        key,
                        key_path,
                    });
                }
                Some(reason) => {
                    tracing::info!(reason, "the server certificate is made again");
                }
            }
        }
        let key = new_key()?;
        let mut params = leaf_params(ExtendedKeyUsagePurpose::ServerAuth, last_year(now))?;
        params.subject_alt_names = names
            .iter()
            .map(|name| alternative_name(name))
            .collect::<Result<_, _>>()?;
        let common_name = names
            .iter()
            .find(|n| n.parse::<IpAddr>().is_err() && *n != "localhost")
            .map_or("localhost", String::as_str);
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        let certificate = params
            .signed_by(&key, &self.issuer()?)
            .map_err(signing)?
            .pem();
        let key = key.serialize_pem();
        // Interrupted in between, the pair does not match at the next start and is made again.
        files::write(&key_path, &key, Secrecy::Private)?;
        files::write(&certificate_path, &certificate, Secrecy::Public)?;
        Ok(ServerPem {
            certificate,
            certificate_path,
            key,
            key_path,
        })
    }

    /// Why the server certificate cannot stay, if it cannot.
    fn why_renew(
        &self,
        pem: &str,
        key: &str,
        names: &BTreeSet<String>,
        now: &Now,
    ) -> Option<&'static str> {
        let Ok(der) = x509::certificate_of_pem(pem) else {
            return Some("server.pem cannot be read");
        };
        let (Ok(certificate), Ok(facts)) = (x509::parse(&der), x509::facts(&der)) else {
            return Some("server.pem cannot be read");
        };
        let Ok(key) = KeyPair::from_pem(key) else {
            return Some("server.key cannot be read");
        };
        if x509::key_of(&certificate).as_ref() != key.subject_public_key_info() {
            return Some("server.key is not the key of server.pem");
        }
        let Ok(ca) = x509::parse(&self.der) else {
            return Some("ca.pem cannot be read");
        };
        if certificate.issuer().as_raw() != ca.subject().as_raw()
            || crate::verifier::signed_by(&der, &x509::key_of(&ca)).is_err()
        {
            return Some("it is not signed by this CA");
        }
        let mut held = BTreeSet::new();
        for key in ["AlternativeName.DNSName", "AlternativeName.IPAddress"] {
            held.extend(facts.subject.get(key).into_iter().flatten().cloned());
        }
        // A name too many does no harm: an address may come back.
        if !held.is_superset(names) {
            return Some("the host has a new name or address");
        }
        let seconds = i64::try_from(now.wall.seconds()).unwrap_or(i64::MAX);
        if now.trusted && facts.not_after.saturating_sub(seconds) < RENEW_BEFORE {
            return Some("it comes close to its end");
        }
        None
    }
}

fn ca_params(key: &KeyPair) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::default();
    params.serial_number = Some(random_serial()?);
    params.not_before = rcgen::date_time_ymd(FIRST_YEAR, 1, 1);
    params.not_after = rcgen::date_time_ymd(LAST_YEAR, 12, 31);
    // One level, for the CA that follows it.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    // Each gateway's CA has a name of its own, so that a client that trusts several finds the
    // right one.
    let id = x509::principal_of(&key.subject_public_key_info());
    let suffix = id.as_str().get(..12).unwrap_or_default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("IoT edge gateway CA {suffix}"));
    Ok(params)
}

fn leaf_params(
    purpose: ExtendedKeyUsagePurpose,
    last_year: i32,
) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::default();
    params.serial_number = Some(random_serial()?);
    params.not_before = rcgen::date_time_ymd(FIRST_YEAR, 1, 1);
    params.not_after = rcgen::date_time_ymd(last_year, 12, 31);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    params.use_authority_key_identifier_extension = true;
    params.distinguished_name = DistinguishedName::new();
    Ok(params)
}

/// A server certificate made late must outlive [`RENEW_BEFORE`], or every start would renew it.
fn last_year(now: &Now) -> i32 {
    if !now.trusted {
        return LAST_YEAR;
    }
    let year = 1970 + now.wall.seconds() / 31_556_952;
    i32::try_from(year).map_or(LAST_YEAR, |year| LAST_YEAR.max(year.saturating_add(2)))
}

fn random_serial() -> Result<SerialNumber, CaError> {
    use ring::rand::SecureRandom as _;
    let mut bytes = [0_u8; 16];
    ring::rand::SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| CaError::Signing("the system gives no random numbers".into()))?;
    // Positive and of full length (RFC 5280, 4.1.2.2).
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn new_key() -> Result<KeyPair, CaError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(signing)
}

fn read_key(text: &str, path: &Path) -> Result<KeyPair, CaError> {
    KeyPair::from_pem(text).map_err(|e| CaError::BadKey {
        path: path.to_owned(),
        reason: e.to_string(),
    })
}

fn check_pair(
    der: &CertificateDer<'_>,
    certificate_path: &Path,
    key: &KeyPair,
    key_path: &Path,
) -> Result<(), CaError> {
    let certificate = x509::parse(der).map_err(|e| bad(certificate_path, e))?;
    if x509::key_of(&certificate).as_ref() != key.subject_public_key_info() {
        return Err(CaError::KeyMismatch {
            key: key_path.to_owned(),
            certificate: certificate_path.to_owned(),
        });
    }
    Ok(())
}

fn make_private_directory(path: &Path) -> Result<(), CaError> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)))
        .map_err(|e| files::io(path, e))
}

pub(crate) fn bad(path: &Path, reason: CertificateError) -> CaError {
    CaError::BadCertificate {
        path: path.to_owned(),
        reason,
    }
}

fn signing(error: rcgen::Error) -> CaError {
    CaError::Signing(error.to_string())
}
