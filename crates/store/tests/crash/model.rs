//! The operations, and what should come of them.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;
use std::path::Path;

use iotedge_model::DropReason;
use iotedge_store::{Account, Opened, RetainedChange, RowState, Store, TakerKind};

pub const NAMES: [&str; 4] = ["a", "b", "c", "d"];

#[derive(Debug)]
pub enum Op {
    Append {
        id: u64,
        takers: Vec<usize>,
        retained: Option<RetainedChange>,
        inbound: Option<u16>,
    },
    MarkSent {
        taker: usize,
        sent: Vec<(u64, u16)>,
    },
    MarkReceived {
        taker: usize,
        id: u64,
    },
    Release {
        packet_id: u16,
    },
    Acknowledge {
        taker: usize,
        ids: Vec<u64>,
    },
    Discard {
        taker: usize,
        ids: Vec<u64>,
    },
    Bury {
        taker: usize,
        ids: Vec<u64>,
    },
    /// The oldest dead letter goes back as message `id`.
    Revive {
        id: u64,
    },
    RemoveDead,
    CountDrop {
        taker: usize,
        n: u64,
    },
    Remove {
        taker: usize,
    },
}

pub fn random(x: &mut u64) -> u64 {
    // splitmix64
    *x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *x;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Operation number `n`.
pub fn op(n: u64) -> Op {
    let mut x = n;
    let mut below = |limit: u64| random(&mut x) % limit;
    let taker = usize::try_from(below(4)).unwrap();
    let recent = |below: &mut dyn FnMut(u64) -> u64| -> Vec<u64> {
        (0..=below(12))
            .map(|_| n.saturating_sub(below(40)))
            .collect()
    };
    let packet = |below: &mut dyn FnMut(u64) -> u64| 1 + u16::try_from(below(9)).unwrap();
    match below(100) {
        0..=49 => Op::Append {
            id: n,
            takers: (0..4).filter(|_| below(2) == 0).collect(),
            retained: match below(8) {
                0 => Some(RetainedChange::Set),
                1 => Some(RetainedChange::Clear),
                _ => None,
            },
            inbound: (below(3) == 0).then(|| packet(&mut below)),
        },
        50..=57 => Op::MarkSent {
            taker,
            sent: recent(&mut below)
                .into_iter()
                .map(|id| (id, packet(&mut below)))
                .collect(),
        },
        58..=63 => Op::MarkReceived {
            taker,
            id: n.saturating_sub(below(40)),
        },
        64..=69 => Op::Release {
            packet_id: packet(&mut below),
        },
        70..=84 => Op::Acknowledge {
            taker,
            ids: recent(&mut below),
        },
        85..=88 => Op::Discard {
            taker,
            ids: recent(&mut below),
        },
        89..=92 => Op::Bury {
            taker,
            ids: recent(&mut below),
        },
        93 => Op::Revive { id: n },
        94 => Op::RemoveDead,
        95..=98 => Op::CountDrop { taker, n: below(5) },
        _ => Op::Remove { taker },
    }
}

pub fn topic(id: u64) -> String {
    format!("t/{}", id % 3)
}

/// How far a row has come, and its packet id.
type Delivery = (RowState, Option<u16>);

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Model {
    takers: [(BTreeMap<u64, Delivery>, Account); 4],
    unreleased: BTreeSet<u16>,
    /// Number of the letter, the taker it died for, the id it had.
    dead: BTreeMap<u64, (usize, u64)>,
    buried: u64,
    removed: Account,
    retained: BTreeMap<String, u64>,
}

impl Model {
    pub fn apply(&mut self, op: &Op) {
        match op {
            Op::Append {
                id,
                takers,
                retained,
                inbound,
            } => {
                self.unreleased.extend(inbound);
                for taker in takers {
                    let (rows, account) = &mut self.takers[*taker];
                    rows.insert(*id, Delivery::default());
                    account.accepted += 1;
                }
                match retained {
                    Some(RetainedChange::Set) => drop(self.retained.insert(topic(*id), *id)),
                    Some(RetainedChange::Clear) => drop(self.retained.remove(&topic(*id))),
                    None => {}
                }
            }
            Op::MarkSent { taker, sent } => {
                for (id, packet_id) in sent {
                    if let Some(row) = self.takers[*taker].0.get_mut(id) {
                        if row.0 != RowState::Received {
                            *row = (RowState::Sent, Some(*packet_id));
                        }
                    }
                }
            }
            Op::MarkReceived { taker, id } => {
                if let Some(row) = self.takers[*taker].0.get_mut(id) {
                    if row.0 == RowState::Sent {
                        row.0 = RowState::Received;
                    }
                }
            }
            Op::Release { packet_id } => drop(self.unreleased.remove(packet_id)),
            Op::Acknowledge { taker, ids } => {
                let (rows, account) = &mut self.takers[*taker];
                account.delivered += ids.iter().filter_map(|id| rows.remove(id)).count() as u64;
            }
            Op::Discard { taker, ids } => {
                let (rows, account) = &mut self.takers[*taker];
                let n = ids.iter().filter_map(|id| rows.remove(id)).count() as u64;
                add(account, DropReason::Expired, n);
            }
            Op::Bury { taker, ids } => {
                let (rows, account) = &mut self.takers[*taker];
                for id in ids
                    .iter()
                    .filter(|id| rows.contains_key(id))
                    .collect::<Vec<_>>()
                {
                    if rows.remove(id).is_none() {
                        continue; // named twice
                    }
                    self.buried += 1;
                    self.dead.insert(self.buried, (*taker, *id));
                    add(account, DropReason::UpstreamRefused, 1);
                }
            }
            Op::Revive { id } => {
                if let Some((_, (taker, _))) = self.dead.pop_first() {
                    let (rows, account) = &mut self.takers[taker];
                    rows.insert(*id, Delivery::default());
                    account.accepted += 1;
                }
            }
            Op::RemoveDead => drop(self.dead.pop_first()),
            Op::CountDrop { taker, n } => {
                let account = &mut self.takers[*taker].1;
                account.accepted += n;
                add(account, DropReason::QueueFull, *n);
            }
            Op::Remove { taker } => {
                let (rows, account) = std::mem::take(&mut self.takers[*taker]);
                self.removed.accepted += account.accepted;
                self.removed.delivered += account.delivered;
                for (reason, n) in account.dropped {
                    add(&mut self.removed, reason, n);
                }
                add(
                    &mut self.removed,
                    DropReason::TakerRemoved,
                    rows.len() as u64,
                );
            }
        }
    }

    pub fn read(dir: &Path, store: &Store, opened: &Opened) -> Self {
        let mut model = Self::default();
        for (at, name) in NAMES.iter().enumerate() {
            let Some(taker) = store.find_taker(TakerKind::Route, name) else {
                continue;
            };
            let mut account = store.account(taker);
            assert!(account.balances(), "{account:?}");
            let rows = store.read(taker, None, usize::MAX, usize::MAX).unwrap();
            assert_eq!(rows.len() as u64, account.queued);
            let bytes: usize = rows.iter().map(|r| r.message.cost()).sum();
            assert_eq!(bytes as u64, account.queued_bytes);
            (account.queued, account.queued_bytes) = (0, 0);
            let rows = rows.iter().map(|r| {
                let packet_id = r.packet_id.map(NonZeroU16::get);
                (r.message.id.0, (r.state, packet_id))
            });
            model.takers[at] = (rows.collect(), account);
        }
        let given = "SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'dead_letters'";
        model.buried = crate::common::count(dir, given).unsigned_abs();
        for letter in store.dead_letters(None, usize::MAX).unwrap() {
            let at = NAMES.iter().position(|n| **n == *letter.taker).unwrap();
            model.dead.insert(letter.id, (at, letter.message.id.0));
        }
        for session in &opened.sessions {
            model.unreleased.extend(&session.unreleased);
        }
        model.removed = store.removed_account();
        assert!(model.removed.balances());
        for message in &opened.retained {
            model
                .retained
                .insert(message.topic.to_string(), message.id.0);
        }
        model
    }
}

fn add(account: &mut Account, reason: DropReason, n: u64) {
    if n > 0 {
        *account.dropped.entry(reason).or_default() += n;
    }
}
