//! Clients without a certificate: who they are is asked of an [`Authenticator`] when CONNECT or an
//! HTTP request has come, and again while they stay, where it says so. Whatever goes wrong keeps
//! them out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper::Request;
use iotedge_mqtt::Connect;
use iotedge_ports::{
    Authenticated, Authenticator, ClientHandle, CloseReason, Credentials, Grant, HttpCredentials,
    MqttCredentials, NotAuthenticated,
};
use iotedge_telemetry::event;
use tokio::task::JoinHandle;

use crate::config::Auth;
use crate::connection::Peer;

/// What an authenticator has granted to a connection.
pub(crate) struct GrantSlot {
    grant: ArcSwap<Grant>,
    generation: AtomicU64,
}

impl GrantSlot {
    pub(crate) fn new(grant: Grant) -> Self {
        Self {
            grant: ArcSwap::from_pointee(grant),
            generation: AtomicU64::new(0),
        }
    }

    pub(crate) fn current(&self) -> Grant {
        Grant::clone(&self.grant.load())
    }

    /// Grows with each change.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn put(&self, grant: Grant) {
        self.grant.store(Arc::new(grant));
        self.generation.fetch_add(1, Ordering::AcqRel);
    }
}

/// On what terms a client that showed credentials stays.
pub(crate) struct Stay {
    /// After how long its connection is closed.
    pub(crate) disconnect_after: Option<Duration>,
    refresh: Option<(Duration, Arc<dyn Authenticator>, Credentials)>,
}

/// Asks again while a connection lasts; ends with this.
pub(crate) struct Refresher(JoinHandle<()>);

impl Drop for Refresher {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Stay {
    /// Where the authenticator wants to be asked again: who does it.
    pub(crate) fn refresher(
        self,
        peer: &Peer,
        handle: &Arc<impl ClientHandle + 'static>,
    ) -> Option<Refresher> {
        let (after, authenticator, credentials) = self.refresh?;
        let asking = Asking {
            authenticator,
            credentials,
            peer: peer.clone(),
            handle: handle.clone(),
        };
        Some(Refresher(tokio::spawn(asking.go(after))))
    }
}

struct Asking {
    authenticator: Arc<dyn Authenticator>,
    credentials: Credentials,
    peer: Peer,
    handle: Arc<dyn ClientHandle>,
}

impl Asking {
    async fn go(self, mut after: Duration) {
        loop {
            tokio::time::sleep(after).await;
            let why = match self.authenticator.authenticate(&self.credentials).await {
                Ok(again) if again.principal == self.peer.principal => {
                    if let (Some(slot), Some(grant)) = (&self.peer.grant, again.grant) {
                        slot.put(grant);
                    }
                    match again.refresh_after {
                        Some(next) => after = next,
                        None => return,
                    }
                    continue;
                }
                Ok(other) => format!("it is now {}", other.principal),
                Err(refused) => refused.to_string(),
            };
            tracing::warn!(
                event = event::CONNECT_REFUSED,
                remote = %self.peer.remote,
                principal_id = %self.peer.principal,
                trace_id = %self.peer.trace,
                "asked again, the authorizer does not know the client any more: {why}"
            );
            self.handle.close(CloseReason::NotAuthorized);
            return;
        }
    }
}

/// Finds out who a client is that shows credentials, where its listener asks for them.
pub(crate) async fn client(
    connect: &Connect,
    peer: &mut Peer,
) -> Result<Option<Stay>, NotAuthenticated> {
    let listener = peer.listener.clone();
    let Auth::Credentials(authenticator) = &listener.auth else {
        return Ok(None);
    };
    let credentials = Credentials {
        mqtt: Some(MqttCredentials {
            client_id: connect.client_id.as_str().to_owned(),
            user_name: connect.username.as_ref().map(|u| u.as_str().to_owned()),
            password: connect.password.clone(),
        }),
        http: peer.upgrade.take(),
        ..credentials(peer)
    };
    let known = ask(&**authenticator, &credentials, peer).await?;
    Ok(Some(Stay {
        disconnect_after: known.disconnect_after,
        refresh: known
            .refresh_after
            .map(|after| (after, authenticator.clone(), credentials)),
    }))
}

/// Finds out who sends a request, where its listener asks for credentials. The answer is in the
/// peer of this one request.
pub(crate) async fn request<B>(
    request: &Request<B>,
    peer: &Peer,
) -> Result<Option<Peer>, NotAuthenticated> {
    let Auth::Credentials(authenticator) = &peer.listener.auth else {
        return Ok(None);
    };
    let mut peer = peer.clone();
    let credentials = Credentials {
        http: Some(Arc::new(shown(request))),
        ..credentials(&peer)
    };
    ask(&**authenticator, &credentials, &mut peer).await?;
    Ok(Some(peer))
}

fn credentials(peer: &Peer) -> Credentials {
    Credentials {
        listener: peer.listener.name.clone(),
        remote: peer.remote.address(),
        trace: Some(peer.trace),
        secure: peer.is_secure(),
        server_name: peer.server_name.clone(),
        mqtt: None,
        http: None,
    }
}

async fn ask(
    authenticator: &dyn Authenticator,
    credentials: &Credentials,
    peer: &mut Peer,
) -> Result<Authenticated, NotAuthenticated> {
    let known = authenticator.authenticate(credentials).await?;
    peer.principal = known.principal.clone();
    peer.grant = known
        .grant
        .clone()
        .map(|grant| Arc::new(GrantSlot::new(grant)));
    Ok(known)
}

/// What a request shows. Headers that are no text prove nothing.
pub(crate) fn shown<B>(request: &Request<B>) -> HttpCredentials {
    let headers = request.headers().iter().filter_map(|(name, value)| {
        let value = value.to_str().ok()?;
        Some((name.as_str().to_owned(), value.to_owned()))
    });
    HttpCredentials {
        headers: headers.collect(),
        query: request.uri().query().unwrap_or_default().to_owned(),
    }
}
