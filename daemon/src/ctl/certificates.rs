//! The files that `cert create` leaves, and those that name a CA.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use iotedge_model::CertificateId;

use super::CtlError;
use super::protocol::CertificateCreated;

/// Where the three files go.
pub(super) struct Files {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    pub(super) ca: PathBuf,
}

impl Files {
    /// Makes the folder and sees that nothing is in the way, before a certificate is made.
    /// `with_key`: one is made too.
    pub(super) fn prepare(folder: &Path, name: &str, with_key: bool) -> Result<Self, CtlError> {
        if name.is_empty() || name.contains(['/', '\0']) || name.starts_with('.') {
            return Err(CtlError::Failed(format!(
                "the name {name:?} cannot be a file's name; it must not be empty, begin with a dot or contain '/'"
            )));
        }
        fs::create_dir_all(folder).map_err(|e| CtlError::file(folder, e))?;
        let files = Self {
            certificate: folder.join(format!("{name}.pem")),
            key: folder.join(format!("{name}.key")),
            ca: folder.join("ca.pem"),
        };
        if files.certificate == files.ca {
            return Err(CtlError::Failed(
                "a certificate called \"ca\" would take the place of ca.pem; choose another name"
                    .into(),
            ));
        }
        let written = [Some(&files.certificate), with_key.then_some(&files.key)];
        for path in written.into_iter().flatten() {
            if fs::symlink_metadata(path).is_ok() {
                return Err(CtlError::file(
                    path,
                    "is there already and is not overwritten",
                ));
            }
        }
        Ok(files)
    }

    /// Writes them. A `ca.pem` of another gateway is not overwritten.
    pub(super) fn write(&self, made: &CertificateCreated) -> Result<(), CtlError> {
        let there = fs::read_to_string(&self.ca).ok();
        match there {
            Some(text) if text == made.ca_pem => {}
            Some(_) => {
                return Err(CtlError::file(
                    &self.ca,
                    "is there already, of another CA, and is not overwritten",
                ));
            }
            None => create(&self.ca, &made.ca_pem, 0o644)?,
        }
        if let Some(key) = &made.private_key {
            create(&self.key, key, 0o600)?;
        }
        create(&self.certificate, &made.certificate_pem, 0o644)
    }
}

fn create(path: &Path, text: &str, mode: u32) -> Result<(), CtlError> {
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .map_err(|e| CtlError::file(path, e))
}

/// A CA by its id, or by a file that holds its certificate.
pub(super) fn ca_id(text: &str) -> Result<CertificateId, CtlError> {
    if let Some(id) = CertificateId::parse(&text.to_ascii_lowercase()) {
        return Ok(id);
    }
    let path = Path::new(text);
    let pem = super::offline::read_text(path)?;
    let der = iotedge_identity::certificate_of_pem(&pem).map_err(|e| CtlError::file(path, e))?;
    Ok(iotedge_identity::principal_of(&der))
}

/// What there is to say to `cert transfer`.
pub(super) fn no_transfer(id: &CertificateId) -> CtlError {
    CtlError::Refused {
        reason: "unsupported".into(),
        message: format!(
            "a gateway is one account, and there is no other to transfer {id} to; register the \
             certificate where its device shall go (`iotedgectl cert describe {id}` prints it) and \
             revoke it here"
        ),
    }
}
