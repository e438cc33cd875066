//! What a session has on its way to its client: packet ids, the window, and what waits for a
//! commit before it may leave.

use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::sync::Arc;

use iotedge_model::{DropReason, MessageId, QoS};
use iotedge_mqtt::{Outbound, Phase};
use iotedge_ports::{Delivery, ShareId};
use iotedge_store::{QueuedRow, RowState};
use iotedge_telemetry::METRICS;

use super::Env;

/// One packet id in use.
pub(super) struct Flying {
    pub(super) id: MessageId,
    /// It has a row.
    pub(super) durable: bool,
    /// The shared subscription that it came by.
    pub(super) share: Option<ShareId>,
    /// What was sent, until it need not be sent again.
    delivery: Option<Delivery>,
    /// What its next packet waits for.
    pub(super) wait: Wait,
}

impl Flying {
    /// What was sent, where it may have to be sent again.
    pub(super) fn into_delivery(self) -> Option<Delivery> {
        self.delivery
    }
}

/// What keeps the next packet of an exchange from leaving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// Nothing: it has left.
    No,
    /// PUBLISH: it is among what is staged.
    Staged,
    /// PUBREL: the receipt is not committed.
    Receipt,
}

/// A packet that is sent again on a new connection.
pub(super) enum Again {
    Publish(NonZeroU16, Delivery),
    Release(NonZeroU16),
}

impl Again {
    fn packet_id(&self) -> NonZeroU16 {
        match self {
            Self::Publish(id, _) | Self::Release(id) => *id,
        }
    }
}

/// A delivery that waits for a commit, or behind one that does.
pub(super) struct Staged {
    pub(super) packet_id: Option<NonZeroU16>,
    pub(super) delivery: Delivery,
    /// The number of the commit.
    mark: Option<u64>,
}

pub(super) struct Flight {
    pub(super) window: Outbound<Flying>,
    /// What the window holds in memory.
    bytes: usize,
    /// What most sessions never have.
    waiting: Option<Box<Waiting>>,
    /// How many the attached connection takes at once.
    pub(super) receive_maximum: u16,
    /// What was in flight when the process ended has been looked for.
    pub(super) recovered: bool,
}

/// What has to wait before it leaves.
#[derive(Default)]
struct Waiting {
    /// To be sent again before anything else.
    resend: VecDeque<Again>,
    staged: VecDeque<Staged>,
    staged_bytes: usize,
    /// How many of them have a packet id.
    staged_ids: usize,
    last_mark: u64,
}

impl Waiting {
    fn weigh(&mut self) {
        self.staged_bytes = self.staged.iter().map(|s| s.delivery.message.cost()).sum();
    }
}

/// Deliveries staged at once.
const STAGED: usize = 512;

impl Flight {
    pub(super) fn new(window: u16, recovered: bool) -> Self {
        Self {
            window: Outbound::new(window),
            bytes: 0,
            waiting: None,
            receive_maximum: u16::MAX,
            recovered,
        }
    }

    fn waiting(&mut self) -> &mut Waiting {
        self.waiting.get_or_insert_default()
    }

    /// The next to be sent again.
    pub(super) fn pop_resend(&mut self) -> Option<Again> {
        self.waiting.as_mut()?.resend.pop_front()
    }

    /// Whether something is to be sent again.
    pub(super) fn has_resend(&self) -> bool {
        self.waiting.as_ref().is_some_and(|w| !w.resend.is_empty())
    }

    /// How many more may be in flight: none while what is there holds too much memory.
    pub(super) fn free(&self, max_bytes: usize) -> usize {
        if self.bytes >= max_bytes {
            0
        } else {
            self.window.free().min(self.client_free())
        }
    }

    /// How many more the connection takes, with those that are staged and without those that are to
    /// be sent again.
    fn client_free(&self) -> usize {
        let resend = self.waiting.as_ref().map_or(0, |w| w.resend.len());
        let sent = self.window.len().saturating_sub(resend);
        usize::from(self.receive_maximum).saturating_sub(sent)
    }

    /// Whether the connection takes one more now.
    pub(super) fn may_send(&self) -> bool {
        let waiting = self.waiting.as_ref();
        let waiting = waiting.map_or(0, |w| w.resend.len() + w.staged_ids);
        self.window.len().saturating_sub(waiting) < usize::from(self.receive_maximum)
    }

    pub(super) fn is_staged(&mut self, packet_id: NonZeroU16) -> bool {
        let flying = self.window.get_mut(packet_id);
        flying.is_some_and(|flying| flying.wait == Wait::Staged)
    }

    /// How many more may be staged while a commit is on its way.
    pub(super) fn stage_free(&self, max_bytes: usize) -> usize {
        match &self.waiting {
            Some(waiting) if waiting.staged_bytes >= max_bytes => 0,
            Some(waiting) => STAGED.saturating_sub(waiting.staged.len()),
            None => STAGED,
        }
    }

    /// What a process before this one left in flight comes first, in its order.
    pub(super) fn recover(&mut self, mut rows: Vec<(QueuedRow, Option<ShareId>)>) {
        self.recovered = true;
        rows.sort_by_key(|(row, _)| row.message.id);
        for (row, share) in rows {
            let Some(packet_id) = row.packet_id else {
                continue;
            };
            let released = row.state == RowState::Received;
            let id = row.message.id;
            let delivery = (!released).then(|| Delivery {
                qos: row.qos,
                retain: row.retain,
                dup: true,
                durable: true,
                share,
                identifiers: row.identifiers,
                message: Arc::new(row.message),
            });
            self.bytes += cost(delivery.as_ref());
            self.waiting().resend.push_back(match &delivery {
                Some(delivery) => Again::Publish(packet_id, delivery.clone()),
                None => Again::Release(packet_id),
            });
            let flying = Flying {
                id,
                durable: true,
                share,
                delivery,
                wait: Wait::No,
            };
            self.window.resume([(packet_id, row.qos, released, flying)]);
        }
    }

    /// A new connection: what has left is to be sent again, in order. QoS 0 was for the last one.
    pub(super) fn restart(&mut self) {
        if self.window.is_empty() && self.waiting.is_none() {
            return;
        }
        let resend = self.window.iter().filter_map(again).collect();
        let waiting = self.waiting();
        waiting.resend = resend;
        let before = waiting.staged.len();
        waiting.staged.retain(|staged| staged.packet_id.is_some());
        waiting.weigh();
        let lost = before - waiting.staged.len();
        if lost > 0 {
            METRICS.dropped(DropReason::SessionEnded, lost as u64);
        }
    }

    /// Takes out what other members of shared subscriptions may get instead: what was sent with
    /// QoS 1, and what waits for a commit. What a group that is no more has begun to send is
    /// brought to its end.
    pub(super) fn take_shared(&mut self, env: &Env) -> (Vec<Delivery>, Vec<Delivery>) {
        let others: Vec<(NonZeroU16, bool)> = self
            .window
            .iter()
            .filter(|sent| {
                let unsent = sent.item.wait == Wait::Staged;
                (sent.phase == Phase::PubAck || unsent)
                    && (sent.item.share).is_some_and(|id| env.shares.get(id).is_some())
            })
            .map(|sent| (sent.packet_id, sent.item.wait == Wait::Staged))
            .collect();
        let (mut sent, mut staged) = (Vec::new(), Vec::new());
        for (packet_id, unsent) in others {
            let flying = self.window.forget(packet_id);
            let delivery = self.finish(flying).and_then(|flying| flying.delivery);
            if unsent {
                let waiting = self.waiting();
                waiting.staged_ids -= 1;
                waiting.staged.retain(|s| s.packet_id != Some(packet_id));
                staged.extend(delivery);
            } else {
                sent.extend(delivery);
            }
        }
        if let Some(waiting) = &mut self.waiting {
            waiting.weigh();
        }
        (sent, staged)
    }

    /// What is in flight of shared subscriptions.
    pub(super) fn shared(&self) -> Vec<(ShareId, MessageId)> {
        let flying = self.window.iter().map(|sent| &sent.item);
        flying
            .filter(|flying| flying.durable)
            .filter_map(|flying| Some((flying.share?, flying.id)))
            .collect()
    }

    /// Gives a packet id; `None` when there is none, which [`Flight::free`] rules out.
    pub(super) fn launch(&mut self, delivery: Delivery) -> Option<NonZeroU16> {
        let (qos, cost) = (delivery.qos, delivery.message.cost());
        let flying = Flying {
            id: delivery.message.id,
            durable: delivery.durable,
            share: delivery.share,
            delivery: Some(delivery),
            wait: Wait::No,
        };
        let id = self.window.push(qos, flying)?;
        self.bytes += cost;
        Some(id)
    }

    /// The last that was launched.
    pub(super) fn launched(&self) -> Option<&Delivery> {
        self.window.last()?.item.delivery.as_ref()
    }

    /// Whether deliveries have to queue behind what waits.
    pub(super) fn is_staging(&self) -> bool {
        self.waiting.as_ref().is_some_and(|w| !w.staged.is_empty())
    }

    /// The number of the next commit of packet ids.
    pub(super) fn next_mark(&mut self) -> u64 {
        let waiting = self.waiting();
        waiting.last_mark += 1;
        waiting.last_mark
    }

    /// It leaves when the commit `mark` says so, and when all before it have left.
    pub(super) fn stage(
        &mut self,
        packet_id: Option<NonZeroU16>,
        delivery: Delivery,
        mark: Option<u64>,
    ) {
        if let Some(flying) = packet_id.and_then(|id| self.window.get_mut(id)) {
            flying.wait = Wait::Staged;
            self.waiting().staged_ids += 1;
        }
        let waiting = self.waiting();
        waiting.staged_bytes += delivery.message.cost();
        waiting.staged.push_back(Staged {
            packet_id,
            delivery,
            mark,
        });
    }

    /// The commit `mark` is through. Where it failed nothing of it may leave.
    pub(super) fn marked(&mut self, mark: u64, kept: bool) {
        if kept {
            let staged = self.waiting.iter_mut().flat_map(|w| &mut w.staged);
            for staged in staged.filter(|s| s.mark == Some(mark)) {
                staged.mark = None;
            }
            return;
        }
        self.unstage(|staged| staged.mark == Some(mark));
    }

    /// The row of `id` could not be committed: it was refused to its publisher. What of it has not
    /// left does not leave.
    pub(super) fn lost(&mut self, id: MessageId) {
        self.unstage(|staged| staged.delivery.durable && staged.delivery.message.id == id);
    }

    fn unstage(&mut self, which: impl Fn(&Staged) -> bool) {
        let Some(waiting) = &mut self.waiting else {
            return;
        };
        let (gone, left): (VecDeque<_>, _) = std::mem::take(&mut waiting.staged)
            .into_iter()
            .partition(which);
        waiting.staged = left;
        waiting.weigh();
        for staged in gone {
            if let Some(id) = staged.packet_id {
                self.waiting().staged_ids -= 1;
                let flying = self.window.forget(id);
                self.finish(flying);
            }
        }
    }

    /// The next of what was staged, if it may leave.
    pub(super) fn unstaged(&mut self) -> Option<Staged> {
        let waiting = self.waiting.as_ref()?;
        let next = waiting.staged.front()?;
        let may_leave = next.packet_id.is_none() || (waiting.resend.is_empty() && self.may_send());
        if next.mark.is_some() || !may_leave {
            return None;
        }
        let waiting = self.waiting();
        let staged = waiting.staged.pop_front()?;
        waiting.staged_bytes = waiting
            .staged_bytes
            .saturating_sub(staged.delivery.message.cost());
        if let Some(flying) = staged.packet_id.and_then(|id| self.window.get_mut(id)) {
            flying.wait = Wait::No;
            self.waiting().staged_ids -= 1;
        }
        Some(staged)
    }

    /// An exchange is over.
    pub(super) fn finish(&mut self, flying: Option<Flying>) -> Option<Flying> {
        if let Some(flying) = &flying {
            self.bytes = self.bytes.saturating_sub(cost(flying.delivery.as_ref()));
        }
        flying
    }

    /// The client has answered: its PUBLISH is not sent again.
    pub(super) fn answered(&mut self, packet_id: NonZeroU16) {
        if let Some(waiting) = &mut self.waiting {
            waiting
                .resend
                .retain(|again| again.packet_id() != packet_id);
        }
    }

    /// The payload is not needed again ([MQTT-4.3.3-1]).
    pub(super) fn received(&mut self, packet_id: NonZeroU16) {
        let delivery = self
            .window
            .get_mut(packet_id)
            .and_then(|f| f.delivery.take());
        self.bytes = self.bytes.saturating_sub(cost(delivery.as_ref()));
    }

    /// The receipt of `packet_id` is committed: whether its PUBREL is to leave.
    pub(super) fn released(&mut self, packet_id: NonZeroU16) -> bool {
        match self.window.get_mut(packet_id) {
            Some(flying) if flying.wait == Wait::Receipt => {
                flying.wait = Wait::No;
                true
            }
            _ => false,
        }
    }
}

fn again(sent: &iotedge_mqtt::InFlight<Flying>) -> Option<Again> {
    match (sent.item.wait, &sent.item.delivery) {
        // They come with their commit.
        (Wait::Staged | Wait::Receipt, _) => None,
        (Wait::No, _) if sent.phase == Phase::PubComp => Some(Again::Release(sent.packet_id)),
        (Wait::No, Some(delivery)) => {
            let delivery = Delivery {
                dup: true,
                ..delivery.clone()
            };
            Some(Again::Publish(sent.packet_id, delivery))
        }
        (Wait::No, None) => None,
    }
}

/// A delivery whose PUBLISH rests on a commit of its packet id.
pub(super) fn is_marked(delivery: &Delivery) -> bool {
    delivery.durable && delivery.qos == QoS::ExactlyOnce
}

fn cost(delivery: Option<&Delivery>) -> usize {
    delivery.map_or(0, |delivery| delivery.message.cost())
}
