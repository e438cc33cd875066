//! Passwords of users: argon2 in its text form (PHC: `$argon2id$v=19$m=19456,t=2,p=1$SALT$HASH`).

use std::fmt;

use argon2::password_hash::{PasswordHash as Phc, PasswordHasher as _, SaltString};
use argon2::{Algorithm, Argon2, Params, PasswordVerifier as _, Version};
use ring::hmac;
use ring::rand::SecureRandom as _;
use thiserror::Error;

/// The most memory that a hash may ask for, in KiB: each attempt to log in costs as much.
const MAX_MEMORY: u32 = 256 * 1024;
/// The most rounds that a hash may ask for.
const MAX_ROUNDS: u32 = 64;
/// The most lanes that a hash may ask for.
const MAX_LANES: u32 = 16;

/// Why a text is no hash of a password, or none could be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PasswordError {
    /// It is not in PHC's form.
    #[error("is no argon2 hash like $argon2id$v=19$...; iotedgectl password makes one")]
    Form,
    /// It is of another algorithm.
    #[error("is made with {0:?}, not with argon2")]
    Algorithm(String),
    /// Checking it would take more than is sensible.
    #[error(
        "asks for m={memory}, t={rounds}, p={lanes}: more than m={MAX_MEMORY}, t={MAX_ROUNDS}, p={MAX_LANES}"
    )]
    TooDear {
        /// KiB.
        memory: u32,
        /// Rounds.
        rounds: u32,
        /// Lanes.
        lanes: u32,
    },
    /// The system has no random numbers, or argon2 refused its input.
    #[error("the password could not be hashed: {0}")]
    Failed(String),
}

/// The hash of a password. Shows nothing of itself in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash")
    }
}

impl PasswordHash {
    /// From its text, white space around it left out.
    pub fn parse(text: &str) -> Result<Self, PasswordError> {
        let text = text.trim();
        let phc = Phc::new(text).map_err(|_| PasswordError::Form)?;
        if Algorithm::try_from(phc.algorithm).is_err() {
            return Err(PasswordError::Algorithm(phc.algorithm.to_string()));
        }
        let params = Params::try_from(&phc).map_err(|_| PasswordError::Form)?;
        if phc.salt.is_none() || phc.hash.is_none() {
            return Err(PasswordError::Form);
        }
        let (memory, rounds, lanes) = (params.m_cost(), params.t_cost(), params.p_cost());
        if memory > MAX_MEMORY || rounds > MAX_ROUNDS || lanes > MAX_LANES {
            return Err(PasswordError::TooDear {
                memory,
                rounds,
                lanes,
            });
        }
        Ok(Self(text.to_owned()))
    }

    /// Hashes a password: argon2id with the parameters that OWASP recommends. Takes a while.
    pub fn of(password: &[u8]) -> Result<Self, PasswordError> {
        let failed = |e: &dyn fmt::Display| PasswordError::Failed(e.to_string());
        let mut salt = [0; 16];
        ring::rand::SystemRandom::new()
            .fill(&mut salt)
            .map_err(|e| failed(&e))?;
        let salt = SaltString::encode_b64(&salt).map_err(|e| failed(&e))?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::DEFAULT);
        let hash = argon2
            .hash_password(password, &salt)
            .map_err(|e| failed(&e))?;
        Ok(Self(hash.to_string()))
    }

    /// Whether it is the hash of this password. Takes a while: not for an async worker.
    pub fn verifies(&self, password: &[u8]) -> bool {
        Phc::new(&self.0).is_ok_and(|phc| Argon2::default().verify_password(password, &phc).is_ok())
    }

    /// The text, for the configuration.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Digests of secrets that mean nothing outside this process: what has been proved once is known
/// again by them.
pub struct SecretDigest(hmac::Key);

impl SecretDigest {
    /// With a key of its own.
    pub fn new() -> Result<Self, PasswordError> {
        let random = ring::rand::SystemRandom::new();
        hmac::Key::generate(hmac::HMAC_SHA256, &random)
            .map(Self)
            .map_err(|e| PasswordError::Failed(e.to_string()))
    }

    /// The digest of several parts: other parts, or parts cut otherwise, have another.
    pub fn of(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let tag = context.sign();
        let mut digest = [0; 32];
        for (to, from) in digest.iter_mut().zip(tag.as_ref()) {
            *to = *from;
        }
        digest
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test that panics has failed
    use super::*;

    #[test]
    fn a_hash_knows_its_password_and_no_other() {
        let hash = PasswordHash::of(b"tr0ub4dor").unwrap();
        assert!(hash.as_str().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        let again = PasswordHash::parse(&format!(" {}\n", hash.as_str())).unwrap();
        assert_eq!(again, hash);
        assert!(again.verifies(b"tr0ub4dor"));
        for wrong in [&b"tr0ub4do"[..], b"", b"tr0ub4dor "] {
            assert!(!again.verifies(wrong));
        }
        assert_eq!(format!("{hash:?}"), "PasswordHash");
    }

    #[test]
    fn hashes_of_the_reference_program_are_known() {
        // printf password | argon2 somesalt -id -t 2 -k 65536 -p 1
        let reference = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$\
                         CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        assert!(
            PasswordHash::parse(reference)
                .unwrap()
                .verifies(b"password")
        );
    }

    #[test]
    fn what_is_no_argon2_hash_or_too_dear_is_refused() {
        let form = |text| PasswordHash::parse(text).unwrap_err();
        assert_eq!(form("secret"), PasswordError::Form);
        assert_eq!(form(""), PasswordError::Form);
        assert_eq!(form("$argon2id$v=19$m=19456,t=2,p=1"), PasswordError::Form);
        assert!(matches!(
            form("$pbkdf2-sha256$i=1000$c29tZXNhbHQ$AAAAAAAAAAAAAAAA"),
            PasswordError::Algorithm(_)
        ));
        let salt = "c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        assert!(matches!(
            form(&format!("$argon2id$v=19$m=4194304,t=2,p=1${salt}")),
            PasswordError::TooDear { .. }
        ));
    }

    #[test]
    fn digests_depend_on_where_parts_are_cut() {
        let digest = SecretDigest::new().unwrap();
        assert_eq!(digest.of(&[b"ab", b"c"]), digest.of(&[b"ab", b"c"]));
        assert_ne!(digest.of(&[b"ab", b"c"]), digest.of(&[b"a", b"bc"]));
        let other = SecretDigest::new().unwrap();
        assert_ne!(digest.of(&[b"ab"]), other.of(&[b"ab"]));
    }
}
