//! Where a link stands and when it is tried again: a pure state machine that is handed the time
//! and the dice.

use std::time::Duration;

use iotedge_model::{Now, UnixMillis};
use iotedge_ports::LinkState;

use crate::Backoff;
use crate::uplink::Layer;

/// The state of one link.
#[derive(Debug)]
pub(crate) struct Link {
    backoff: Backoff,
    state: LinkState,
    reason: String,
    since: UnixMillis,
    /// The last pause, for the next one.
    pause: u64,
    /// Monotonic milliseconds of the last CONNACK, while the link is up.
    up_since: Option<u64>,
    retry: Option<Retry>,
    connects: u64,
}

#[derive(Debug, Clone, Copy)]
struct Retry {
    mono: u64,
    wall: UnixMillis,
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Link {
    pub(crate) fn new(backoff: Backoff, now: Now) -> Self {
        Self {
            pause: millis(backoff.base),
            backoff,
            state: LinkState::Resolving,
            reason: "first try".into(),
            since: now.wall,
            up_since: None,
            retry: None,
            connects: 0,
        }
    }

    fn enter(&mut self, state: LinkState, reason: &str, now: Now) {
        if self.state != state {
            self.since = now.wall;
        }
        self.state = state;
        reason.clone_into(&mut self.reason);
        self.retry = None;
    }

    fn retry_in(&mut self, pause: u64, now: Now) {
        self.retry = Some(Retry {
            mono: now.mono.saturating_add(pause),
            wall: UnixMillis(now.wall.0.saturating_add(pause)),
        });
    }

    /// A try begins.
    pub(crate) fn connecting(&mut self, now: Now) {
        let reason = std::mem::take(&mut self.reason);
        self.enter(LinkState::Resolving, &reason, now);
    }

    /// The try is this far. `true`: another state.
    pub(crate) fn progress(&mut self, layer: Layer, now: Now) -> bool {
        let state = match layer {
            Layer::Settings | Layer::Dns => LinkState::Resolving,
            Layer::Tcp => LinkState::Connecting,
            _ => LinkState::Handshaking,
        };
        let under_way = matches!(
            self.state,
            LinkState::Resolving | LinkState::Connecting | LinkState::Handshaking
        );
        if !under_way || self.state == state {
            return false;
        }
        let reason = std::mem::take(&mut self.reason);
        self.enter(state, &reason, now);
        true
    }

    /// The other side is silent. A refused subscription stays what is shown.
    pub(crate) fn degraded(&mut self, reason: &str, now: Now) {
        if self.state == LinkState::Connected {
            self.enter(LinkState::Degraded, reason, now);
        }
    }

    /// It answers again.
    pub(crate) fn recovered(&mut self, now: Now) {
        if self.state == LinkState::Degraded {
            self.enter(LinkState::Connected, "connected", now);
        }
    }

    /// CONNACK has come.
    pub(crate) fn connected(&mut self, now: Now) {
        self.connects += 1;
        self.up_since = Some(now.mono);
        self.enter(LinkState::Connected, "connected", now);
    }

    /// The try failed or the connection ended. `dice` is any number, evenly spread.
    pub(crate) fn lost(&mut self, reason: &str, now: Now, dice: u64) {
        let base = millis(self.backoff.base);
        let stable = self
            .up_since
            .take()
            .is_some_and(|up| now.mono.saturating_sub(up) >= millis(self.backoff.stable));
        if stable {
            self.pause = base;
        }
        let span = self.pause.saturating_mul(3).saturating_sub(base).max(1);
        self.pause = base
            .saturating_add(dice % span)
            .min(millis(self.backoff.max));
        self.enter(LinkState::BackingOff, reason, now);
        self.retry_in(self.pause, now);
    }

    /// The upstream said no, or our own files say that it can not work.
    pub(crate) fn refused(&mut self, reason: &str, now: Now, dice: u64) {
        self.up_since = None;
        self.enter(LinkState::Misconfigured, reason, now);
        self.slow_retry(now, dice);
    }

    /// The upstream refused a subscription: the link stays up for everything else, and the
    /// subscription is tried again at [`Link::wait`].
    pub(crate) fn subscription_refused(&mut self, reason: &str, now: Now, dice: u64) {
        self.enter(LinkState::Misconfigured, reason, now);
        self.slow_retry(now, dice);
    }

    fn slow_retry(&mut self, now: Now, dice: u64) {
        let slow = millis(self.backoff.refused).max(1);
        self.retry_in(slow.saturating_add(dice % slow), now);
    }

    /// All subscriptions stand. `true`: another state.
    pub(crate) fn subscribed(&mut self, now: Now) -> bool {
        let again = self.state == LinkState::Misconfigured && self.up_since.is_some();
        if again {
            self.enter(LinkState::Connected, "connected", now);
        }
        again
    }

    /// By an operator, or for a test; since a time before this start, it may be.
    pub(crate) fn paused(&mut self, reason: &str, since: UnixMillis, now: Now) {
        self.up_since = None;
        self.enter(LinkState::Paused, reason, now);
        self.since = since;
    }

    /// Nothing goes on before the next try, or the next SUBSCRIBE that was refused before.
    pub(crate) fn waits_for_a_try(&self) -> bool {
        matches!(self.state, LinkState::BackingOff | LinkState::Misconfigured)
    }

    /// By a window or a budget; looked at again in `millis`. `true`: it was something else before.
    pub(crate) fn closed(&mut self, reason: &str, millis: Option<u64>, now: Now) -> bool {
        self.up_since = None;
        let new = self.state != LinkState::Paused || self.reason != reason;
        self.enter(LinkState::Paused, reason, now);
        if let Some(millis) = millis {
            self.retry_in(millis, now);
        }
        new
    }

    pub(crate) fn stopped(&mut self, now: Now) {
        self.up_since = None;
        self.enter(LinkState::Stopped, "the daemon stops", now);
    }

    /// How long until the next try; `None` when none is due.
    pub(crate) fn wait(&self, now: Now) -> Option<Duration> {
        let retry = self.retry?;
        Some(Duration::from_millis(retry.mono.saturating_sub(now.mono)))
    }

    pub(crate) fn state(&self) -> LinkState {
        self.state
    }

    pub(crate) fn reason(&self) -> &str {
        &self.reason
    }

    pub(crate) fn since(&self) -> UnixMillis {
        self.since
    }

    pub(crate) fn next_retry(&self) -> Option<UnixMillis> {
        self.retry.map(|r| r.wall)
    }

    pub(crate) fn connects(&self) -> u64 {
        self.connects
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(mono: u64) -> Now {
        Now {
            mono,
            wall: UnixMillis(1_000_000 + mono),
            trusted: true,
        }
    }

    fn pauses(link: &mut Link, dice: impl Fn(u64) -> u64, n: u64) -> Vec<u64> {
        (0..n)
            .map(|i| {
                link.lost("gone", at(0), dice(i));
                millis(link.wait(at(0)).unwrap())
            })
            .collect()
    }

    #[test]
    fn pauses_grow_within_their_bounds() {
        let mut link = Link::new(Backoff::default(), at(0));
        let highest = pauses(&mut link, |_| u64::MAX / 2, 20);
        assert!(
            highest.iter().all(|p| (1000..=60_000).contains(p)),
            "{highest:?}"
        );
        let mut link = Link::new(Backoff::default(), at(0));
        // The worst dice: always the top of the span.
        let mut last = 1000;
        for _ in 0..10 {
            link.lost("gone", at(0), last * 3 - 1000 - 1);
            let pause = millis(link.wait(at(0)).unwrap());
            assert_eq!(pause, (last * 3 - 1).min(60_000));
            last = pause;
        }
        assert_eq!(last, 60_000);
        let mut link = Link::new(Backoff::default(), at(0));
        assert_eq!(pauses(&mut link, |_| 0, 3), [1000, 1000, 1000]);
    }

    #[test]
    fn only_a_stable_connection_begins_again_at_the_base() {
        let mut link = Link::new(Backoff::default(), at(0));
        for _ in 0..10 {
            link.lost("gone", at(0), 59_999 % 2000 + 1999);
        }
        let long = link.pause;
        assert!(long > 3000);
        link.connected(at(10));
        link.lost("flapped", at(20), long * 2);
        assert!(link.pause > 3000, "a short connection changes nothing");
        link.connected(at(100));
        link.lost("gone", at(30_100), 1999);
        assert_eq!(link.pause, 2999);
    }

    #[test]
    fn a_refusal_is_retried_slowly_and_keeps_its_reason() {
        let mut link = Link::new(Backoff::default(), at(0));
        link.refused("not authorized", at(5), 59_999);
        assert_eq!(link.state(), LinkState::Misconfigured);
        assert_eq!(link.wait(at(5)), Some(Duration::from_millis(119_999)));
        assert_eq!(link.wait(at(200_000)), Some(Duration::ZERO));
        assert_eq!(link.next_retry(), Some(UnixMillis(1_000_005 + 119_999)));
        link.connecting(at(120_005));
        assert_eq!(link.reason(), "not authorized");
        assert_eq!(link.next_retry(), None);
    }

    #[test]
    fn a_try_goes_through_its_states_and_silence_is_degraded_until_an_answer() {
        let mut link = Link::new(Backoff::default(), at(0));
        link.lost("gone", at(1), 0);
        link.connecting(at(2));
        let mut states = vec![link.state()];
        for layer in [Layer::Dns, Layer::Tcp, Layer::Tls, Layer::Connack] {
            if link.progress(layer, at(3)) {
                states.push(link.state());
            }
            assert_eq!(
                link.reason(),
                "gone",
                "what the last try met is still shown"
            );
        }
        link.connected(at(4));
        assert!(!link.progress(Layer::Dns, at(5)), "it is up");
        link.degraded("silent", at(6));
        states.push(link.state());
        assert_eq!(
            (link.reason(), link.since()),
            ("silent", UnixMillis(1_000_006))
        );
        link.recovered(at(7));
        states.push(link.state());
        link.subscription_refused("no", at(8), 0);
        link.degraded("silent", at(9));
        states.push(link.state());
        use LinkState as S;
        assert_eq!(
            states,
            [
                S::Resolving,
                S::Connecting,
                S::Handshaking,
                S::Degraded,
                S::Connected,
                S::Misconfigured
            ]
        );
    }

    #[test]
    fn since_is_when_the_state_was_entered() {
        let mut link = Link::new(Backoff::default(), at(0));
        link.connected(at(7));
        link.subscription_refused("no", at(8), 0);
        link.subscription_refused("still no", at(9), 0);
        assert_eq!(link.since(), UnixMillis(1_000_008));
        link.subscribed(at(10));
        assert_eq!(link.state(), LinkState::Connected);
        link.paused("paused by me", at(3).wall, at(11));
        assert_eq!((link.wait(at(12)), link.connects()), (None, 1));
    }
}
