//! Signatures of the tokens that clients show to a custom authorizer: RSA with SHA-256, base64
//! (today's guide, "Custom authentication", "Signing the token").

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject as _;
use thiserror::Error;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// Why a file is no key to check signatures with.
#[derive(Debug, Error)]
pub enum SigningKeyError {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// No `-----BEGIN PUBLIC KEY-----` block.
    #[error("there is no PEM block PUBLIC KEY in it")]
    NoPem,
    /// Another kind of key, or a small one.
    #[error("it is not an RSA key of 2048 to 8192 bits: {0}")]
    Key(String),
}

/// The public keys of those who may sign tokens.
#[derive(Debug, Clone, Default)]
pub struct TokenSigningKeys(Vec<Box<[u8]>>);

impl TokenSigningKeys {
    /// Reads PEM files, each with one or more keys.
    ///
    /// # Errors
    /// The first that cannot be used, with its path.
    pub fn read<P: AsRef<Path>>(
        paths: &[P],
    ) -> Result<Self, (std::path::PathBuf, SigningKeyError)> {
        let mut keys = Vec::new();
        for path in paths {
            let path = path.as_ref();
            let read = std::fs::read_to_string(path).map_err(SigningKeyError::Io);
            let found = read.and_then(|text| rsa_keys(&text));
            keys.extend(found.map_err(|error| (path.to_owned(), error))?);
        }
        Ok(Self(keys))
    }

    /// Whether one of the keys has made this signature (base64) of the token.
    pub fn verify(&self, token: &str, signature: &str) -> bool {
        let Ok(signature) = STANDARD.decode(signature.trim()) else {
            return false;
        };
        self.0.iter().any(|key| {
            UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key)
                .verify(token.as_bytes(), &signature)
                .is_ok()
        })
    }
}

/// The keys of a PEM text, as PKCS #1 has them.
fn rsa_keys(text: &str) -> Result<Vec<Box<[u8]>>, SigningKeyError> {
    let infos = SubjectPublicKeyInfoDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| SigningKeyError::NoPem)?;
    if infos.is_empty() {
        return Err(SigningKeyError::NoPem);
    }
    let bad = |reason: &dyn std::fmt::Display| SigningKeyError::Key(reason.to_string());
    infos
        .iter()
        .map(|der| {
            let (_, info) = SubjectPublicKeyInfo::from_der(der).map_err(|e| bad(&e))?;
            match info.parsed().map_err(|e| bad(&e))? {
                PublicKey::RSA(rsa) if (2048..=8192).contains(&rsa.key_size()) => {
                    Ok(info.subject_public_key.data.as_ref().into())
                }
                PublicKey::RSA(rsa) => Err(bad(&format!("it has {} bits", rsa.key_size()))),
                _ => Err(bad(&"it is of another kind")),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::process::Command;

    use super::*;

    fn openssl(folder: &Path, line: &str) {
        let done = Command::new("openssl")
            .args(line.split(' '))
            .current_dir(folder)
            .output()
            .unwrap();
        assert!(done.status.success(), "{line}: {done:?}");
    }

    #[test]
    fn what_openssl_signs_is_known_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        for name in ["one", "two"] {
            openssl(at, &format!("genrsa -out {name}.key 2048"));
            openssl(at, &format!("rsa -in {name}.key -pubout -out {name}.pem"));
        }
        std::fs::write(at.join("token"), "tokenValue").unwrap();
        openssl(at, "dgst -sha256 -sign two.key -out signature token");
        let signature = STANDARD.encode(std::fs::read(at.join("signature")).unwrap());
        let both = TokenSigningKeys::read(&[at.join("one.pem"), at.join("two.pem")]).unwrap();
        assert!(both.verify("tokenValue", &signature));
        assert!(!both.verify("tokenvalue", &signature));
        assert!(!both.verify("tokenValue", ""));
        assert!(!both.verify("tokenValue", &STANDARD.encode("no")));
        assert!(!both.verify("tokenValue", "no base64!"));
        let one = TokenSigningKeys::read(&[at.join("one.pem")]).unwrap();
        assert!(!one.verify("tokenValue", &signature));
        assert!(!TokenSigningKeys::default().verify("tokenValue", &signature));
    }

    #[test]
    fn other_keys_are_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        openssl(at, "genrsa -out small.key 1024");
        openssl(at, "rsa -in small.key -pubout -out small.pem");
        openssl(
            at,
            "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ec.key",
        );
        openssl(at, "pkey -in ec.key -pubout -out ec.pem");
        for (file, words) in [
            ("small.pem", "1024 bits"),
            ("ec.pem", "another kind"),
            ("small.key", "no PEM block PUBLIC KEY"),
            ("missing", "cannot be read"),
        ] {
            let (path, error) = TokenSigningKeys::read(&[at.join(file)]).unwrap_err();
            assert_eq!(path, at.join(file));
            assert!(error.to_string().contains(words), "{file}: {error}");
        }
    }
}
