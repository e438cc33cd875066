//! The gateway's own CAs and its server certificate, while the daemon runs.

use std::sync::{Arc, PoisonError};

use iotedge_model::CertificateId;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::ca::CertificateAuthority;
use crate::certificate::{Certificate, CertificateStatus, Record};
use crate::directory::Shared;
use crate::verifier::TrustedCa;
use crate::{CaError, CertificateFacts, Identity, IdentityError, TlsError, ca, tls, x509};

/// One of the gateway's own CAs.
#[derive(Debug, Clone)]
pub struct OwnCa {
    /// The SHA-256 of its certificate.
    pub id: CertificateId,
    /// It signs; otherwise it is the one from before the rotation.
    pub current: bool,
    /// Clients that know the old CA alone are shown the way to the new one.
    pub crossed: bool,
    /// What stands in it.
    pub facts: CertificateFacts,
    /// Its certificate.
    pub pem: String,
}

/// Shows the server certificate that is the gateway's at the moment.
pub(crate) struct OwnServer(pub(crate) Arc<Shared>);

impl std::fmt::Debug for OwnServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OwnServer")
    }
}

impl ResolvesServerCert for OwnServer {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.server.load_full()
    }
}

impl Identity {
    /// The CA's certificate, PEM.
    pub fn ca_pem(&self) -> Arc<str> {
        self.ca.load().pem().clone()
    }

    /// The gateway's own CAs, the one that signs first.
    pub fn own_cas(&self) -> Result<Vec<OwnCa>, IdentityError> {
        let ca = self.ca.load();
        let mut all = vec![OwnCa {
            id: ca.id().clone(),
            current: true,
            crossed: ca.old().is_some_and(ca::OldCa::has_cross),
            facts: x509::facts(ca.der())?,
            pem: ca.pem().to_string(),
        }];
        if let Some(old) = ca.old() {
            all.push(OwnCa {
                id: old.id.clone(),
                current: false,
                crossed: old.has_cross(),
                facts: x509::facts(&old.der)?,
                pem: x509::pem_of(&old.der),
            });
        }
        Ok(all)
    }

    /// Puts a new CA in the place of the present one, which stays valid until
    /// [`Identity::drop_old_ca`], and has it sign the server certificate.
    pub fn rotate_ca(&self) -> Result<(), IdentityError> {
        let changes = self.lock();
        let new = self.ca.load().rotate()?;
        self.put_own(new)?;
        drop(changes);
        self.renew_server_again().map_err(as_ca_error)
    }

    /// Forgets the CA from before the rotation. What it has signed must be revoked or deleted, or is
    /// revoked with it: `revoke`. Says which certificates that were.
    pub fn drop_old_ca(&self, revoke: bool) -> Result<Vec<CertificateId>, IdentityError> {
        let changes = self.lock();
        let ca = self.ca.load_full();
        let old = ca.old().ok_or(CaError::NoOldCa)?.id.clone();
        let snapshot = self.snapshot();
        let of_old = |c: &&Arc<Certificate>| {
            c.ca.as_ref() == Some(&old) && c.status != CertificateStatus::Revoked
        };
        let left: Vec<_> = snapshot
            .certificates()
            .filter(of_old)
            .map(|c| c.id.clone())
            .collect();
        if !left.is_empty() && !revoke {
            return Err(IdentityError::OldCaInUse {
                ca: old,
                count: left.len(),
            });
        }
        for id in &left {
            let mut record: Record = self
                .certificates
                .get(id.as_str())?
                .ok_or_else(|| IdentityError::NoCertificate(id.clone()))?;
            record.status = CertificateStatus::Revoked;
            self.put_certificate(&changes, &record)?;
        }
        self.put_own(ca.drop_old()?)?;
        drop(changes);
        self.renew_server_again().map_err(as_ca_error)?;
        Ok(left)
    }

    /// Makes the server certificate again where it has to be: a name or address of the host has come,
    /// its end is near, or another CA is there. `more` are names beside the host's own. Says whether
    /// clients get another one from now on.
    pub fn renew_server(&self, more: &[String]) -> Result<bool, TlsError> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        *names = Some(more.to_vec());
        let ca = self.ca.load_full();
        let pem = ca.server(&ca::host_names(more), &self.clock.now())?;
        let key = tls::certified_key(&pem, &rustls::crypto::ring::default_provider())?;
        let present = self.shared.server.load();
        if present.as_ref().is_some_and(|p| p.cert == key.cert) {
            return Ok(false);
        }
        self.shared.server.store(Some(Arc::new(key)));
        Ok(true)
    }

    /// The same with the names of the last time; nothing where no listener uses it.
    fn renew_server_again(&self) -> Result<(), TlsError> {
        let names = self
            .names
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        match names {
            Some(names) => self.renew_server(&names).map(|_| ()),
            None => Ok(()),
        }
    }

    /// Takes a CA into use.
    pub(crate) fn put_own(&self, ca: CertificateAuthority) -> Result<(), CaError> {
        self.shared.own.store(Arc::new(trusted(&ca)?));
        self.ca.store(Arc::new(ca));
        Ok(())
    }

    /// Which of the own CAs signed a certificate.
    pub(crate) fn own_ca_of(&self, der: &[u8]) -> Option<CertificateId> {
        let own = self.shared.own.load();
        let certificate = x509::parse(der).ok()?;
        let issuer = certificate.issuer().as_raw();
        own.iter()
            .find(|ca| ca.is_called(issuer) && ca.signed(der).is_ok())
            .map(|ca| ca.id.clone())
    }
}

pub(crate) fn trusted(ca: &CertificateAuthority) -> Result<Vec<TrustedCa>, CaError> {
    let bad = |e| ca::bad(std::path::Path::new("ca.pem"), e);
    let mut all = vec![TrustedCa::new(ca.der()).map_err(bad)?];
    if let Some(old) = ca.old() {
        all.push(TrustedCa::new(&old.der).map_err(bad)?);
    }
    Ok(all)
}

fn as_ca_error(error: TlsError) -> IdentityError {
    match error {
        TlsError::Material(error) => error.into(),
        other => CaError::Signing(other.to_string()).into(),
    }
}
