//! Who a connection speaks for.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The id of a certificate: SHA-256 of its DER, 64 lower-case hex digits, as in AWS IoT.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CertificateId(Arc<str>);

impl CertificateId {
    /// From the 32 bytes of the digest.
    pub fn from_digest(digest: &[u8; 32]) -> Self {
        use fmt::Write as _;
        let mut text = String::with_capacity(64);
        for byte in digest {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        Self(Arc::from(text))
    }

    /// From its text; `None` unless it is 64 lower-case hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        let ok = text.len() == 64
            && text
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        ok.then(|| Self(Arc::from(text)))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CertificateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CertificateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a principal proved itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PrincipalKind {
    /// An X.509 client certificate.
    Certificate {
        /// Which one.
        id: CertificateId,
    },
    /// A name and password of the configuration.
    User {
        /// The name.
        name: Arc<str>,
    },
    /// What a custom authorizer says it is.
    Custom {
        /// The authorizer's name.
        authorizer: Arc<str>,
        /// The `principalId` of its answer.
        name: Arc<str>,
    },
    /// Nothing; the listener's policy says what it may do.
    Anonymous {
        /// The listener's address as configured.
        listener: Arc<str>,
    },
    /// A process of this machine, by the kernel's word.
    LocalUser {
        /// Its user id.
        uid: u32,
        /// The address, as configured, of the Unix socket that it came by: its policy says what it
        /// may do. `None` for the control socket, where nobody is asked.
        listener: Option<Arc<str>>,
    },
    /// A part of the daemon itself; never asked for permission.
    Service {
        /// The room.
        name: Arc<str>,
    },
}

/// Who a connection speaks for. Cheap to share behind an `Arc`. Written as its [`Principal::id`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Principal {
    /// How it proved itself.
    pub kind: PrincipalKind,
}

impl Principal {
    /// A certificate's principal.
    pub fn certificate(id: CertificateId) -> Self {
        Self {
            kind: PrincipalKind::Certificate { id },
        }
    }

    /// A part of the daemon.
    pub fn service(name: &str) -> Self {
        Self {
            kind: PrincipalKind::Service {
                name: Arc::from(name),
            },
        }
    }

    /// Whether it is a certificate.
    pub fn certificate_id(&self) -> Option<&CertificateId> {
        match &self.kind {
            PrincipalKind::Certificate { id } => Some(id),
            _ => None,
        }
    }

    /// Whether it proved nothing.
    pub fn is_anonymous(&self) -> bool {
        matches!(self.kind, PrincipalKind::Anonymous { .. })
    }

    /// The text of logs, of the store and of SQL's `principal()`: the bare id for a certificate.
    pub fn id(&self) -> Arc<str> {
        match &self.kind {
            PrincipalKind::Certificate { id } => id.0.clone(),
            PrincipalKind::User { name } => Arc::from(format!("user:{name}")),
            PrincipalKind::Custom { authorizer, name } => {
                Arc::from(format!("custom:{authorizer}:{name}"))
            }
            PrincipalKind::Anonymous { listener } => Arc::from(format!("anonymous:{listener}")),
            PrincipalKind::LocalUser { uid, listener } => Arc::from(match listener {
                Some(listener) => format!("uid:{uid}@{listener}"),
                None => format!("uid:{uid}"),
            }),
            PrincipalKind::Service { name } => Arc::from(format!("service:{name}")),
        }
    }
}

impl Principal {
    /// Back from [`Principal::id`].
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(id) = CertificateId::parse(text) {
            return Some(Self::certificate(id));
        }
        let (kind, name) = text.split_once(':')?;
        let kind = match kind {
            "user" => PrincipalKind::User { name: name.into() },
            "custom" => {
                let (authorizer, name) = name.split_once(':')?;
                PrincipalKind::Custom {
                    authorizer: authorizer.into(),
                    name: name.into(),
                }
            }
            "anonymous" => PrincipalKind::Anonymous {
                listener: name.into(),
            },
            "uid" => {
                let (uid, listener) = match name.split_once('@') {
                    Some((uid, listener)) => (uid, Some(listener.into())),
                    None => (name, None),
                };
                PrincipalKind::LocalUser {
                    uid: uid.parse().ok()?,
                    listener,
                }
            }
            "service" => PrincipalKind::Service { name: name.into() },
            _ => return None,
        };
        Some(Self { kind })
    }
}

impl Serialize for Principal {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.id())
    }
}

impl<'de> Deserialize<'de> for Principal {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not a principal"))
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_comes_back_from_its_text() {
        let certificate = CertificateId::from_digest(&[7; 32]);
        for kind in [
            PrincipalKind::Certificate { id: certificate },
            PrincipalKind::User { name: "a:b".into() },
            PrincipalKind::Custom {
                authorizer: "badge".into(),
                name: "abc1".into(),
            },
            PrincipalKind::Anonymous {
                listener: "[::1]:1883".into(),
            },
            PrincipalKind::LocalUser {
                uid: 1000,
                listener: None,
            },
            PrincipalKind::LocalUser {
                uid: 1000,
                listener: Some("/run/a@b.sock".into()),
            },
            PrincipalKind::Service {
                name: "shadow".into(),
            },
        ] {
            let principal = Principal { kind };
            assert_eq!(Principal::parse(&principal.id()), Some(principal));
        }
        assert_eq!(Principal::parse("uid:x"), None);
        assert_eq!(Principal::parse("nobody"), None);
    }
}
