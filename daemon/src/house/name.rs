//! What this gateway is called among gateways.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use iotedge_model::TraceId;
use iotedge_store::{Expect, Store};
use serde::{Deserialize, Serialize};

const KEY: &str = "id";

/// What tells one place that a gateway runs at from another.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Place {
    /// The serial number that the board has, where there is one (Raspberry Pi and its like).
    #[serde(default)]
    board: Option<String>,
    /// The permanent addresses of network cards.
    #[serde(default)]
    cards: BTreeSet<String>,
    /// `/etc/machine-id`: a cloned card has its original's, unless the image makes a new one.
    #[serde(default)]
    machine: Option<String>,
    /// The data directory.
    #[serde(default)]
    folder: Option<String>,
}

fn text(path: &Path) -> Option<String> {
    let bytes = std::fs::read(path).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_matches(|c: char| c == '\0' || c.is_whitespace());
    (!text.is_empty()).then(|| text.to_owned())
}

/// Addresses that are burnt in (`addr_assign_type` 0) of cards that are there (`device`): bridges,
/// tunnels and containers make theirs up.
fn cards(root: &Path) -> BTreeSet<String> {
    let folder = std::fs::read_dir(root.join("sys/class/net"));
    let cards = folder.into_iter().flatten().flatten().map(|c| c.path());
    cards
        .filter(|card| card.join("device").exists())
        .filter(|card| text(&card.join("addr_assign_type")).as_deref() == Some("0"))
        .filter_map(|card| text(&card.join("address")))
        .filter(|address| address.chars().any(|c| c != '0' && c != ':'))
        .collect()
}

impl Place {
    /// Here. `root` is `/`.
    fn here(root: &Path, data_dir: &Path) -> Self {
        let board = "sys/firmware/devicetree/base/serial-number";
        let machine = text(&root.join("etc/machine-id"));
        let folder = std::fs::canonicalize(data_dir).ok();
        Self {
            board: text(&root.join(board)),
            cards: cards(root),
            // What systemd writes before the first boot is done names no machine.
            machine: machine.filter(|m| m.len() == 32 && m.bytes().all(|b| b.is_ascii_hexdigit())),
            folder: folder.map(|f| f.to_string_lossy().into_owned()),
        }
    }

    /// Whether both are surely not the same. The most certain mark that both have decides between
    /// machines: some systems make a new machine id at each boot.
    fn differs(&self, other: &Self) -> bool {
        let differ = |a: &Option<String>, b: &Option<String>| match (a, b) {
            (Some(a), Some(b)) => Some(a != b),
            _ => None,
        };
        let cards = !self.cards.is_empty() && !other.cards.is_empty();
        let machine = differ(&self.board, &other.board)
            .or_else(|| cards.then(|| self.cards.is_disjoint(&other.cards)))
            .or_else(|| differ(&self.machine, &other.machine));
        machine == Some(true) || differ(&self.folder, &other.folder) == Some(true)
    }
}

/// What is kept.
#[derive(Serialize, Deserialize)]
struct Name {
    id: String,
    #[serde(flatten)]
    place: Place,
}

/// The name that no other gateway has: 16 hex digits, made by chance at the first start. It is in the
/// hop lists of messages that go to other brokers, and in the keys that they are given. A data
/// directory that was copied (a cloned card, a restored backup) has a new one when it is used on
/// another machine or at another path.
///
/// # Errors
/// The store can not be read or written.
pub(super) fn gateway_id(store: &Store, data_dir: &Path) -> Result<Arc<str>, String> {
    named(store, Place::here(Path::new("/"), data_dir))
}

fn named(store: &Store, here: Place) -> Result<Arc<str>, String> {
    let documents = store.documents("gateway");
    let found = documents.get(KEY).map_err(|e| e.to_string())?;
    let found = found.and_then(|document| {
        // The first form was the bare id.
        serde_json::from_slice::<Name>(&document.body)
            .or_else(|_| {
                String::from_utf8(document.body.to_vec()).map(|id| Name {
                    id,
                    place: Place::default(),
                })
            })
            .ok()
    });
    let found = found.filter(|name| !name.id.is_empty());
    if let Some(name) = &found {
        if name.place == here {
            return Ok(Arc::from(name.id.as_str()));
        }
    }
    let id = match found {
        Some(name) if !name.place.differs(&here) => name.id,
        old => {
            // Its low half counts.
            let id = format!("{:016x}", TraceId::unique().0 >> 64);
            if let Some(old) = old {
                tracing::warn!(
                    event = iotedge_telemetry::event::LIFECYCLE,
                    old = old.id,
                    new = id,
                    "the data directory was copied from another place: this gateway has a name of its own now"
                );
            }
            id
        }
    };
    let name = Name { id, place: here };
    let body = serde_json::to_string(&name).map_err(|e| e.to_string())?;
    documents
        .put(KEY, body, Expect::Any, None)
        .map_err(|e| e.to_string())?;
    Ok(Arc::from(name.id))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// A machine's files below a folder.
    fn machine(board: Option<&str>, card: Option<&str>, id: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        if let Some(board) = board {
            write(
                "sys/firmware/devicetree/base/serial-number",
                &format!("{board}\0"),
            );
        }
        if let Some(card) = card {
            write("sys/class/net/eth0/address", card);
            write("sys/class/net/eth0/addr_assign_type", "0\n");
            write("sys/class/net/eth0/device/x", "");
        }
        write("sys/class/net/docker0/address", "02:42:00:00:00:01\n");
        write("sys/class/net/docker0/addr_assign_type", "3\n");
        write("etc/machine-id", &format!("{id:0>32}\n"));
        root
    }

    struct Gateway {
        store: Store,
        dir: tempfile::TempDir,
    }

    impl Gateway {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let options = iotedge_store::Options {
                min_free_disk: 0,
                ..iotedge_store::Options::default()
            };
            let (store, _) = Store::open(dir.path(), options).unwrap();
            Self { store, dir }
        }

        fn id(&self, machine: &tempfile::TempDir) -> Arc<str> {
            let here = Place::here(machine.path(), self.dir.path());
            named(&self.store, here).unwrap()
        }
    }

    #[test]
    fn a_card_in_another_board_has_another_name_and_keeps_it() {
        let gateway = Gateway::new();
        let first = machine(Some("10000000a"), Some("b8:27:eb:00:00:01"), "1");
        // Cloned: the machine id is the original's.
        let second = machine(Some("10000000b"), Some("b8:27:eb:00:00:02"), "1");
        let id = gateway.id(&first);
        assert_eq!(id.len(), 16);
        assert_eq!(gateway.id(&first), id);
        let other = gateway.id(&second);
        assert_ne!(other, id);
        assert_eq!(gateway.id(&second), other);
    }

    #[test]
    fn a_machine_stays_itself_where_its_surest_mark_does() {
        let gateway = Gateway::new();
        let id = gateway.id(&machine(Some("a"), Some("01"), "1"));
        // Another card, and a machine id made at each boot.
        assert_eq!(gateway.id(&machine(Some("a"), Some("02"), "2")), id);
        assert_eq!(gateway.id(&machine(None, Some("02"), "3")), id);
        let other = gateway.id(&machine(None, Some("03"), "3"));
        assert_ne!(other, id);
        let last = gateway.id(&machine(None, None, "3"));
        assert_eq!(last, other);
        assert_ne!(gateway.id(&machine(None, None, "4")), last);
    }

    #[test]
    fn a_copy_at_another_path_has_another_name_and_an_old_name_is_kept() {
        let gateway = Gateway::new();
        let here = machine(Some("a"), None, "1");
        let documents = gateway.store.documents("gateway");
        documents
            .put(KEY, "0123456789abcdef", Expect::Any, None)
            .unwrap();
        assert_eq!(&*gateway.id(&here), "0123456789abcdef");
        let elsewhere = tempfile::tempdir().unwrap();
        let copied = Place::here(here.path(), elsewhere.path());
        assert_ne!(&*named(&gateway.store, copied).unwrap(), "0123456789abcdef");
    }
}
