#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::TakerId;

/// A message and its row made of a few dice, so that neighbours often have something in common.
fn made(id: u64, dice: [u8; 6], payload: Vec<u8>) -> (Message, TakerRow) {
    let [who, topic, when, flags, qos, more] = dice;
    let topic = Topic::new(&format!("a/{}", topic % 3)).unwrap();
    let qos = QoS::try_from(qos % 3).unwrap();
    let mut message = Message::internal(&format!("s{}", who % 3), topic, payload.into(), qos);
    message.id = MessageId(id);
    message.trace = TraceId(u128::from(id) << 64 | u128::from(more));
    message.hops = more % 4;
    message.client_id = Arc::from(format!("client-{}", who % 5));
    message.retain = flags & 1 != 0;
    message.trusted = flags & 2 != 0;
    message.expiry = (flags & 4 != 0).then_some(u32::MAX - u32::from(more));
    message.accepted_at = UnixMillis(1_700_000_000_000 + u64::from(when) - 100);
    message.properties = (flags & 8 != 0).then(|| {
        Box::new(Properties {
            correlation_data: Some(vec![more, 0, 255]),
            ..Properties::default()
        })
    });
    let identifiers = if flags & 16 != 0 {
        vec![1, 268_435_455]
    } else {
        vec![]
    };
    let row = TakerRow {
        taker: TakerId(1),
        qos: QoS::try_from(when % 2).unwrap(),
        retain: flags & 32 != 0,
        identifiers: identifiers.into(),
    };
    (message, row)
}

fn packed(all: &[(Message, TakerRow)]) -> (u64, Vec<u8>, Vec<u8>) {
    let mut packer = Packer::default();
    for (message, row) in all {
        let cost = i64::try_from(message.cost()).unwrap();
        packer
            .push(&mut Encoder::default(), message, row, cost)
            .unwrap();
    }
    let first = packer.first;
    let (index, body) = packer.finish((7, "route", "cloud/out"));
    (first, index.to_vec(), body.to_vec())
}

fn messages() -> impl Strategy<Value = Vec<(Message, TakerRow)>> {
    let one = (
        1u64..4,
        any::<[u8; 6]>(),
        prop::collection::vec(any::<u8>(), 0..40),
    );
    (0u64..1 << 40, prop::collection::vec(one, 1..=MOST)).prop_map(|(first, all)| {
        let mut id = first;
        let with_id = |(apart, dice, payload)| {
            id += apart;
            made(id, dice, payload)
        };
        all.into_iter().map(with_id).collect()
    })
}

proptest! {
    #[test]
    fn what_was_packed_comes_out_as_it_was(all in messages()) {
        let (first, packed_index, body) = packed(&all);
        let ids = index(first, &packed_index).unwrap();
        let out = rows(&ids, &body).unwrap();
        let own = origin(&body).unwrap();
        prop_assert_eq!((own.taker, own.kind, own.name), (7, "route", "cloud/out"));
        prop_assert_eq!((own.first, own.ids), (first, &*packed_index));
        prop_assert_eq!(out.len(), all.len());
        for ((row, (message, taker)), (id, cost)) in out.iter().zip(&all).zip(&ids) {
            prop_assert_eq!(&row.message, message);
            prop_assert_eq!((row.qos, row.retain), (taker.qos, taker.retain));
            prop_assert_eq!(&*row.identifiers, &*taker.identifiers);
            prop_assert_eq!(*id, message.id.0);
            prop_assert_eq!(*cost, i64::try_from(message.cost()).unwrap());
        }
    }

    #[test]
    fn a_changed_byte_is_found(all in messages(), at in any::<prop::sample::Index>(), by in 1u8..) {
        let (first, packed_index, mut body) = packed(&all);
        let at = at.index(body.len());
        body[at] ^= by;
        prop_assert!(rows(&index(first, &packed_index).unwrap(), &body).is_none());
        prop_assert!(origin(&body).is_none());
    }

    /// Also where the checksum is right.
    #[test]
    fn any_bytes_are_read_without_a_panic(
        ids in prop::collection::vec(any::<u8>(), 0..30),
        body in prop::collection::vec(any::<u8>(), 0..200),
        all in messages(),
        at in any::<prop::sample::Index>(),
        by in any::<u8>(),
    ) {
        let found = index(7, &ids);
        prop_assert!(found.as_ref().is_none_or(|index| index.len() <= MOST));
        for form in [FIRST_FORM, FORM] {
            let mut body = body.clone();
            body.insert(0, form);
            body.extend(checksum(&body).to_le_bytes());
            rows(found.as_deref().unwrap_or_default(), &body);
            origin(&body);
        }
        let (first, packed_index, mut body) = packed(&all);
        body.truncate(body.len() - 4);
        let at = at.index(body.len());
        body[at] ^= by;
        body.extend(checksum(&body).to_le_bytes());
        rows(&index(first, &packed_index).unwrap(), &body);
        origin(&body);
    }

    /// Those that the first version of parcels left.
    #[test]
    fn a_body_of_the_first_form_is_read(all in messages()) {
        let (first, packed_index, mut body) = packed(&all);
        let messages = content(&body).unwrap().0.len();
        body.truncate(1 + messages);
        body[0] = FIRST_FORM;
        body.extend(checksum(&body).to_le_bytes());
        prop_assert!(is_whole(&body) && origin(&body).is_none());
        let out = rows(&index(first, &packed_index).unwrap(), &body).unwrap();
        prop_assert_eq!(out.len(), all.len());
        prop_assert_eq!(&out[0].message, &all[0].0);
    }
}

/// Its parcels do not say whose they are; new ones beside them do.
#[test]
fn a_file_of_the_version_before_is_opened_read_and_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let options = || crate::Options {
        min_free_disk: 0,
        ..crate::Options::default()
    };
    let append = |store: &crate::Store, ids: std::ops::Range<u64>| {
        let taker = store.create_taker(crate::TakerKind::Route, "r");
        let entries = ids.map(|id| {
            let (message, row) = made(id, [0; 6], vec![7; 100]);
            let row = TakerRow { taker, ..row };
            crate::Append::new(Arc::new(message), vec![row], None)
        });
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let done = Box::new(move |outcome| tell.send(outcome).unwrap());
        store.append(entries.collect(), Some(done));
        told.recv().unwrap().unwrap();
        taker
    };
    let (store, _) = crate::Store::open(dir.path(), options()).unwrap();
    append(&store, 1..200);
    store.close();
    let file = rusqlite::Connection::open(dir.path().join("queue.db")).unwrap();
    let mut select = file.prepare("SELECT id, body FROM bodies").unwrap();
    let bodies = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    let bodies: Vec<(i64, Vec<u8>)> = bodies.unwrap().map(Result::unwrap).collect();
    drop(select);
    for (id, mut body) in bodies {
        let messages = content(&body).unwrap().0.len();
        body.truncate(1 + messages);
        body[0] = FIRST_FORM;
        body.extend(checksum(&body).to_le_bytes());
        let update = "UPDATE bodies SET body = ?2 WHERE id = ?1";
        file.execute(update, (id, body)).unwrap();
    }
    file.execute_batch(
        "ALTER TABLE messages DROP COLUMN sum; DELETE FROM meta WHERE name LIKE 'taker %';
         PRAGMA user_version = 4",
    )
    .unwrap();
    drop(file);
    for again in 0..2 {
        let (store, opened) = crate::Store::open(dir.path(), options()).unwrap();
        assert!(opened.damaged.is_empty(), "{:?}", opened.damaged);
        let next = opened.next_message_id;
        let taker = append(&store, next..next + 10);
        let rows = store.read(taker, None, usize::MAX, usize::MAX).unwrap();
        let ids: Vec<u64> = rows.iter().map(|row| row.message.id.0).collect();
        assert_eq!(ids.len(), 199 + 10 * (again + 1));
        assert!(ids.is_sorted());
        store.close();
    }
    // Damaged, what is whole of either form comes over.
    crate::file::suspect(&dir.path().join("queue.db"));
    let file = rusqlite::Connection::open(dir.path().join("queue.db")).unwrap();
    let spoil = "UPDATE bodies SET body = x'0102' WHERE id = 1";
    file.execute_batch(spoil).unwrap();
    drop(file);
    let (store, opened) = crate::Store::open(dir.path(), options()).unwrap();
    assert_eq!((opened.damaged.len(), opened.damaged[0].lost_rows), (1, 64));
    let taker = store.find_taker(crate::TakerKind::Route, "r").unwrap();
    let rows = store.read(taker, None, usize::MAX, usize::MAX).unwrap();
    assert_eq!(rows.len(), 199 + 20 - 64);
    assert!(store.account(taker).balances());
}
