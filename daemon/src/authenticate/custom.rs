//! Custom authorizers: a program or an HTTP service that says who a client is and what it may do.
//!
//! 1. Whatever goes wrong keeps the client out: no answer within the timeout, one that cannot be
//!    read, one policy document that is refused.
//! 2. At most `max_concurrent` questions are under way and at most `max_rate` are asked a second;
//!    whoever comes then waits for at most the timeout, and then hears that the gateway is busy.
//! 3. A good answer is kept for as long as it says and the configuration allows, for clients that
//!    show exactly the same; a bad one is never kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use iotedge_identity::{PasswordError, SecretDigest, TokenSigningKeys};
use iotedge_model::{Principal, PrincipalKind};
use iotedge_policy::PolicyDocument;
use iotedge_ports::{
    Authenticated, Authenticator, BoxFuture, Credentials, Grant, NotAuthenticated,
};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::answer::{self, Answer};
use super::call::Call;
use super::failures::Failures;
use super::http::Target;
use crate::config::{AuthorizerCall, AuthorizerConfig};

/// Answers kept at once, of one authorizer.
const KEPT: usize = 4096;
/// The parameter by which a client says which authorizer it means (AWS IoT's name for it).
const NAME: &str = "x-amz-customauthorizer-name";

/// The parameter with the signature of a client's token (AWS IoT's name for it).
const SIGNATURE: &str = "x-amz-customauthorizer-signature";

/// What connections are granted with policy documents.
pub type MakeGrant = Arc<dyn Fn(Vec<PolicyDocument>) -> Grant + Send + Sync>;

/// All authorizers of the configuration, by name.
pub struct Authorizers(HashMap<Arc<str>, Arc<Hook>>);

impl Authorizers {
    /// Opens what they need; asks nothing yet.
    pub fn new(configs: &[AuthorizerConfig], grant: &MakeGrant) -> Result<Self, String> {
        let mut hooks = HashMap::new();
        for config in configs {
            let hook = Hook::new(config, grant.clone())
                .map_err(|e| format!("authorizer {:?}: {e}", config.name))?;
            hooks.insert(config.name.clone(), Arc::new(hook));
        }
        Ok(Self(hooks))
    }

    /// The authenticator of a listener: the first of these authorizers, or the one that a client
    /// names.
    pub fn of(&self, names: &[Arc<str>]) -> CustomAuthenticator {
        CustomAuthenticator {
            hooks: names
                .iter()
                .filter_map(|name| self.0.get(name).cloned())
                .collect(),
            failures: Failures::default(),
        }
    }
}

/// The authorizers of one listener.
pub struct CustomAuthenticator {
    hooks: Vec<Arc<Hook>>,
    failures: Failures,
}

impl CustomAuthenticator {
    fn hook(&self, credentials: &Credentials) -> Result<&Arc<Hook>, NotAuthenticated> {
        let refused = |why: String| NotAuthenticated::Refused(why);
        let Some(name) = answer::parameter(credentials, NAME) else {
            let none = || refused("the listener has no authorizer".into());
            return self.hooks.first().ok_or_else(none);
        };
        let found = self.hooks.iter().find(|hook| *hook.name == *name);
        found.ok_or_else(|| refused(format!("this listener has no authorizer {name:?}")))
    }

    async fn check(&self, credentials: &Credentials) -> Result<Authenticated, NotAuthenticated> {
        let address = credentials.remote.map(|remote| remote.ip());
        if address.is_some_and(|address| self.failures.has_too_many(address)) {
            let why = "too many wrong credentials from this address";
            return Err(NotAuthenticated::Busy(why.to_owned()));
        }
        let outcome = self.hook(credentials)?.check(credentials).await;
        if let (Err(NotAuthenticated::Refused(_)), Some(address)) = (&outcome, address) {
            self.failures.note(address);
        }
        outcome
    }
}

impl Authenticator for CustomAuthenticator {
    fn authenticate<'a>(
        &'a self,
        credentials: &'a Credentials,
    ) -> BoxFuture<'a, Result<Authenticated, NotAuthenticated>> {
        Box::pin(self.check(credentials))
    }
}

/// A good answer, and until when it holds.
struct Kept {
    answer: Authenticated,
    until: Instant,
}

/// One authorizer.
struct Hook {
    name: Arc<str>,
    call: Call,
    token_key: Option<String>,
    /// Where tokens must be signed.
    signing_keys: Option<TokenSigningKeys>,
    timeout: Duration,
    under_way: Semaphore,
    rate: Rate,
    cache: Duration,
    kept: Mutex<HashMap<[u8; 32], Kept>>,
    digest: SecretDigest,
    grant: MakeGrant,
}

impl Hook {
    fn new(config: &AuthorizerConfig, grant: MakeGrant) -> Result<Self, String> {
        Ok(Self {
            name: config.name.clone(),
            call: match &config.call {
                AuthorizerCall::Command(command) => Call::Program(command.clone()),
                AuthorizerCall::Url { url, ca } => Call::Http(Target::new(url, ca.as_ref())?),
            },
            token_key: config.token_key_name.clone(),
            signing_keys: match config.token_signing_keys.as_slice() {
                [] => None,
                paths => Some(
                    TokenSigningKeys::read(paths)
                        .map_err(|(path, error)| format!("{}: {error}", path.display()))?,
                ),
            },
            timeout: config.timeout,
            under_way: Semaphore::new(config.max_concurrent),
            rate: Rate::new(config.max_rate),
            cache: config.cache,
            kept: Mutex::default(),
            digest: SecretDigest::new().map_err(|e: PasswordError| e.to_string())?,
            grant,
        })
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<[u8; 32], Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn check(&self, credentials: &Credentials) -> Result<Authenticated, NotAuthenticated> {
        let parts = answer::parts(credentials);
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let key = self.digest.of(&parts);
        if let Some(kept) = self.kept().get(&key) {
            if kept.until > Instant::now() {
                return Ok(kept.answer.clone());
            }
        }
        self.check_signature(credentials)?;
        match tokio::time::timeout(self.timeout, self.ask(credentials)).await {
            Ok(Ok(Some(answer))) => Ok(self.keep(key, answer)),
            Ok(Ok(None)) => Err(NotAuthenticated::Refused(format!(
                "authorizer {} says no",
                self.name
            ))),
            Ok(Err(why)) => Err(why),
            Err(_) => Err(NotAuthenticated::Unavailable(format!(
                "authorizer {} gave no answer within {:?}",
                self.name, self.timeout
            ))),
        }
    }

    /// Whoever cannot show a signed token is not worth a question.
    fn check_signature(&self, credentials: &Credentials) -> Result<(), NotAuthenticated> {
        let (Some(keys), Some(token_key)) = (&self.signing_keys, &self.token_key) else {
            return Ok(());
        };
        let name = &self.name;
        let missing = |what: &str| format!("authorizer {name} wants a signed token: {what}");
        let shown = |key| answer::parameter(credentials, key).ok_or(key);
        match (shown(token_key), shown(SIGNATURE)) {
            (Ok(token), Ok(signature)) if keys.verify(&token, &signature) => Ok(()),
            (Ok(_), Ok(_)) => Err(NotAuthenticated::Refused(missing("its signature is wrong"))),
            (Err(key), _) | (_, Err(key)) => Err(NotAuthenticated::Refused(missing(&format!(
                "there is no {key}"
            )))),
        }
    }

    async fn ask(&self, credentials: &Credentials) -> Result<Option<Answer>, NotAuthenticated> {
        let busy = || {
            let name = &self.name;
            NotAuthenticated::Busy(format!("authorizer {name} is asked as often as it may be"))
        };
        let _place = tokio::time::timeout(self.timeout / 2, self.under_way.acquire())
            .await
            .map_err(|_| busy())?
            .map_err(|_| busy())?;
        if !self.rate.take(Instant::now()) {
            return Err(busy());
        }
        let verified = self.signing_keys.is_some();
        let event = answer::event(credentials, self.token_key.as_deref(), verified);
        let answer = match self.call.ask(&event).await {
            Ok(bytes) => answer::read(&bytes),
            Err(why) => Err(why),
        };
        answer.map_err(|why| {
            NotAuthenticated::Unavailable(format!("authorizer {}: {why}", self.name))
        })
    }

    fn keep(&self, key: [u8; 32], answer: Answer) -> Authenticated {
        let grant = (self.grant)(answer.documents);
        let known = Authenticated {
            principal: Arc::new(Principal {
                kind: PrincipalKind::Custom {
                    authorizer: self.name.clone(),
                    name: Arc::from(answer.principal),
                },
            }),
            grant: Some(grant),
            disconnect_after: Some(answer.disconnect_after),
            refresh_after: answer.refresh_after,
        };
        let now = Instant::now();
        let holds = answer.refresh_after.unwrap_or_default().min(self.cache);
        if holds.is_zero() {
            return known;
        }
        let mut kept = self.kept();
        if kept.len() >= KEPT {
            kept.retain(|_, k| k.until > now);
        }
        // Beyond that, others are asked each time.
        if kept.len() < KEPT {
            let answer = known.clone();
            let until = now + holds;
            kept.insert(key, Kept { answer, until });
        }
        known
    }
}

/// So many in a second; as many at once.
struct Rate {
    most: f64,
    left: Mutex<(f64, Instant)>,
}

impl Rate {
    fn new(most: u32) -> Self {
        let most = f64::from(most);
        Self {
            most,
            left: Mutex::new((most, Instant::now())),
        }
    }

    fn take(&self, now: Instant) -> bool {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let since = now.saturating_duration_since(left.1).as_secs_f64();
        *left = ((left.0 + since * self.most).min(self.most), now);
        let may = left.0 >= 1.0;
        if may {
            left.0 -= 1.0;
        }
        may
    }
}

#[cfg(test)]
mod tests;
