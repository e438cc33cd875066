//! Certificate revocation lists (RFC 5280, 5).
//!
//! 1. A list counts when a CA that is known here signed it: the gateway's own, a registered one, or one
//!    of a listener's `client_ca`. One of another CA is kept, and counts when its CA is registered.
//! 2. Who stands in it is out, on every listener, however it was registered.
//! 3. A list past its `nextUpdate` still counts, and who does not stand in it is let in: a gateway that
//!    has been offline for a week must not shut its devices out. The log says so.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use iotedge_model::CertificateId;
use iotedge_ports::Clock;
use iotedge_telemetry::event;
use rustls_pki_types::CertificateRevocationListDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::asn1_rs::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::verifier::{TrustedCa, Validity, validity, verify_signed};
use crate::x509::IssuedNumber;
use crate::{CaError, CertificateError, Identity, TlsError, ca, files, tls};

/// More than any list of devices; a log given by mistake is not read into memory.
const MAX_FILE_BYTES: u64 = 32 << 20;

/// `deltaCRLIndicator` (RFC 5280, 5.2.4): a list of changes to another list.
const DELTA: &str = "2.5.29.27";
/// `certificateIssuer` of an entry (RFC 5280, 5.3.3): it is of another CA than the list.
const CERTIFICATE_ISSUER: &str = "2.5.29.29";

/// The revocation lists that a configuration names, read and not yet in force.
#[derive(Debug, Default)]
pub struct Crls {
    lists: Vec<Crl>,
    /// CAs of listeners, whose lists count too.
    client_cas: Vec<TrustedCa>,
}

/// One list.
#[derive(Debug)]
struct Crl {
    path: PathBuf,
    der: Vec<u8>,
    issuer: Vec<u8>,
    issuer_line: String,
    this_update: i64,
    next_update: Option<i64>,
    revoked: Vec<IssuedNumber>,
}

/// Who is out.
pub(crate) type Revoked = HashSet<IssuedNumber>;

impl Crls {
    /// Reads the lists, PEM or DER, and the CAs of listeners.
    pub fn read(lists: &[PathBuf], client_cas: &[PathBuf]) -> Result<Self, TlsError> {
        let mut crls = Self::default();
        for path in client_cas {
            crls.client_cas.extend(tls::read_cas(path)?);
        }
        for path in lists {
            crls.lists.extend(read_file(path)?);
        }
        Ok(crls)
    }
}

fn read_file(path: &Path) -> Result<Vec<Crl>, CaError> {
    let size = std::fs::metadata(path)
        .map_err(|e| files::io(path, e))?
        .len();
    if size > MAX_FILE_BYTES {
        let reason = format!("{size} bytes; at most {MAX_FILE_BYTES} are read");
        return Err(ca::bad(path, CertificateError::BadCrl(reason)));
    }
    let bytes = std::fs::read(path).map_err(|e| files::io(path, e))?;
    parse_lists(path, &bytes).map_err(|e| ca::bad(path, e))
}

fn parse_lists(path: &Path, bytes: &[u8]) -> Result<Vec<Crl>, CertificateError> {
    // A SEQUENCE begins with 0x30, PEM's text never does.
    if bytes.first() == Some(&0x30) {
        return Ok(vec![parse(path, bytes)?]);
    }
    let lists = CertificateRevocationListDer::pem_slice_iter(bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| CertificateError::BadCrl(format!("{e:?}")))?;
    if lists.is_empty() {
        let reason = "there is no PEM block X509 CRL in it";
        return Err(CertificateError::BadCrl(reason.into()));
    }
    lists.iter().map(|der| parse(path, der)).collect()
}

fn parse(path: &Path, der: &[u8]) -> Result<Crl, CertificateError> {
    let bad = |reason: String| CertificateError::BadCrl(reason);
    let (rest, list) = CertificateRevocationList::from_der(der).map_err(|e| bad(e.to_string()))?;
    if !rest.is_empty() {
        return Err(bad("there are bytes behind it".into()));
    }
    let is = |oid: &x509_parser::asn1_rs::Oid<'_>, wanted| oid.to_id_string() == wanted;
    if list.extensions().iter().any(|e| is(&e.oid, DELTA)) {
        return Err(bad("it is a delta list; give the complete one".into()));
    }
    let issuer = list.issuer().as_raw();
    let mut revoked = Vec::new();
    for entry in list.iter_revoked_certificates() {
        if entry
            .extensions()
            .iter()
            .any(|e| is(&e.oid, CERTIFICATE_ISSUER))
        {
            return Err(bad("it is an indirect list, of several CAs".into()));
        }
        revoked.push(IssuedNumber::new(issuer, entry.raw_serial()));
    }
    Ok(Crl {
        path: path.to_owned(),
        der: der.to_vec(),
        issuer: issuer.to_vec(),
        issuer_line: list.issuer().to_string(),
        this_update: list.last_update().timestamp(),
        next_update: list.next_update().map(|t| t.timestamp()),
        revoked,
    })
}

/// What the parser makes of bytes that may be a list, for fuzzing and tests.
///
/// # Errors
/// Why they are none.
pub fn count_revoked(bytes: &[u8]) -> Result<usize, CertificateError> {
    let lists = parse_lists(Path::new("-"), bytes)?;
    Ok(lists.iter().map(|list| list.revoked.len()).sum())
}

impl Crl {
    fn is_of(&self, ca: &TrustedCa) -> bool {
        let signed = |list: &CertificateRevocationList<'_>| {
            let tbs = list.tbs_cert_list.as_ref();
            let signature = &list.signature_value.data;
            verify_signed(&self.der, tbs, signature, ca.key()).is_ok()
        };
        ca.is_called(&self.issuer)
            && CertificateRevocationList::from_der(&self.der).is_ok_and(|(_, list)| signed(&list))
    }

    fn warn_if_late(&self, clock: &dyn Clock) {
        let Some(next) = self.next_update else {
            return;
        };
        if matches!(
            validity(clock, self.this_update, next),
            Validity::Over { .. }
        ) {
            tracing::warn!(
                event = event::CERTIFICATE,
                file = %self.path.display(),
                issuer = ?self.issuer_line,
                "this revocation list should have been replaced by now; it still counts, and who does \
                 not stand in it is let in"
            );
        }
    }
}

impl Identity {
    /// Puts revocation lists in force in the place of those from before. Says which registered
    /// certificates they take out that were not out before.
    pub fn set_crls(&self, crls: Crls) -> Vec<CertificateId> {
        let before = self.shared.revoked.load_full();
        *self.lists() = crls;
        self.read_crls_again();
        let now = self.shared.revoked.load();
        self.snapshot()
            .certificates()
            .filter(|c| now.contains(&c.number) && !before.contains(&c.number))
            .map(|c| c.id.clone())
            .collect()
    }

    /// The registered certificates that stand in a list.
    pub fn revoked_by_their_cas(&self) -> Vec<CertificateId> {
        let revoked = self.shared.revoked.load();
        self.snapshot()
            .certificates()
            .filter(|c| revoked.contains(&c.number))
            .map(|c| c.id.clone())
            .collect()
    }

    /// Asks again who signed the lists: CAs have come.
    pub(crate) fn read_crls_again(&self) {
        let crls = self.lists();
        let snapshot = self.snapshot();
        let own = self.shared.own.load();
        let mut revoked = Revoked::new();
        for list in &crls.lists {
            let known = own
                .iter()
                .chain(&crls.client_cas)
                .chain(snapshot.cas().map(|ca| &ca.trusted))
                .any(|ca| list.is_of(ca));
            if known {
                list.warn_if_late(&*self.clock);
                revoked.extend(&list.revoked);
            } else {
                tracing::warn!(
                    event = event::CERTIFICATE,
                    file = %list.path.display(),
                    issuer = ?list.issuer_line,
                    "no CA that is known here has signed this revocation list: it does not count"
                );
            }
        }
        self.shared.revoked.store(std::sync::Arc::new(revoked));
    }

    fn lists(&self) -> std::sync::MutexGuard<'_, Crls> {
        self.crls
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
