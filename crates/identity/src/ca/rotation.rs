//! A new CA in the place of the old one, with an overlap.
//!
//! 1. The new CA takes over at once: it signs the server certificate and every new client certificate.
//! 2. Until the old one is dropped, what it has signed stays valid, and the server sends the new CA's
//!    certificate signed by the old one along, so that clients which know the old one alone go on.
//! 3. The old key is gone with the rotation: nothing more can be signed with it.
//! 4. The moment of the change is the renaming of `next.key` to `ca.key`. Interrupted before it, the
//!    rotation has not happened; interrupted after it, the next start finishes it.

use std::path::Path;

use rcgen::{BasicConstraints, IsCa};

use super::{CertificateAuthority, OldCa, bad, ca_params, new_key, random_serial, signing};
use crate::files::{self, Secrecy};
use crate::{CaError, x509};

/// Path length of a CA that may sign client certificates and no other CA.
const NO_OTHER_CA: u32 = 0;

impl CertificateAuthority {
    /// Makes a new CA and keeps this one as the old one.
    pub(crate) fn rotate(&self) -> Result<Self, CaError> {
        if let Some(old) = &self.old {
            return Err(CaError::OldCaThere(old.id.clone()));
        }
        let in_place = |name: &str| self.directory.join(name);
        let key = new_key()?;
        let mut params = ca_params(&key)?;
        let pem = params.clone().self_signed(&key).map_err(signing)?.pem();
        files::write(
            &in_place("next.key"),
            &key.serialize_pem(),
            Secrecy::Private,
        )?;
        files::write(&in_place("next.pem"), &pem, Secrecy::Public)?;
        if self.may_sign_cas() {
            params.serial_number = Some(random_serial()?);
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            params.use_authority_key_identifier_extension = true;
            let cross = params.signed_by(&key, &self.issuer()?).map_err(signing)?;
            files::write(&in_place("next-cross.pem"), &cross.pem(), Secrecy::Public)?;
        }
        files::write(&in_place("old.pem"), &self.pem, Secrecy::Public)?;
        files::rename(&in_place("next.key"), &in_place("ca.key"))?;
        Self::open(&self.directory)
    }

    /// Forgets the old CA.
    pub(crate) fn drop_old(&self) -> Result<Self, CaError> {
        files::remove(&self.directory.join("old-cross.pem"))?;
        files::remove(&self.directory.join("old.pem"))?;
        Self::open(&self.directory)
    }

    /// Whether clients that know this CA alone will find the next one by it.
    fn may_sign_cas(&self) -> bool {
        let Ok(certificate) = x509::parse(&self.der) else {
            return false;
        };
        match certificate.basic_constraints() {
            Ok(Some(basic)) => basic.value.path_len_constraint != Some(NO_OTHER_CA),
            _ => false,
        }
    }
}

impl OldCa {
    /// Whether the server can show clients of this CA the way to the new one.
    pub(crate) fn has_cross(&self) -> bool {
        self.cross.is_some()
    }
}

/// Brings a rotation that was interrupted to its end, or to its beginning.
pub(super) fn finish(directory: &Path) -> Result<(), CaError> {
    let in_place = |name: &str| directory.join(name);
    if files::read(&in_place("next.key"))?.is_none() {
        files::rename(&in_place("next.pem"), &in_place("ca.pem"))?;
        return files::rename(&in_place("next-cross.pem"), &in_place("old-cross.pem"));
    }
    tracing::warn!("a rotation of the CA was interrupted; the CA is the one from before");
    files::remove(&in_place("next.pem"))?;
    files::remove(&in_place("next-cross.pem"))?;
    if files::read(&in_place("old.pem"))? == files::read(&in_place("ca.pem"))? {
        files::remove(&in_place("old.pem"))?;
    }
    files::remove(&in_place("next.key"))
}

pub(super) fn read_old(directory: &Path) -> Result<Option<OldCa>, CaError> {
    let path = directory.join("old.pem");
    let Some(pem) = files::read(&path)? else {
        return Ok(None);
    };
    let der = x509::certificate_of_pem(&pem).map_err(|e| bad(&path, e))?;
    Ok(Some(OldCa {
        id: x509::principal_of(&der),
        der,
        cross: files::read(&directory.join("old-cross.pem"))?,
    }))
}
