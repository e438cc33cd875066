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
