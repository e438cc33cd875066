//! The gateway's CA, certificates, principals, keys, revocation
#![forbid(unsafe_code)]
