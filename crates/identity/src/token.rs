//! Private keys that stay in a token (a TPM, an HSM, a smart card): PKCS #11, named by URIs of RFC 7512.
//!
//! `pkcs11:token=gateway;object=server;type=private?module-path=/usr/lib/…/libsofthsm2.so&pin-source=file:/etc/…`
//! stands in the place of a key's file.

mod uri;

#[cfg(feature = "pkcs11")]
mod key;

use std::path::Path;
use std::sync::Arc;

use rustls::sign::SigningKey;

use self::uri::KeyUri;
use crate::CaError;

/// Whether this is a URI and no file.
pub fn is_token_key(path: &Path) -> bool {
    text_of(path).is_some()
}

fn text_of(path: &Path) -> Option<&str> {
    path.to_str().filter(|text| text.starts_with("pkcs11:"))
}

/// Whether a URI says where its key is. Asks no token.
///
/// # Errors
/// What is wrong with it.
pub fn check_token_key(path: &Path) -> Result<(), CaError> {
    parse(path).map(|_| ())
}

fn parse(path: &Path) -> Result<KeyUri, CaError> {
    let bad = |reason: String| bad_key(path, reason);
    let text = text_of(path).ok_or_else(|| bad("it is no pkcs11 URI".into()))?;
    KeyUri::parse(text).map_err(bad)
}

/// The pin stays out of logs.
fn bad_key(path: &Path, reason: String) -> CaError {
    let text = path.to_string_lossy();
    let shown = match text.split_once("pin-value=") {
        Some((before, _)) => format!("{before}pin-value=..."),
        None => text.into_owned(),
    };
    CaError::BadKey {
        path: shown.into(),
        reason,
    }
}

/// The key that a URI names, ready to sign.
///
/// # Errors
/// The token does not answer, has no such key or several, or does not let us in.
#[cfg(feature = "pkcs11")]
pub fn token_key(path: &Path) -> Result<Arc<dyn SigningKey>, CaError> {
    let uri = parse(path)?;
    let key = key::TokenKey::open(uri).map_err(|reason| bad_key(path, reason))?;
    Ok(Arc::new(key))
}

/// Never: this program was built without the feature `pkcs11`.
///
/// # Errors
/// Always.
#[cfg(not(feature = "pkcs11"))]
pub fn token_key(path: &Path) -> Result<Arc<dyn SigningKey>, CaError> {
    parse(path)?;
    let reason = "this program was built without the feature pkcs11";
    Err(bad_key(path, reason.into()))
}
