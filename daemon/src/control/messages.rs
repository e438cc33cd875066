//! Publish and subscribe: a small client over the socket.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use iotedge_model::{
    ClientId, Message, MessageId, Principal, QoS, SharedFilter, Source, TraceId, UnixMillis,
    reserved,
};
use iotedge_ports::{
    AckSink, BrokerPort as _, ClientHandle, CloseReason, ConnectRefused, ConnectRequest, Connected,
    ConnectionId, Delivery, Detached, DisconnectReason, DrainLimit, EndKind,
    Failure as StoreFailure, Outgoing, Publication, PublishOutcome, Refusal, SubscribeOptions,
    SubscribeResult, Subscription, Wake,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;

use super::Answer;
use crate::config::Profile;
use crate::ctl::protocol::{self, Base64, Failure, Reply};
use crate::house::Rooms;

/// How long a publish of QoS 1 or 2 waits for its commit.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(30);
/// Deliveries taken at once.
const DRAIN: DrainLimit = DrainLimit {
    messages: 64,
    bytes: 1 << 20,
};

/// Hears what a client hears.
#[derive(Default)]
struct Ears {
    notify: Notify,
    heard: Mutex<Heard>,
}

#[derive(Default)]
struct Heard {
    acked: Option<Result<(), StoreFailure>>,
    closed: bool,
}

impl Ears {
    fn change(&self, change: impl FnOnce(&mut Heard)) {
        change(&mut self.heard.lock().unwrap_or_else(PoisonError::into_inner));
        self.notify.notify_one();
    }

    fn look<T>(&self, look: impl FnOnce(&Heard) -> T) -> T {
        look(&self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn committed(&self) -> bool {
        loop {
            if let Some(outcome) = self.look(|heard| heard.acked) {
                return outcome.is_ok();
            }
            self.notify.notified().await;
        }
    }
}

impl Wake for Ears {
    fn wake(&self) {
        self.notify.notify_one();
    }
}

impl ClientHandle for Ears {
    fn close(&self, _reason: CloseReason) {
        self.change(|heard| heard.closed = true);
    }

    fn into_wake(self: Arc<Self>) -> Arc<dyn Wake> {
        self
    }
}

impl AckSink for Ears {
    fn acked(&self, _token: u64, outcome: Result<(), StoreFailure>) {
        self.change(|heard| heard.acked = Some(outcome));
    }
}

pub(super) async fn publish(
    rooms: &Rooms,
    principal: &Arc<Principal>,
    publish: protocol::Publish,
) -> Answer {
    let topic = publish.topic.as_str();
    let aws = rooms.config.broker.profile == Profile::AwsIot;
    let own = publish.topic.is_reserved() && (aws || reserved::is_own(topic));
    if own && (publish.retain || !reserved::client_may_publish(topic)) {
        let message = format!("{} is a reserved topic", publish.topic);
        return Err(Failure::new("refused", message));
    }
    let message = Message {
        id: MessageId(0),
        trace: TraceId(0),
        hops: 0,
        principal: principal.clone(),
        client_id: Arc::from(""),
        source_ip: None,
        source: Source::Service {
            name: Arc::from("control"),
        },
        topic: publish.topic,
        payload: Bytes::from(publish.payload.0),
        qos: publish.qos,
        retain: publish.retain,
        accepted_at: UnixMillis(0),
        trusted: false,
        expiry: None,
        properties: None,
    };
    let ears = Arc::new(Ears::default());
    let ack = (message.qos > QoS::AtMostOnce).then(|| (ears.clone() as Arc<dyn AckSink>, 0));
    let mut batch = [Publication::new(message, ack)];
    rooms.broker.publish(&mut batch);
    let [publication] = batch;
    match publication.outcome {
        PublishOutcome::Done { .. } => Ok(Reply::done()),
        PublishOutcome::Pending => {
            match tokio::time::timeout(COMMIT_TIMEOUT, ears.committed()).await {
                Ok(true) => Ok(Reply::done()),
                _ => Err(Failure::new("failed", "the message could not be kept")),
            }
        }
        PublishOutcome::Refused(Refusal::QuotaExceeded | Refusal::TooLarge) => Err(Failure::new(
            "refused",
            "a queue that it is bound for is full",
        )),
        PublishOutcome::Refused(Refusal::StoreUnavailable) => {
            Err(Failure::new("refused", "the store takes nothing"))
        }
        PublishOutcome::Refused(Refusal::Stopping | Refusal::Detached) => {
            Err(Failure::new("refused", "the daemon stops"))
        }
    }
}

/// Ends the client however the conversation ends.
struct Attached<'a> {
    rooms: &'a Rooms,
    connection: ConnectionId,
}

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        self.rooms.broker.detach(Detached {
            connection: self.connection,
            end: EndKind::ClientInitiated,
            session_expiry: None,
            reason: DisconnectReason::ClientInitiated,
        });
    }
}

pub(super) async fn subscribe(
    rooms: &Rooms,
    principal: &Arc<Principal>,
    subscribe: protocol::Subscribe,
    reader: BufReader<OwnedReadHalf>,
    mut writer: OwnedWriteHalf,
) {
    let outcome = stream(rooms, principal, subscribe, reader, &mut writer).await;
    if let Err(failure) = outcome {
        // The client may be gone; then nobody wants to know.
        let _ = writer.write_all(&Reply::Error(failure).to_line()).await;
    }
}

/// A session that ends with its connection.
fn connect(
    rooms: &Rooms,
    principal: &Arc<Principal>,
    ears: &Arc<Ears>,
) -> Result<Connected, Failure> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let client_id = ClientId::new(&format!("iotedgectl-{}-{n}", std::process::id()))
        .map_err(|e| Failure::new("failed", e.to_string()))?;
    let request = ConnectRequest {
        client_id,
        clean: true,
        session_expiry: 0,
        principal: principal.clone(),
        will: None,
        protocol_level: 4,
        keep_alive: 0,
        receive_maximum: std::num::NonZeroU16::MAX,
        remote: None,
        listener: Arc::from("control"),
        handle: ears.clone(),
        silent: true,
        // It promises nothing.
        ack: (ears.clone(), 0),
    };
    rooms.broker.connect(request).map_err(|refused| {
        let why = match refused {
            ConnectRefused::TooMany => "there are as many clients or sessions as may be",
            ConnectRefused::Stopping => "the daemon stops",
            ConnectRefused::NotYours | ConnectRefused::TooSoon => "its client id is in use",
        };
        Failure::new("refused", format!("no session: {why}"))
    })
}

fn line(delivery: &Delivery) -> Vec<u8> {
    let message = &delivery.message;
    Reply::Message(protocol::Message {
        topic: message.topic.to_string(),
        payload: Base64(message.payload.to_vec()),
        qos: delivery.qos,
        retain: delivery.retain,
    })
    .to_line()
}

async fn stream(
    rooms: &Rooms,
    principal: &Arc<Principal>,
    subscribe: protocol::Subscribe,
    mut reader: BufReader<OwnedReadHalf>,
    writer: &mut OwnedWriteHalf,
) -> Result<(), Failure> {
    let ears = Arc::new(Ears::default());
    let connected = connect(rooms, principal, &ears)?;
    let attached = Attached {
        rooms,
        connection: connected.connection,
    };
    let text: Arc<str> = Arc::from(subscribe.filter.as_str());
    let filter = SharedFilter::new(&text).map_err(|e| Failure::new("invalid", e.to_string()))?;
    let options = SubscribeOptions::v311(subscribe.qos);
    let subscriptions = [Subscription {
        filter,
        text,
        options,
    }];
    let ack = (ears.clone() as Arc<dyn AckSink>, 0);
    // The session ends with the connection: there is nothing to wait for.
    let (results, _) = rooms
        .broker
        .subscribe(attached.connection, &subscriptions, ack);
    if !matches!(results.first(), Some(SubscribeResult::Granted(_))) {
        return Err(Failure::new("refused", "the filter is over a limit"));
    }
    if writer.write_all(&Reply::done().to_line()).await.is_err() {
        return Ok(());
    }
    rooms
        .broker
        .send_retained(attached.connection, &subscriptions);
    let mut drained: Vec<Outgoing> = Vec::new();
    let mut ignored = [0_u8; 64];
    loop {
        connected.mailbox.drain(DRAIN, &mut drained);
        let idle = drained.is_empty();
        for outgoing in drained.drain(..) {
            let Outgoing::Publish(outgoing) = outgoing else {
                continue;
            };
            if writer.write_all(&line(&outgoing.delivery)).await.is_err() {
                return Ok(());
            }
            if let Some(id) = outgoing.packet_id {
                // One of these is what the delivery waits for.
                connected.mailbox.puback(&[id]);
                connected.mailbox.pubrec(id);
                connected.mailbox.pubcomp(id);
            }
        }
        if ears.look(|heard| heard.closed) {
            return Err(Failure::new("failed", "the daemon closed the subscription"));
        }
        if !idle {
            continue;
        }
        tokio::select! {
            () = ears.notify.notified() => {}
            read = reader.read(&mut ignored) => {
                if matches!(read, Ok(0) | Err(_)) {
                    return Ok(());
                }
            }
        }
    }
}
