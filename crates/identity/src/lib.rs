//! Who may come in: the gateway's own CA, the certificates that it knows, the policies attached to
//! them, and the TLS that listeners speak.
//!
//! A client's identity is the SHA-256 of its certificate ([`principal_of`]). The gateway makes
//! certificates itself ([`Identity::create_certificate`]) or takes foreign ones
//! ([`Identity::register_certificate`]), also by the hundred, through the CA that signed them
//! ([`Identity::register_ca`], [`Identity::introduce`]); which of them a handshake accepts stands in the module
//! `verifier`. Policies are kept here as texts by name; what they mean is another room's knowledge.
#![forbid(unsafe_code)]

mod ca;
mod cas;
mod certificate;
mod crl;
mod directory;
mod documents;
mod error;
mod files;
mod guests;
mod own;
mod password;
mod policies;
mod signed_tokens;
mod tls;
mod token;
mod verifier;
mod versions;
mod x509;

pub use ca::{
    CertificateAuthority, CreatedCertificate, check_host_name, common_name_of_request, host_names,
};
pub use cas::{CaStatus, Introduced, RegisteredCa};
pub use certificate::{Certificate, CertificateOrigin, CertificateStatus};
pub use crl::{Crls, count_revoked};
pub use directory::{Identity, OnChange, Snapshot};
pub use error::{CaError, CertificateError, ClientRefused, IdentityError, TlsError};
pub use guests::{ClientCas, Guest};
pub use own::OwnCa;
pub use password::{PasswordError, PasswordHash, SecretDigest};
pub use policies::{
    MAX_ATTACHED_POLICIES, MAX_POLICY_VERSIONS, Policy, PolicyOrigin, PolicyVersion,
    check_name as check_policy_name,
};
pub use signed_tokens::{SigningKeyError, TokenSigningKeys};
pub use tls::{ClientAuth, TlsOptions};
pub use token::{check_token_key, is_token_key, token_key};
pub use versions::PolicyVersions;
pub use x509::{
    CertificateFacts, NameValues, certificate_of_pem, certificates_of_pem, facts, principal_of,
};
