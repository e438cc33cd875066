//! A connection to an upstream: [`Session`]'s bytes over a way of [`super::dial`]. What is handed
//! over together leaves together, in as few writes as the way takes.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use iotedge_model::QoS;
use iotedge_ports::Clock;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, Sleep};

use super::counted::Traffic;
use super::dial::{self, Dial, Stream, tls_ended};
use super::found::{self, Found};
use super::session::{Hello, Session};
use super::{
    Accepted, Connecting, Connection, Connector, Ended, Event, Filter, Finishing, Layer, Publish,
};
use crate::endpoint::Endpoint;
use crate::{Config, ConfigError, Version};

/// Acknowledgements of inbound messages that wait for the wire at most.
pub(crate) const MAX_ACKS: usize = 128;
/// The slowest link that is no dead one, in bytes a second.
pub(crate) const SLOWEST: u64 = 2048;
/// Room for a read, in bytes.
const READ: usize = 16 * 1024;
/// How long the other side may take nothing of what is to be written.
const STUCK: Duration = Duration::from_secs(60);
/// How long what was written last may take to leave.
const FAREWELL: Duration = Duration::from_secs(3);

/// Makes connections, each over a way of its own.
pub(crate) struct Client {
    config: Arc<Config>,
    endpoint: Endpoint,
    clock: Arc<dyn Clock>,
    traffic: Arc<Traffic>,
    found: Found,
}

impl Client {
    pub(crate) fn new(config: Arc<Config>, clock: Arc<dyn Clock>) -> Result<Self, ConfigError> {
        Ok(Self {
            endpoint: Endpoint::parse(&config.url)?,
            config,
            clock,
            traffic: Arc::default(),
            found: Found::default(),
        })
    }

    /// Read anew: a changed password serves the next connection.
    fn login(&self) -> Result<Option<(String, String)>, Ended> {
        let Some(username) = &self.config.username else {
            return Ok(None);
        };
        let password = match &self.config.password_file {
            Some(path) => dial::password(path)?,
            None => String::new(),
        };
        Ok(Some((username.clone(), password)))
    }

    fn session(&self, login: Option<(String, String)>) -> Result<Session, Ended> {
        Session::new(Hello {
            version: match self.config.version {
                Version::V3 => iotedge_mqtt::Version::V311,
                Version::V5 => iotedge_mqtt::Version::V5,
            },
            client_id: &self.config.client_id,
            clean: self.config.clean_session,
            keep_alive: self.config.keep_alive,
            max_packet_bytes: self.config.max_packet_bytes,
            login,
        })
    }
}

impl Connector for Client {
    fn connect<'a>(&'a self, progress: &'a (dyn Fn(Layer) + Send + Sync)) -> Connecting<'a> {
        Box::pin(async move {
            self.found.forget();
            let session = self.session(self.login()?)?;
            let dial = Dial {
                config: &self.config,
                endpoint: &self.endpoint,
                clock: &self.clock,
                traffic: &self.traffic,
                found: &self.found,
                progress,
            };
            let wire = dial.dial().await?;
            progress(Layer::Connack);
            let trusted = self.clock.now().trusted;
            let mut link = Box::new(Link::new(wire, session, trusted));
            let accepted = link.connack(self.config.keep_alive).await;
            let tls = self.endpoint.scheme.is_tls();
            let accepted = accepted.map_err(|ended| found::before_connack(ended, tls))?;
            link.keep_alive(accepted.keep_alive);
            Ok((link as Box<dyn Connection>, accepted))
        })
    }

    fn found(&self) -> Vec<(Layer, String)> {
        self.found.all()
    }

    fn traffic(&self) -> (u64, u64) {
        (self.traffic.sent(), self.traffic.received())
    }
}

struct Link {
    wire: Box<dyn Stream>,
    session: Session,
    /// Read and not looked at.
    buffer: BytesMut,
    /// Written bytes may wait in a layer of the way.
    flush: bool,
    /// Since when the other side takes nothing.
    stuck: Option<Instant>,
    /// Between two PINGREQ.
    keep_alive: Option<Duration>,
    ping_at: Option<Instant>,
    alarm: Pin<Box<Sleep>>,
    /// Writing has failed: what came before is still read.
    unwritable: Option<Ended>,
    ended: Option<Ended>,
    /// Nothing more is read: the other side broke the protocol, or said good-bye.
    closed: bool,
    clock_trusted: bool,
}

/// What a step did.
enum Step {
    /// It may go on.
    Done,
    /// It waits.
    Pending,
}

impl Link {
    fn new(wire: Box<dyn Stream>, session: Session, clock_trusted: bool) -> Self {
        Self {
            wire,
            session,
            buffer: BytesMut::new(),
            flush: false,
            stuck: None,
            keep_alive: None,
            ping_at: None,
            alarm: Box::pin(tokio::time::sleep(STUCK)),
            unwritable: None,
            ended: None,
            closed: false,
            clock_trusted,
        }
    }

    /// Pings however much else goes: it is the answers that are waited for.
    fn keep_alive(&mut self, seconds: u16) {
        let every = Duration::from_secs(u64::from(seconds));
        self.keep_alive = (seconds > 0).then_some(every);
        self.ping_at = self.keep_alive.map(|every| Instant::now() + every);
    }

    /// The way has ended.
    fn broken(&self, error: &io::Error) -> Ended {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Ended::lost(Layer::Mqtt, "the other side closed the connection");
        }
        tls_ended(error, self.clock_trusted)
            .unwrap_or_else(|| Ended::lost(Layer::Tcp, error.to_string()))
    }

    async fn connack(&mut self, keep_alive: u16) -> Result<Accepted, Ended> {
        poll_fn(|cx| {
            loop {
                self.write(cx);
                let accepted = self.session.connack(&mut self.buffer, keep_alive)?;
                if let Some(accepted) = accepted {
                    return Poll::Ready(Ok(accepted));
                }
                if let Some(mut ended) = self.ended.take() {
                    if ended.layer == Layer::Mqtt {
                        ended.layer = Layer::Connack;
                    }
                    return Poll::Ready(Err(ended));
                }
                if matches!(self.read(cx), Step::Pending) {
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    /// Writes what there is, as far as the way takes it.
    fn write(&mut self, cx: &mut Context<'_>) {
        if self.unwritable.is_some() {
            return;
        }
        match self.try_write(cx) {
            Poll::Ready(Ok(())) => self.stuck = None,
            Poll::Ready(Err(error)) => {
                self.unwritable = Some(self.broken(&error));
                self.session.out.clear();
            }
            Poll::Pending => {
                self.stuck.get_or_insert_with(Instant::now);
            }
        }
    }

    fn try_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.session.out.is_empty() {
            let wire = Pin::new(&mut self.wire);
            match wire.poll_write(cx, &self.session.out) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => {
                    self.stuck = None;
                    self.flush = true;
                    self.session.out.advance(written);
                    self.session.left(written);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        if self.flush {
            match Pin::new(&mut self.wire).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.flush = false,
                other => return other,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once.
    fn read(&mut self, cx: &mut Context<'_>) -> Step {
        self.buffer.reserve(READ);
        let polled = pin!(self.wire.read_buf(&mut self.buffer)).poll(cx);
        let ended = match polled {
            Poll::Ready(Ok(0)) => Ended::lost(Layer::Mqtt, "the other side closed the connection"),
            Poll::Ready(Ok(_)) => return Step::Done,
            Poll::Ready(Err(error)) => self.broken(&error),
            Poll::Pending => match &self.unwritable {
                Some(ended) => ended.clone(),
                None => return Step::Pending,
            },
        };
        // What broke the way first is the reason, unless the other side gives one.
        let first = self.unwritable.take();
        self.ended = Some(match (&ended.code, first) {
            (None, Some(first)) => first,
            _ => ended,
        });
        Step::Done
    }

    /// Looks whether a ping is due, or the way is stuck; wakes the task when it will be.
    fn look(&mut self, cx: &mut Context<'_>) -> Step {
        loop {
            let late = self.stuck.map(|since| since + STUCK);
            let Some(next) = [late, self.ping_at].into_iter().flatten().min() else {
                return Step::Pending;
            };
            if self.alarm.deadline() != next {
                self.alarm.as_mut().reset(next);
            }
            if self.alarm.as_mut().poll(cx).is_pending() {
                return Step::Pending;
            }
            if late.is_some_and(|late| late <= next) {
                let text = "writing takes too long: the other side takes nothing";
                self.ended = Some(Ended::lost(Layer::Mqtt, text));
                return Step::Done;
            }
            self.ping_at = self.keep_alive.map(|every| Instant::now() + every);
            self.session.ping();
            if !self.session.out.is_empty() && self.stuck.is_none() {
                return Step::Done;
            }
        }
    }
}

impl Connection for Link {
    fn publish(&mut self, publish: Publish) -> Result<(), Ended> {
        self.session.publish(&publish)
    }

    fn subscribe(&mut self, filters: Vec<Filter>) -> Result<(), Ended> {
        self.session.subscribe(&filters)
    }

    fn unsubscribe(&mut self, filter: String) -> Result<(), Ended> {
        self.session.unsubscribe(&filter)
    }

    fn acknowledge(&mut self, packet_id: u16, qos: QoS) -> Result<(), Ended> {
        self.session.acknowledge(packet_id, qos)
    }

    fn ping(&mut self) {
        self.session.ping();
    }

    fn disconnect(&mut self) -> Result<(), Ended> {
        self.session.disconnect()
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, Ended>> {
        loop {
            self.write(cx);
            if let Some(event) = self.buffered() {
                return Poll::Ready(Ok(event));
            }
            if let Some(ended) = &self.ended {
                return Poll::Ready(Err(ended.clone()));
            }
            if let (Step::Pending, Step::Pending) = (self.read(cx), self.look(cx)) {
                return Poll::Pending;
            }
        }
    }

    fn buffered(&mut self) -> Option<Event> {
        if let Some(event) = self.session.told() {
            return Some(event);
        }
        if self.closed {
            return None;
        }
        match self.session.read(&mut self.buffer) {
            Ok(event) => event,
            Err(ended) => {
                self.ended = Some(ended);
                self.closed = true;
                None
            }
        }
    }

    fn finish(self: Box<Self>) -> Finishing {
        Box::pin(async move {
            let mut link = self;
            let leaving = async {
                poll_fn(|cx| link.try_write(cx)).await?;
                link.wire.shutdown().await
            };
            // What fails now has nobody to tell.
            let _ = tokio::time::timeout(FAREWELL, leaving).await;
        })
    }
}

#[cfg(test)]
mod tests;
