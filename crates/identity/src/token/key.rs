//! A key in a token, as rustls signs with it.
//!
//! A signature waits for the token, on the thread of the handshake that needs it; others go on. When the
//! token has forgotten the session (it was pulled out, it was reset) the next signature opens another.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error as TokenError, RvError};
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsPssParams};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use rustls::sign::{Signer, SigningKey};
use rustls::{Error, SignatureAlgorithm, SignatureScheme};

use super::uri::{KeyUri, Pin};
use crate::x509;

/// The curves' names as the token gives them: OIDs in DER (RFC 5480, 2.1.1.1).
const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];

/// How a token is asked to sign, best first.
const RSA: [(SignatureScheme, MechanismType); 6] = [
    (
        SignatureScheme::RSA_PSS_SHA512,
        MechanismType::SHA512_RSA_PKCS_PSS,
    ),
    (
        SignatureScheme::RSA_PSS_SHA384,
        MechanismType::SHA384_RSA_PKCS_PSS,
    ),
    (
        SignatureScheme::RSA_PSS_SHA256,
        MechanismType::SHA256_RSA_PKCS_PSS,
    ),
    (
        SignatureScheme::RSA_PKCS1_SHA512,
        MechanismType::SHA512_RSA_PKCS,
    ),
    (
        SignatureScheme::RSA_PKCS1_SHA384,
        MechanismType::SHA384_RSA_PKCS,
    ),
    (
        SignatureScheme::RSA_PKCS1_SHA256,
        MechanismType::SHA256_RSA_PKCS,
    ),
];

/// A key and the way to it.
pub(super) struct TokenKey {
    token: Arc<Token>,
    algorithm: SignatureAlgorithm,
    /// What it can do, best first.
    schemes: Vec<SignatureScheme>,
}

struct Token {
    uri: KeyUri,
    opened: Mutex<Opened>,
}

struct Opened {
    session: Session,
    key: ObjectHandle,
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenKey")
            .field("uri", &self.token.uri)
            .field("schemes", &self.schemes)
            .finish_non_exhaustive()
    }
}

impl TokenKey {
    pub(super) fn open(uri: KeyUri) -> Result<Self, String> {
        let (opened, slot) = open(&uri)?;
        let (algorithm, schemes) = abilities(&uri, &opened, slot)?;
        Ok(Self {
            token: Arc::new(Token {
                uri,
                opened: Mutex::new(opened),
            }),
            algorithm,
            schemes,
        })
    }
}

/// Libraries are initialized once a process, whoever uses them.
fn library(path: &Path) -> Result<Pkcs11, String> {
    static LOADED: OnceLock<Mutex<HashMap<PathBuf, Pkcs11>>> = OnceLock::new();
    let loaded = LOADED.get_or_init(Mutex::default);
    let mut loaded = loaded.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(library) = loaded.get(path) {
        return Ok(library.clone());
    }
    let failed = |e: TokenError| format!("{}: {e}", path.display());
    let library = Pkcs11::new(path).map_err(failed)?;
    library
        .initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
        .map_err(failed)?;
    loaded.insert(path.to_owned(), library.clone());
    Ok(library)
}

fn open(uri: &KeyUri) -> Result<(Opened, Slot), String> {
    let library = library(&uri.module)?;
    let slot = slot(uri, &library)?;
    let session = library
        .open_ro_session(slot)
        .map_err(|e| format!("no session with the token: {e}"))?;
    if let Some(pin) = pin(&uri.pin)? {
        match session.login(UserType::User, Some(&pin)) {
            // Another key of the same token has.
            Ok(()) | Err(TokenError::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {}
            Err(error) => return Err(format!("the token does not let us in: {error}")),
        }
    }
    let mut wanted = vec![Attribute::Class(ObjectClass::PRIVATE_KEY)];
    if let Some(label) = &uri.object {
        wanted.push(Attribute::Label(label.as_bytes().to_vec()));
    }
    if let Some(id) = &uri.id {
        wanted.push(Attribute::Id(id.clone()));
    }
    let found = session
        .find_objects(&wanted)
        .map_err(|e| format!("the token cannot be searched: {e}"))?;
    match found.as_slice() {
        [key] => {
            let key = *key;
            Ok((Opened { session, key }, slot))
        }
        [] => Err("the token has no such private key".into()),
        several => Err(format!(
            "the token has {} such private keys; say more, like id",
            several.len()
        )),
    }
}

fn slot(uri: &KeyUri, library: &Pkcs11) -> Result<Slot, String> {
    let failed = |e: TokenError| format!("the tokens cannot be listed: {e}");
    let mut found = Vec::new();
    for slot in library.get_slots_with_token().map_err(failed)? {
        let info = library.get_token_info(slot).map_err(failed)?;
        let is = |wanted: &Option<String>, found: &str| {
            wanted
                .as_ref()
                .is_none_or(|wanted| wanted == found.trim_end())
        };
        if is(&uri.token, info.label())
            && is(&uri.manufacturer, info.manufacturer_id())
            && is(&uri.model, info.model())
            && is(&uri.serial, info.serial_number())
            && uri.slot_id.is_none_or(|id| id == slot.id())
        {
            found.push(slot);
        }
    }
    match found.as_slice() {
        [one] => Ok(*one),
        [] => Err("there is no such token".into()),
        several => Err(format!(
            "there are {} such tokens; say more, like serial",
            several.len()
        )),
    }
}

fn pin(pin: &Pin) -> Result<Option<AuthPin>, String> {
    let text = match pin {
        Pin::None => return Ok(None),
        Pin::Value(text) => text.clone(),
        Pin::File(path) => {
            let text = std::fs::read_to_string(path);
            let text = text.map_err(|e| format!("pin-source {}: {e}", path.display()))?;
            text.lines().next().unwrap_or_default().to_owned()
        }
    };
    Ok(Some(AuthPin::new(text.into())))
}

/// What the key is, and which signatures its token can make.
fn abilities(
    uri: &KeyUri,
    opened: &Opened,
    slot: Slot,
) -> Result<(SignatureAlgorithm, Vec<SignatureScheme>), String> {
    let failed = |e: TokenError| format!("the key cannot be asked: {e}");
    let kinds = [AttributeType::KeyType, AttributeType::EcParams];
    let known = opened
        .session
        .get_attributes(opened.key, &kinds)
        .map_err(failed)?;
    let mut kind = None;
    let mut curve = None;
    for attribute in known {
        match attribute {
            Attribute::KeyType(found) => kind = Some(found),
            Attribute::EcParams(found) => curve = Some(found),
            _ => {}
        }
    }
    let mechanisms = library(&uri.module)?
        .get_mechanism_list(slot)
        .map_err(failed)?;
    let (algorithm, schemes) = match (kind, curve.as_deref()) {
        (Some(KeyType::RSA), _) => {
            let able = RSA.iter().filter(|(_, how)| mechanisms.contains(how));
            (SignatureAlgorithm::RSA, able.map(|(s, _)| *s).collect())
        }
        (Some(KeyType::EC), Some(P256)) => (
            SignatureAlgorithm::ECDSA,
            vec![SignatureScheme::ECDSA_NISTP256_SHA256],
        ),
        (Some(KeyType::EC), Some(P384)) => (
            SignatureAlgorithm::ECDSA,
            vec![SignatureScheme::ECDSA_NISTP384_SHA384],
        ),
        _ => {
            return Err("the key is neither RSA nor on the curves P-256 and P-384".into());
        }
    };
    if schemes.is_empty() {
        return Err("the token makes no signature that TLS takes".into());
    }
    Ok((algorithm, schemes))
}

impl SigningKey for TokenKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let scheme = *self.schemes.iter().find(|s| offered.contains(s))?;
        Some(Box::new(TokenSigner {
            token: self.token.clone(),
            scheme,
        }))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }
}

struct TokenSigner {
    token: Arc<Token>,
    scheme: SignatureScheme,
}

impl std::fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TokenSigner({:?})", self.scheme)
    }
}

impl Signer for TokenSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let mut opened = self.token.lock();
        let first = match sign(&opened, self.scheme, message) {
            Ok(signature) => return Ok(signature),
            Err(error) => error,
        };
        // It may have been pulled out and put in again.
        let again = open(&self.token.uri).and_then(|(anew, _)| {
            *opened = anew;
            sign(&opened, self.scheme, message).map_err(|e| e.to_string())
        });
        again.map_err(|second| {
            tracing::error!(%first, %second, "the token did not sign");
            Error::General(format!("the token did not sign: {second}"))
        })
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}

impl Token {
    fn lock(&self) -> MutexGuard<'_, Opened> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sign(opened: &Opened, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, TokenError> {
    let pss = |hash_alg, mgf, length: u64| PkcsPssParams {
        hash_alg,
        mgf,
        s_len: length.into(),
    };
    let hash = |algorithm| ring::digest::digest(algorithm, message);
    use MechanismType as M;
    let (how, data) = match scheme {
        SignatureScheme::ECDSA_NISTP256_SHA256 => {
            let digest = hash(&ring::digest::SHA256);
            let raw = opened
                .session
                .sign(&Mechanism::Ecdsa, opened.key, digest.as_ref())?;
            return Ok(ecdsa_signature(&raw));
        }
        SignatureScheme::ECDSA_NISTP384_SHA384 => {
            let digest = hash(&ring::digest::SHA384);
            let raw = opened
                .session
                .sign(&Mechanism::Ecdsa, opened.key, digest.as_ref())?;
            return Ok(ecdsa_signature(&raw));
        }
        // The salt is as long as the hash (RFC 8446, 4.2.3).
        SignatureScheme::RSA_PSS_SHA256 => (
            Mechanism::Sha256RsaPkcsPss(pss(M::SHA256, PkcsMgfType::MGF1_SHA256, 32)),
            message,
        ),
        SignatureScheme::RSA_PSS_SHA384 => (
            Mechanism::Sha384RsaPkcsPss(pss(M::SHA384, PkcsMgfType::MGF1_SHA384, 48)),
            message,
        ),
        SignatureScheme::RSA_PSS_SHA512 => (
            Mechanism::Sha512RsaPkcsPss(pss(M::SHA512, PkcsMgfType::MGF1_SHA512, 64)),
            message,
        ),
        SignatureScheme::RSA_PKCS1_SHA256 => (Mechanism::Sha256RsaPkcs, message),
        SignatureScheme::RSA_PKCS1_SHA384 => (Mechanism::Sha384RsaPkcs, message),
        SignatureScheme::RSA_PKCS1_SHA512 => (Mechanism::Sha512RsaPkcs, message),
        _ => return Err(TokenError::NotSupported),
    };
    opened.session.sign(&how, opened.key, data)
}

/// Tokens give r and s, each half of the bytes (PKCS #11, 6.3.1); TLS wants a SEQUENCE of two numbers
/// (RFC 3279, 2.2.3).
fn ecdsa_signature(raw: &[u8]) -> Vec<u8> {
    let (r, s) = raw.split_at(raw.len() / 2);
    let number = |bytes: &[u8]| {
        let zeros = bytes.iter().take_while(|b| **b == 0).count();
        let digits = bytes.get(zeros..).unwrap_or_default();
        // A first bit that is set would make it negative, and no digit at all is no number.
        let sign: &[u8] = match digits.first() {
            Some(first) if *first < 0x80 => &[],
            _ => &[0],
        };
        x509::element(0x02, &[sign, digits].concat())
    };
    x509::sequence(&[number(r), number(s)].concat())
}
