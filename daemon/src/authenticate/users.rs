//! Users of the configuration: name and password, checked with argon2 off the async workers.
//!
//! 1. At most [`HASHES`] passwords are hashed at once; at most [`WAITING`] wait for that, for at most
//!    [`PATIENCE`]. Whoever comes then is told that the gateway is busy.
//! 2. Who has proved a password is known again without hashing, until the user changes.
//! 3. A name that nobody has costs as much time as a wrong password.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use iotedge_identity::{PasswordError, PasswordHash, SecretDigest};
use iotedge_model::{Principal, PrincipalKind};
use iotedge_ports::{
    Authenticated, Authenticator, BoxFuture, Credentials, HttpCredentials, NotAuthenticated,
};
use tokio::sync::Semaphore;

use super::failures::Failures;
use crate::config::{PasswordSource, UserConfig};

/// Passwords hashed at once: each takes 19 MiB with the default parameters.
const HASHES: usize = 2;
/// Clients that may wait for it.
const WAITING: usize = 64;
/// How long they may wait.
const PATIENCE: Duration = Duration::from_secs(5);

/// A user.
#[derive(Debug, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: Arc<str>,
    /// The password's hash.
    pub hash: PasswordHash,
}

/// The users of the configuration, with the hashes of files and programs.
///
/// # Errors
/// Everything that is wrong with them.
pub async fn read(configs: &[UserConfig]) -> Result<Vec<User>, Vec<String>> {
    let mut users = Vec::with_capacity(configs.len());
    let mut problems = Vec::new();
    for config in configs {
        match hash(&config.password).await {
            Ok(hash) => users.push(User {
                name: config.name.clone(),
                hash,
            }),
            Err(reason) => {
                let place = config.place.as_ref().map(|p| format!("{p}: "));
                let place = place.unwrap_or_default();
                problems.push(format!("{place}user {:?}: {reason}", config.name));
            }
        }
    }
    match problems.is_empty() {
        true => Ok(users),
        false => Err(problems),
    }
}

/// How long a program may take to say a hash.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);

async fn hash(source: &PasswordSource) -> Result<PasswordHash, String> {
    let text = match source {
        PasswordSource::Hash(hash) => return Ok(hash.clone()),
        PasswordSource::File(path) => tokio::task::spawn_blocking({
            let path = path.clone();
            move || std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))
        })
        .await
        .map_err(|e| e.to_string())??,
        PasswordSource::Command(command) => {
            let saying = super::call::run(command, b"");
            let said = tokio::time::timeout(COMMAND_TIMEOUT, saying)
                .await
                .map_err(|_| format!("{command:?} took longer than {COMMAND_TIMEOUT:?}"))??;
            String::from_utf8(said).map_err(|_| format!("{command:?} said no text"))?
        }
    };
    PasswordHash::parse(&text).map_err(|e| format!("its password {e}"))
}

/// Who has proved a password, and with which user's hash.
struct Proof {
    user: Arc<User>,
    digest: [u8; 32],
}

/// All users.
pub struct Users {
    table: ArcSwap<HashMap<Arc<str>, Arc<User>>>,
    /// One for each user at most.
    proofs: Mutex<HashMap<Arc<str>, Proof>>,
    digest: SecretDigest,
    /// What a password of nobody is checked with, once one has come.
    nobody: Arc<OnceLock<PasswordHash>>,
    hashing: Arc<Semaphore>,
    waiting: Semaphore,
    failures: Failures,
}

impl Users {
    /// None yet.
    pub fn new() -> Result<Self, PasswordError> {
        Ok(Self {
            table: ArcSwap::default(),
            proofs: Mutex::default(),
            digest: SecretDigest::new()?,
            nobody: Arc::default(),
            hashing: Arc::new(Semaphore::new(HASHES)),
            waiting: Semaphore::new(WAITING),
            failures: Failures::default(),
        })
    }

    /// These from now on. Says whose password is another or who is gone.
    pub fn set(&self, users: Vec<User>) -> Vec<Arc<str>> {
        let old = self.table.load_full();
        let table: HashMap<_, _> = users
            .into_iter()
            .map(|user| match old.get(&user.name) {
                Some(same) if **same == user => (user.name, same.clone()),
                _ => (user.name.clone(), Arc::new(user)),
            })
            .collect();
        let changed = old
            .values()
            .filter(|user| {
                let now = table.get(&user.name);
                now.is_none_or(|now| !Arc::ptr_eq(now, user))
            })
            .map(|user| user.name.clone())
            .collect();
        self.table.store(Arc::new(table));
        let mut proofs = self.proofs.lock().unwrap_or_else(PoisonError::into_inner);
        for name in &changed {
            proofs.remove(name);
        }
        changed
    }

    async fn check(&self, credentials: &Credentials) -> Result<Authenticated, NotAuthenticated> {
        let refused = |why: &str| NotAuthenticated::Refused(why.to_owned());
        let (name, password) =
            shown(credentials).ok_or_else(|| refused("no user name with a password"))?;
        let address = credentials.remote.map(|remote| remote.ip());
        if address.is_some_and(|address| self.failures.has_too_many(address)) {
            let why = "too many wrong passwords from this address";
            return Err(NotAuthenticated::Busy(why.to_owned()));
        }
        let user = self.table.load().get(name.as_str()).cloned();
        let digest = self.digest.of(&[name.as_bytes(), &password]);
        if let Some(user) = &user {
            if self.has_proved(user, digest) {
                return Ok(known(user));
            }
        }
        let hash = user.as_ref().map(|user| user.hash.clone());
        let right = self.verifies(hash, password).await?;
        match user {
            Some(user) if right => {
                let mut proofs = self.proofs.lock().unwrap_or_else(PoisonError::into_inner);
                let answer = known(&user);
                proofs.insert(user.name.clone(), Proof { user, digest });
                Ok(answer)
            }
            _ => {
                if let Some(address) = address {
                    self.failures.note(address);
                }
                // The name may be a password typed into the wrong field.
                Err(refused("the user name or the password is wrong"))
            }
        }
    }

    fn has_proved(&self, user: &Arc<User>, digest: [u8; 32]) -> bool {
        let proofs = self.proofs.lock().unwrap_or_else(PoisonError::into_inner);
        // The digest's key is this process's own: how long a comparison takes says nothing.
        proofs
            .get(&user.name)
            .is_some_and(|proof| Arc::ptr_eq(&proof.user, user) && proof.digest == digest)
    }

    /// Hashes, when it is this one's turn.
    async fn verifies(
        &self,
        hash: Option<PasswordHash>,
        password: Vec<u8>,
    ) -> Result<bool, NotAuthenticated> {
        let busy = || NotAuthenticated::Busy("too many passwords are being checked".into());
        let _place = self.waiting.try_acquire().map_err(|_| busy())?;
        let turn = tokio::time::timeout(PATIENCE, self.hashing.clone().acquire_owned());
        let turn = turn.await.map_err(|_| busy())?.map_err(|_| busy())?;
        let nobody = self.nobody.clone();
        let work = tokio::task::spawn_blocking(move || {
            let right = match &hash {
                Some(hash) => hash.verifies(&password),
                None => {
                    match nobody.get() {
                        Some(nobody) => drop(nobody.verifies(&password)),
                        // Takes as long.
                        None => drop(PasswordHash::of(b"").map(|hash| nobody.set(hash))),
                    }
                    false
                }
            };
            drop(turn);
            right
        });
        work.await
            .map_err(|e| NotAuthenticated::Unavailable(format!("the password's check failed: {e}")))
    }
}

fn known(user: &User) -> Authenticated {
    Authenticated {
        principal: Arc::new(Principal {
            kind: PrincipalKind::User {
                name: user.name.clone(),
            },
        }),
        grant: None,
        disconnect_after: None,
        refresh_after: None,
    }
}

/// CONNECT's user name and password, or those of HTTP's Basic scheme (RFC 7617).
fn shown(credentials: &Credentials) -> Option<(String, Vec<u8>)> {
    let mqtt = credentials.mqtt.as_ref().and_then(|mqtt| {
        let name = mqtt.user_name.clone()?;
        Some((name, mqtt.password.as_ref()?.to_vec()))
    });
    mqtt.or_else(|| basic(credentials.http.as_deref()?))
}

fn basic(http: &HttpCredentials) -> Option<(String, Vec<u8>)> {
    let (scheme, value) = http.header("authorization")?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = STANDARD.decode(value.trim()).ok()?;
    let colon = decoded.iter().position(|b| *b == b':')?;
    let (name, password) = decoded.split_at_checked(colon)?;
    let name = String::from_utf8(name.to_vec()).ok()?;
    Some((name, password.get(1..)?.to_vec()))
}

impl Authenticator for Users {
    fn authenticate<'a>(
        &'a self,
        credentials: &'a Credentials,
    ) -> BoxFuture<'a, Result<Authenticated, NotAuthenticated>> {
        Box::pin(self.check(credentials))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test that panics has failed
    use iotedge_ports::MqttCredentials;

    use super::*;

    fn users() -> Users {
        let users = Users::new().unwrap();
        users.set(vec![user("meter", "right")]);
        users
    }

    fn user(name: &str, password: &str) -> User {
        User {
            name: name.into(),
            hash: PasswordHash::of(password.as_bytes()).unwrap(),
        }
    }

    fn mqtt(name: &str, password: &str) -> Credentials {
        Credentials {
            remote: Some("192.0.2.1:5000".parse().unwrap()),
            mqtt: Some(MqttCredentials {
                client_id: "c".into(),
                user_name: Some(name.into()),
                password: Some(password.to_owned().into()),
            }),
            ..Credentials::default()
        }
    }

    #[tokio::test]
    async fn the_right_password_is_known_and_others_are_not() {
        let users = users();
        let known = users.authenticate(&mqtt("meter", "right")).await.unwrap();
        assert_eq!(&*known.principal.id(), "user:meter");
        for (name, password) in [
            ("meter", "wrong"),
            ("other", "right"),
            ("", ""),
            ("meter", ""),
        ] {
            let refused = users.authenticate(&mqtt(name, password)).await;
            assert!(
                matches!(refused, Err(NotAuthenticated::Refused(_))),
                "{name}"
            );
        }
        let nothing = users.authenticate(&Credentials::default()).await;
        assert!(matches!(nothing, Err(NotAuthenticated::Refused(_))));
    }

    #[tokio::test]
    async fn http_comes_with_basic() {
        let users = users();
        let http = |value: &str| Credentials {
            http: Some(Arc::new(HttpCredentials {
                headers: vec![("authorization".into(), value.into())],
                query: String::new(),
            })),
            ..Credentials::default()
        };
        let right = format!("Basic {}", STANDARD.encode("meter:right"));
        assert!(users.authenticate(&http(&right)).await.is_ok());
        for wrong in ["Basic", "Bearer x", "Basic !", "Basic bWV0ZXI="] {
            assert!(users.authenticate(&http(wrong)).await.is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_proof_ends_with_its_password() {
        let users = users();
        users.authenticate(&mqtt("meter", "right")).await.unwrap();
        let table = users.table.load_full();
        let old = table.get("meter").unwrap();
        let digest = users.digest.of(&[b"meter", b"right"]);
        assert!(users.has_proved(old, digest));
        let same = User {
            name: old.name.clone(),
            hash: old.hash.clone(),
        };
        assert_eq!(users.set(vec![same]), Vec::<Arc<str>>::new());
        assert!(users.has_proved(old, digest));
        assert_eq!(users.set(vec![user("meter", "new")]), [Arc::from("meter")]);
        assert!(users.authenticate(&mqtt("meter", "right")).await.is_err());
        assert!(users.authenticate(&mqtt("meter", "new")).await.is_ok());
        assert_eq!(users.set(Vec::new()), [Arc::from("meter")]);
        assert!(users.authenticate(&mqtt("meter", "new")).await.is_err());
    }

    #[tokio::test]
    async fn who_is_wrong_too_often_is_not_hashed_for() {
        let users = users();
        let address = "192.0.2.1".parse().unwrap();
        for _ in 0..10 {
            users.failures.note(address);
        }
        let answer = users.authenticate(&mqtt("meter", "right")).await;
        assert!(
            matches!(answer, Err(NotAuthenticated::Busy(_))),
            "{answer:?}"
        );
    }
}
