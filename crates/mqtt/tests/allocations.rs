//! The hot path allocates nothing: a PUBLISH is read by references to the buffer and written into
//! room that is there. In a file of its own, since it counts what the whole process allocates.
#![allow(clippy::unwrap_used)] // the helpers of a test fail as the test does

use std::alloc::{GlobalAlloc, Layout, System};
use std::num::NonZeroU16;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::BytesMut;
use iotedge_mqtt::{
    Decoder, Packet, PacketId, Properties, PublishHead, PublishPropertiesRef, QoS, Role, Version,
    encode_publish_for,
};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller says.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller says.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller says.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_publish_is_read_and_written_without_an_allocation() {
    // One test, since the counter is the whole process's.
    for version in [Version::V311, Version::V5] {
        read_and_write(version);
    }
}

fn read_and_write(version: Version) {
    let mut buf = BytesMut::from(match version {
        Version::V311 => &b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00"[..],
        Version::V5 => b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x00",
    });
    let mut decoder = Decoder::new(Role::Server, 1000);
    decoder.decode(&mut buf).unwrap().unwrap();
    buf.reserve(100_000);
    let mut head = PublishHead {
        topic: "a/topic",
        qos: QoS::AtLeastOnce,
        retain: false,
        dup: false,
        packet_id: PacketId::new(1),
        properties: PublishPropertiesRef::default(),
    };

    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for _ in 0..100 {
        encode_publish_for(version, &head, &[7; 64], &mut buf).unwrap();
    }
    let written = ALLOCATIONS.load(Ordering::Relaxed);
    assert_eq!(written - before, 0, "into room that is there");

    let mut bytes = 0;
    while let Some(packet) = decoder.decode(&mut buf).unwrap() {
        let Packet::Publish(publish) = packet else {
            panic!("PUBLISH");
        };
        bytes += publish.payload.len();
    }
    let read = ALLOCATIONS.load(Ordering::Relaxed);
    assert_eq!(bytes, 6400);
    assert!(
        read - written <= 1,
        "one count of references for the whole buffer"
    );

    let message = Properties {
        content_type: Some("text/plain".into()),
        ..Properties::default()
    };
    head.properties = PublishPropertiesRef {
        message_expiry: Some(60),
        topic_alias: NonZeroU16::new(3),
        subscription_ids: &[1, 2, 3],
        message: Some(&message),
    };
    let mut out = BytesMut::with_capacity(100_000);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for _ in 0..100 {
        encode_publish_for(version, &head, &[7; 64], &mut out).unwrap();
    }
    let written = ALLOCATIONS.load(Ordering::Relaxed);
    let built = usize::from(version == Version::V5);
    assert_eq!(
        written - before,
        built,
        "properties by reference, built once"
    );
}
