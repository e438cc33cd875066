//! A connection from CONNACK to its end.

use std::time::Duration;

use iotedge_ports::LinkState;
use rumqttc::{
    AsyncClient, Event, EventLoop, Outgoing, Packet, SubAck, SubscribeFilter, SubscribeReasonCode,
};
use tokio::time::Instant;

use super::{End, Task};

/// How long acknowledgements under way may take when the link is to end.
const GRACE: Duration = Duration::from_secs(1);
/// How long after that DISCONNECT may take.
const FAREWELL: Duration = Duration::from_secs(2);
/// The slowest link that is no dead one, in bytes a second.
const SLOWEST: u64 = 2048;
/// When a stalled mailbox or a refusing broker is asked again.
const AGAIN: Duration = Duration::from_millis(200);

/// How long writing one packet may take, in seconds.
pub(super) fn writing_timeout(config: &crate::Config) -> u64 {
    let connecting = config.connect_timeout.as_secs();
    let bytes = u64::try_from(config.max_packet_bytes).unwrap_or(u64::MAX);
    (bytes / SLOWEST).max(connecting).max(60)
}

impl Task {
    pub(super) async fn connected(&mut self, client: &AsyncClient, events: &mut EventLoop) -> End {
        if let Err(end) = self.subscribe(client) {
            return end;
        }
        loop {
            if let Err(end) = self.pump(client) {
                return end;
            }
            let event = match self.next_event(client, events).await {
                Ok(event) => event,
                Err(End::Desired) => {
                    self.leave(client, events).await;
                    return End::Desired;
                }
                Err(end) => {
                    self.last_words(events);
                    return end;
                }
            };
            let mut next = Some(event);
            while let Some(event) = next {
                if let Err(end) = self.on_event(event) {
                    self.last_words(events);
                    return end;
                }
                next = events.state.events.pop_front();
            }
            self.pass_on_acknowledgements();
        }
    }

    /// Waits for the library. Its future is never dropped halfway but at the connection's end:
    /// what it has taken from its queue would be lost with it.
    async fn next_event(
        &mut self,
        client: &AsyncClient,
        events: &mut EventLoop,
    ) -> Result<Event, End> {
        let begun = Instant::now();
        let poll = events.poll();
        tokio::pin!(poll);
        let mut desired = self.desired.clone();
        let notify = self.notify.clone();
        loop {
            // Pings make an event each keep-alive: silence for much longer is a hang.
            let patience = self.patience();
            let timer = self.timer().unwrap_or(patience).min(patience);
            let until = self.next_deadline(begun).min(Instant::now() + timer);
            tokio::select! {
                polled = &mut poll => {
                    return polled.map_err(|error| self.failed(&error));
                }
                () = notify.notified() => self.pump(client)?,
                () = tokio::time::sleep_until(until) => {
                    self.overdue(begun)?;
                    self.pump(client)?;
                    self.resubscribe(client)?;
                }
                _ = desired.changed() => return Err(End::Desired),
            }
        }
    }

    /// How long the upstream may leave anything unanswered. What is under way has its time on a
    /// slow link.
    fn patience(&self) -> Duration {
        let config = &self.shared.config;
        let bytes = u64::try_from(self.window.bytes()).unwrap_or(u64::MAX);
        Duration::from_secs(u64::from(config.keep_alive) * 2 + bytes / SLOWEST)
            + config.connect_timeout
    }

    /// When [`Task::overdue`] has something to say. `begun`: the last event.
    fn next_deadline(&self, begun: Instant) -> Instant {
        let waiting = [self.window.waits_since(), self.subscribing];
        let first = waiting.into_iter().flatten().fold(begun, Instant::min);
        first + self.patience()
    }

    /// Pings alone keep a connection up on which nothing else is answered.
    fn overdue(&self, begun: Instant) -> Result<(), End> {
        let (now, patience) = (Instant::now(), self.patience());
        let late = |since: Option<Instant>| since.is_some_and(|since| now >= since + patience);
        let seconds = patience.as_secs();
        if late(self.window.waits_since()) {
            return Err(End::Lost(format!("no PUBACK within {seconds} s")));
        }
        if late(self.subscribing) {
            return Err(End::Lost(format!("no SUBACK within {seconds} s")));
        }
        if late(Some(begun)) {
            return Err(End::Lost("the connection hangs".into()));
        }
        Ok(())
    }

    /// When something has to be tried again.
    fn timer(&self) -> Option<Duration> {
        let again = (self.stalled || !self.blocked.is_empty()).then_some(AGAIN);
        let subscribe = self.shared.link().wait(self.now());
        [again, subscribe].into_iter().flatten().min()
    }

    fn on_event(&mut self, event: Event) -> Result<(), End> {
        match event {
            Event::Outgoing(Outgoing::Publish(packet_id)) => self.on_wire(packet_id),
            Event::Outgoing(Outgoing::PubAck(_) | Outgoing::PubRec(_)) => {
                self.acks_queued = self.acks_queued.saturating_sub(1);
                Ok(())
            }
            Event::Outgoing(Outgoing::AwaitAck(packet_id)) => {
                Err(End::Lost(format!("packet id {packet_id} is still in use")))
            }
            Event::Incoming(Packet::PubAck(ack)) => {
                self.upstream_acknowledged(ack.pkid);
                Ok(())
            }
            Event::Incoming(Packet::Publish(publish)) => self.receive(publish),
            Event::Incoming(Packet::SubAck(ack)) => {
                self.subscribed(&ack);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn subscribe(&mut self, client: &AsyncClient) -> Result<(), End> {
        let filters: Vec<_> = self
            .incoming
            .iter()
            .filter_map(|(at, filter)| {
                let qos = super::outgoing::qos(self.shared.config.routes.get(*at)?.qos);
                Some(SubscribeFilter::new(filter.to_string(), qos))
            })
            .collect();
        if filters.is_empty() {
            return Ok(());
        }
        client
            .try_subscribe_many(filters)
            .map_err(|e| End::Lost(format!("SUBSCRIBE: {e}")))?;
        self.subscribing.get_or_insert_with(Instant::now);
        Ok(())
    }

    /// Asks again for subscriptions that were refused, when it is time.
    fn resubscribe(&mut self, client: &AsyncClient) -> Result<(), End> {
        let now = self.now();
        let due = self.shared.link().wait(now).is_some_and(|w| w.is_zero());
        if !due || self.shared.link().state() != LinkState::Misconfigured {
            return Ok(());
        }
        // Until the answer comes nothing is due.
        let dice = self.dice();
        let reason = self.shared.link().reason().to_owned();
        self.shared.link().subscription_refused(&reason, now, dice);
        self.subscribe(client)
    }

    fn subscribed(&mut self, ack: &SubAck) {
        self.subscribing = None;
        let mut codes = ack.return_codes.iter();
        let refused: Vec<_> = self
            .incoming
            .iter()
            .filter(|_| !matches!(codes.next(), Some(SubscribeReasonCode::Success(_))))
            .map(|(_, filter)| filter.to_string())
            .collect();
        let (now, dice) = (self.now(), self.dice());
        if refused.is_empty() {
            self.shared.link().subscribed(now);
            return;
        }
        let reason = format!(
            "the upstream refuses the subscription to {}",
            refused.join(", ")
        );
        self.shared.link().subscription_refused(&reason, now, dice);
        self.log();
    }

    /// Waits a moment for acknowledgements under way, then says good-bye.
    async fn leave(&mut self, client: &AsyncClient, events: &mut EventLoop) {
        let waited = tokio::time::timeout(GRACE, async {
            while !self.window.is_empty() {
                let event = events.poll().await.map_err(|error| self.failed(&error))?;
                self.on_event(event)?;
            }
            Ok::<_, End>(())
        });
        // Late ones go again at the next connection. After an error the library would connect
        // again by itself.
        if let Ok(Err(_)) = waited.await {
            return;
        }
        if client.try_disconnect().is_err() {
            return;
        }
        let farewell = tokio::time::timeout(FAREWELL, async {
            while let Ok(event) = events.poll().await {
                if event == Event::Outgoing(Outgoing::Disconnect) || self.on_event(event).is_err() {
                    return;
                }
            }
        });
        let _ = farewell.await;
    }
}
