//! The files that `cert create` leaves.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

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
    pub(super) fn prepare(folder: &Path, name: &str) -> Result<Self, CtlError> {
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
        for path in [&files.certificate, &files.key] {
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
        create(&self.key, &made.private_key, 0o600)?;
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
