//! A connection in memory whose other side is a test. It needs no socket and no clock but the
//! test's own, so that whole histories run on tokio's paused one.
//!
//! Packet ids, window and PINGREQ are a client's; everything else is what the test says.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use iotedge_model::QoS;
use tokio::sync::{mpsc, oneshot};

use super::{
    Accepted, Acknowledged, Connecting, Connection, Connector, Ended, Event, Filter, Incoming,
    Layer, Outcome, Publish,
};

/// Packets under way to the test at most. A link's window is far below.
const CAPACITY: usize = 70_000;

/// What the link sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// PUBLISH with its packet id; 0 of QoS 0.
    Publish(u16, Publish),
    /// SUBSCRIBE.
    Subscribe(Vec<Filter>),
    /// UNSUBSCRIBE.
    Unsubscribe(String),
    /// PUBACK, of QoS 2 PUBREC.
    Ack(u16, QoS),
    /// PINGREQ.
    Ping,
    /// DISCONNECT.
    Disconnect,
}

struct Attempt {
    answer: oneshot::Sender<Outcome>,
    sent: Arc<AtomicU64>,
}

/// The link's side: a [`Connector`] for `Bridge::start_over`.
pub struct ScriptedConnector {
    attempts: mpsc::Sender<Attempt>,
    /// Bytes of topics and payloads that went.
    sent: Arc<AtomicU64>,
}

/// The test's side.
pub struct ScriptedUpstream {
    attempts: mpsc::Receiver<Attempt>,
}

/// A connector and who answers it.
pub fn pair() -> (Arc<ScriptedConnector>, ScriptedUpstream) {
    let (sender, attempts) = mpsc::channel(16);
    let connector = ScriptedConnector {
        attempts: sender,
        sent: Arc::default(),
    };
    (Arc::new(connector), ScriptedUpstream { attempts })
}

impl Connector for ScriptedConnector {
    fn connect<'a>(&'a self, progress: &'a (dyn Fn(Layer) + Send + Sync)) -> Connecting<'a> {
        Box::pin(async move {
            progress(Layer::Connack);
            let gone = || Ended::lost(Layer::Tcp, "the script is over");
            let (answer, answered) = oneshot::channel();
            let sent = self.sent.clone();
            let attempt = Attempt { answer, sent };
            self.attempts.send(attempt).await.map_err(|_| gone())?;
            answered.await.map_err(|_| gone())?
        })
    }

    fn traffic(&self) -> (u64, u64) {
        (self.sent.load(Ordering::Relaxed), 0)
    }
}

/// A try of the link that waits for an answer. Dropped, it is a lost connection.
pub struct Try(Attempt);

impl ScriptedUpstream {
    /// The next try; `None` when the link's task is gone.
    pub async fn next_try(&mut self) -> Option<Try> {
        loop {
            let attempt = self.attempts.recv().await?;
            if !attempt.answer.is_closed() {
                return Some(Try(attempt));
            }
        }
    }

    /// Accepts the next try with the given CONNACK.
    pub async fn accept(&mut self, accepted: Accepted) -> Option<Peer> {
        loop {
            if let Some(peer) = self.next_try().await?.accept(accepted.clone()) {
                return Some(peer);
            }
        }
    }
}

impl Try {
    /// CONNACK; `None` when the link has given the try up.
    pub fn accept(self, accepted: Accepted) -> Option<Peer> {
        let shared = Arc::new(Mutex::new(Wire::default()));
        let (sender, packets) = mpsc::channel(CAPACITY);
        let link = Scripted {
            wire: shared.clone(),
            packets: sender,
            ids: BTreeSet::new(),
            last_id: 0,
            sent: self.0.sent,
        };
        let up: Outcome = Ok((Box::new(link), accepted));
        self.0.answer.send(up).ok()?;
        Some(Peer {
            wire: shared,
            packets,
        })
    }

    /// No connection.
    pub fn refuse(self, ended: Ended) {
        let _ = self.0.answer.send(Err(ended));
    }
}

#[derive(Default)]
struct Wire {
    events: VecDeque<Event>,
    ended: Option<Ended>,
    waker: Option<Waker>,
}

fn lock(wire: &Mutex<Wire>) -> MutexGuard<'_, Wire> {
    wire.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The upstream's end of one connection. Dropped, the connection is lost.
pub struct Peer {
    wire: Arc<Mutex<Wire>>,
    packets: mpsc::Receiver<Packet>,
}

impl Peer {
    /// The next packet; `None` when the link has let go of the connection.
    pub async fn next(&mut self) -> Option<Packet> {
        self.packets.recv().await
    }

    /// A packet that is there already.
    pub fn try_next(&mut self) -> Option<Packet> {
        self.packets.try_recv().ok()
    }

    /// Lets something happen.
    pub fn send(&self, event: Event) {
        let waker = {
            let mut wire = lock(&self.wire);
            if wire.ended.is_some() {
                return;
            }
            wire.events.push_back(event);
            wire.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// PUBACK with a reason code.
    pub fn ack(&self, packet_id: u16, reason: u8) {
        self.send(Event::Acknowledged(Acknowledged {
            packet_id,
            reason,
            said: None,
        }));
    }

    /// PUBLISH.
    pub fn deliver(&self, incoming: Incoming) {
        self.send(Event::Incoming(Box::new(incoming)));
    }

    /// The connection ends, behind all that was sent.
    pub fn end(self, ended: Ended) {
        self.finish(ended);
    }

    fn finish(&self, ended: Ended) {
        let waker = {
            let mut wire = lock(&self.wire);
            wire.ended.get_or_insert(ended);
            wire.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.finish(Ended::lost(Layer::Mqtt, "the connection is cut"));
    }
}

struct Scripted {
    wire: Arc<Mutex<Wire>>,
    packets: mpsc::Sender<Packet>,
    /// Packet ids in use.
    ids: BTreeSet<u16>,
    last_id: u16,
    sent: Arc<AtomicU64>,
}

impl Scripted {
    fn give(&mut self, packet: Packet, told: Event) -> Result<(), Ended> {
        match self.packets.try_send(packet) {
            Ok(()) => {}
            // The other end has let go: poll_event says so, behind what came before.
            Err(mpsc::error::TrySendError::Closed(_)) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                return Err(Ended::lost(Layer::Mqtt, "the script reads nothing"));
            }
        }
        lock(&self.wire).events.push_back(told);
        Ok(())
    }

    fn next_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if self.ids.insert(self.last_id) {
                return self.last_id;
            }
        }
    }

    fn take(&mut self) -> Option<Event> {
        let event = lock(&self.wire).events.pop_front()?;
        if let Event::Acknowledged(ack) = &event {
            self.ids.remove(&ack.packet_id);
        }
        Some(event)
    }
}

impl Connection for Scripted {
    fn publish(&mut self, publish: Publish) -> Result<(), Ended> {
        let id = match publish.qos {
            QoS::AtMostOnce => 0,
            _ => self.next_id(),
        };
        let bytes = publish.topic.len() + publish.payload.len();
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.sent.fetch_add(bytes, Ordering::Relaxed);
        self.give(Packet::Publish(id, publish), Event::Published(id))
    }

    fn subscribe(&mut self, filters: Vec<Filter>) -> Result<(), Ended> {
        self.give(Packet::Subscribe(filters), Event::SubscribeSent)
    }

    fn unsubscribe(&mut self, filter: String) -> Result<(), Ended> {
        self.give(Packet::Unsubscribe(filter), Event::SubscribeSent)
    }

    fn acknowledge(&mut self, packet_id: u16, qos: QoS) -> Result<(), Ended> {
        self.give(Packet::Ack(packet_id, qos), Event::AckSent)
    }

    fn ping(&mut self) {
        // The test sees silence when it does not read.
        let _ = self.give(Packet::Ping, Event::PingSent);
    }

    fn disconnect(&mut self) -> Result<(), Ended> {
        self.give(Packet::Disconnect, Event::Left)
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, Ended>> {
        if let Some(event) = self.take() {
            return Poll::Ready(Ok(event));
        }
        let mut wire = lock(&self.wire);
        if let Some(ended) = &wire.ended {
            return Poll::Ready(Err(ended.clone()));
        }
        wire.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn buffered(&mut self) -> Option<Event> {
        self.take()
    }
}
