//! A connection from CONNACK to its end.

use std::future::poll_fn;
use std::time::Duration;

use tokio::time::Instant;

use super::{End, Task};
use crate::liveness::Verdict;
use crate::uplink::{Connection, Ended, Event, SLOWEST};

/// How long acknowledgements under way may take when the link is to end.
const GRACE: Duration = Duration::from_secs(1);
/// How long after that DISCONNECT may take.
const FAREWELL: Duration = Duration::from_secs(2);
/// When a stalled mailbox or a refusing broker is asked again.
const AGAIN: Duration = Duration::from_millis(200);

async fn next(connection: &mut dyn Connection) -> Result<Event, Ended> {
    poll_fn(|cx| connection.poll_event(cx)).await
}

impl Task {
    pub(super) async fn connected(&mut self, connection: &mut dyn Connection) -> End {
        if let Err(end) = self.subscribe(connection) {
            return end;
        }
        loop {
            if self.is_closed_by_now() || self.budget_left() == 0 {
                self.leave(connection).await;
                return End::Desired;
            }
            match self.pump(connection) {
                Ok(()) => {}
                Err(End::Desired) => {
                    self.leave(connection).await;
                    return End::Desired;
                }
                Err(end) => return end,
            }
            let event = match self.next_event(connection).await {
                Ok(event) => event,
                Err(End::Desired) => {
                    self.leave(connection).await;
                    return End::Desired;
                }
                Err(end) => {
                    self.last_words(connection);
                    return end;
                }
            };
            let mut next = Some(event);
            while let Some(event) = next {
                if let Err(end) = self.on_event(event) {
                    self.last_words(connection);
                    return end;
                }
                next = connection.buffered();
            }
            self.received.packet(self.shared.connector.traffic().1);
            self.pass_on_acknowledgements();
        }
    }

    /// Waits for the other side.
    async fn next_event(&mut self, connection: &mut dyn Connection) -> Result<Event, End> {
        let begun = Instant::now();
        let mut desired = self.desired.clone();
        let notify = self.notify.clone();
        loop {
            // Pings make an event each keep-alive: silence for much longer is a hang.
            let patience = self.patience();
            let timer = self.timer().unwrap_or(patience).min(patience);
            let mut until = self.next_deadline(begun).min(Instant::now() + timer);
            if let Some(next) = self.liveness.next(self.waits_since(), self.slack()) {
                until = until.min(next);
            }
            if self.gate.is_some() {
                until = until.min(self.next_look);
            }
            tokio::select! {
                event = next(connection) => {
                    return event.map_err(|ended| self.failed(ended));
                }
                () = notify.notified() => self.pump(connection)?,
                () = tokio::time::sleep_until(until) => {
                    if self.is_closed_by_now() {
                        return Err(End::Desired);
                    }
                    self.watch(connection)?;
                    self.overdue(begun)?;
                    self.pump(connection)?;
                    self.resubscribe(connection)?;
                }
                _ = desired.changed() => return Err(End::Desired),
            }
        }
    }

    /// Since when the oldest packet waits for its acknowledgement.
    fn waits_since(&self) -> Option<Instant> {
        let waiting = [self.window.waits_since(), self.subscribing];
        waiting.into_iter().flatten().min()
    }

    /// What is under way on a slow link needs this long by itself.
    fn slack(&self) -> Duration {
        let bytes = u64::try_from(self.window.bytes()).unwrap_or(u64::MAX);
        Duration::from_secs(bytes / SLOWEST)
    }

    /// Looks whether the other side still answers.
    fn watch(&mut self, connection: &mut dyn Connection) -> Result<(), End> {
        self.look_at_bytes();
        let (waiting, slack) = (self.waits_since(), self.slack());
        match self.liveness.check(Instant::now(), waiting, slack) {
            Verdict::Fine => Ok(()),
            Verdict::Ping => {
                connection.ping();
                Ok(())
            }
            Verdict::Degraded(silence) => {
                let reason = format!("no answer for {} s", silence.as_secs());
                self.shared.link().degraded(&reason, self.now());
                self.log();
                Ok(())
            }
            Verdict::Lost(silence) => Err(End::Silent(format!(
                "the other side is silent: no answer for {} s",
                silence.as_secs()
            ))),
        }
    }

    /// Part of a packet is a sign of life, too.
    fn look_at_bytes(&mut self) {
        let bytes = self.shared.connector.traffic().1;
        if self.received.look(bytes, Instant::now()) {
            self.heard();
        }
    }

    fn heard(&mut self) {
        if self.liveness.heard(Instant::now()) {
            self.shared.link().recovered(self.now());
            self.log();
        }
    }

    /// How long the upstream may leave anything unanswered. What is under way has its time on a
    /// slow link.
    fn patience(&self) -> Duration {
        let config = &self.shared.config;
        let bytes = u64::try_from(self.window.bytes()).unwrap_or(u64::MAX);
        let keep_alive = u64::from(self.accepted.keep_alive);
        Duration::from_secs(keep_alive * 2 + bytes / SLOWEST) + config.connect_timeout
    }

    /// When [`Task::overdue`] has something to say. `begun`: the last event.
    fn next_deadline(&self, begun: Instant) -> Instant {
        let first = self.waits_since().unwrap_or(begun).min(begun);
        self.received.unhindered(first) + self.patience()
    }

    /// Pings alone keep a connection up on which nothing else is answered.
    fn overdue(&self, begun: Instant) -> Result<(), End> {
        let (now, patience) = (Instant::now(), self.patience());
        let late = |since: Option<Instant>| {
            since.is_some_and(|since| now >= self.received.unhindered(since) + patience)
        };
        let seconds = patience.as_secs();
        if late(self.window.waits_since()) {
            return Err(End::Lost(format!("no PUBACK within {seconds} s").into()));
        }
        if late(self.subscribing) {
            return Err(End::Silent(format!("no SUBACK within {seconds} s")));
        }
        if late(Some(begun)) {
            return Err(End::Silent("the connection hangs".into()));
        }
        Ok(())
    }

    /// When something has to be tried again.
    fn timer(&self) -> Option<Duration> {
        let again = (self.stalled || !self.blocked.is_empty()).then_some(AGAIN);
        let subscribe = self.shared.link().wait(self.now());
        let suspect = self.suspects.next_due(self.now().mono);
        // One that is due waits for an event, not for the time.
        let suspect = suspect.filter(|wait| !wait.is_zero());
        let peer = self.guard.wait(Instant::now());
        [again, subscribe, peer, self.pacing.wait(), suspect]
            .into_iter()
            .flatten()
            .min()
    }

    fn on_event(&mut self, event: Event) -> Result<(), End> {
        match &event {
            Event::Acknowledged(_) | Event::Subscribed(_) | Event::Incoming(_) | Event::Pong => {
                self.heard();
            }
            _ => {}
        }
        match event {
            Event::Published(packet_id) => self.on_wire(packet_id),
            Event::AckSent => {
                self.acks_queued = self.acks_queued.saturating_sub(1);
                Ok(())
            }
            Event::Acknowledged(ack) => self.upstream_acknowledged(&ack),
            Event::Incoming(incoming) => self.receive(*incoming),
            Event::Subscribed(codes) => {
                self.subscribed(&codes);
                Ok(())
            }
            Event::PingSent => {
                self.liveness.pinged(Instant::now());
                Ok(())
            }
            Event::Pong => {
                self.liveness.answered();
                self.settle_by_pong();
                self.suspects.round_trip();
                Ok(())
            }
            Event::SubscribeSent | Event::Left => Ok(()),
        }
    }

    /// Waits a moment for acknowledgements under way, then says good-bye.
    async fn leave(&mut self, connection: &mut dyn Connection) {
        let waited = tokio::time::timeout(GRACE, async {
            while !self.window.is_empty() {
                let event = next(connection).await.map_err(|ended| self.failed(ended))?;
                self.on_event(event)?;
                // At once: a crash during the wait would send them again.
                self.pass_on_acknowledgements();
            }
            Ok::<_, End>(())
        });
        // Late ones go again at the next connection.
        if let Ok(Err(_)) = waited.await {
            return;
        }
        if connection.disconnect().is_err() {
            return;
        }
        let farewell = tokio::time::timeout(FAREWELL, async {
            while let Ok(event) = next(connection).await {
                if event == Event::Left || self.on_event(event).is_err() {
                    return;
                }
                self.pass_on_acknowledgements();
            }
        });
        let _ = farewell.await;
    }
}
