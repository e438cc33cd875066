//! Just-in-time registration: devices whose certificates nobody has registered yet (2016 guide,
//! "Using Automatic/Just-in-Time Registration for Device Certificates").

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread;

use bytes::Bytes;
use iotedge_identity::{Identity, Introduced, principal_of};
use iotedge_model::{Message, QoS, Topic};
use iotedge_ports::{BrokerPort, Clock, Publication};
use iotedge_telemetry::event;
use serde_json::json;

/// Devices that wait for their registration; one more is told to come again, like all of them.
const WAITING: usize = 64;

/// The certificates of one handshake, the client's own first. DER.
type Chain = Vec<Vec<u8>>;

/// Registers certificates that show themselves, one after the other and off the handshake's way: each
/// waits for the disk.
pub struct Registrar {
    identity: Arc<Identity>,
    waiting: SyncSender<Chain>,
}

impl Registrar {
    /// Starts its thread, which ends with it.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        identity: Arc<Identity>,
        broker: Arc<dyn BrokerPort>,
        clock: Arc<dyn Clock>,
        account_id: Arc<str>,
    ) -> Result<Self, String> {
        let (waiting, chains) = mpsc::sync_channel(WAITING);
        let office = Office {
            identity: identity.clone(),
            broker,
            clock,
            account_id,
        };
        thread::Builder::new()
            .name("registration".into())
            .spawn(move || office.run(&chains))
            .map_err(|e| format!("the thread for registrations: {e}"))?;
        Ok(Self { identity, waiting })
    }

    /// A handshake is done and the client has proven that it has its key.
    pub fn shown(&self, chain: &[&[u8]]) {
        let Some(der) = chain.first() else {
            return;
        };
        let id = principal_of(der);
        if !self.identity.snapshot().wants_introduction(&id) {
            return;
        }
        let chain = chain.iter().map(|der| der.to_vec()).collect();
        match self.waiting.try_send(chain) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => tracing::warn!(
                event = event::CERTIFICATE,
                principal_id = id.as_str(),
                "not registered now: {WAITING} others wait for it; its device will come again"
            ),
        }
    }
}

struct Office {
    identity: Arc<Identity>,
    broker: Arc<dyn BrokerPort>,
    clock: Arc<dyn Clock>,
    account_id: Arc<str>,
}

impl Office {
    fn run(&self, chains: &Receiver<Chain>) {
        while let Ok(chain) = chains.recv() {
            let chain: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
            match self.identity.introduce(&chain) {
                Ok(Some(introduced)) => self.announce(&introduced),
                Ok(None) => {}
                Err(error) => tracing::warn!(
                    event = event::CERTIFICATE,
                    principal_id = chain.first().map(|der| principal_of(der).to_string()),
                    "it could not be registered: {error}"
                ),
            }
        }
    }

    fn announce(&self, introduced: &Introduced) {
        let Introduced {
            certificate, ca, ..
        } = introduced;
        tracing::info!(
            event = event::CERTIFICATE,
            principal_id = certificate.as_str(),
            ca = ca.as_str(),
            new = introduced.new,
            "the certificate waits for its activation: iotedgectl cert activate {certificate}"
        );
        let Ok(topic) = Topic::new(&format!("$aws/events/certificates/registered/{ca}")) else {
            return;
        };
        let payload = event_payload(introduced, self.clock.now().wall.0, &self.account_id);
        let message = Message::internal(
            "registration",
            topic,
            Bytes::from(payload),
            // So that it waits for durable sessions and routes too.
            QoS::AtLeastOnce,
        );
        self.broker.publish(&mut [Publication::new(message, None)]);
    }
}

/// As the guide has it: the one time is a number, the other a text.
fn event_payload(introduced: &Introduced, now: u64, account_id: &str) -> String {
    json!({
        "certificateId": introduced.certificate.as_str(),
        "caCertificateId": introduced.ca.as_str(),
        "timestamp": now,
        "certificateStatus": "PENDING_ACTIVATION",
        "awsAccountId": account_id,
        "certificateRegistrationTimestamp": introduced.registered_at.0.to_string(),
    })
    .to_string()
}
