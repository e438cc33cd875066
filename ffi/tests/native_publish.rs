//! `iotedge.h`: messages that nobody waits for, and those that somebody does.
#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used)] // C's side; helpers fail as tests

use std::ffi::{CStr, CString, c_int, c_void};
use std::sync::Mutex;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use iotedge::native::iotedge_status::*;
use iotedge::native::*;
use iotedge_mqtt::{Packet, QoS};

#[path = "support/server.rs"]
mod server;

use server::{PATIENCE, Peer, Server, channel};

/// A client that the test's end frees. Several threads may have it, as the header says.
struct Client(*mut iotedge_client);

unsafe impl Send for Client {}
unsafe impl Sync for Client {}

impl Drop for Client {
    fn drop(&mut self) {
        unsafe { iotedge_client_free(self.0) };
    }
}

type Ends = Mutex<Vec<iotedge_status>>;

unsafe extern "C" fn note(status: iotedge_status, data: *mut c_void) {
    unsafe { &*data.cast::<Ends>() }
        .lock()
        .unwrap()
        .push(status);
}

impl Client {
    fn connect(server: &Server, change: impl FnOnce(&mut iotedge_options)) -> Self {
        let file = |name| CString::new(server.certificates.path(name).to_str().unwrap()).unwrap();
        let files = ["rootCA.crt", "cert.pem", "privkey.pem"].map(file);
        let mut options = std::mem::MaybeUninit::uninit();
        unsafe { iotedge_options_init(options.as_mut_ptr()) };
        let mut options = unsafe { options.assume_init() };
        options.port = server.port;
        options.host = c"localhost".as_ptr();
        options.ca_file = files[0].as_ptr();
        options.cert_file = files[1].as_ptr();
        options.key_file = files[2].as_ptr();
        options.reconnect_min_ms = 1;
        options.reconnect_max_ms = 10;
        change(&mut options);
        let mut client = std::ptr::null_mut();
        unsafe {
            let made = iotedge_client_new(&raw const options, &raw mut client);
            assert_eq!(made, IOTEDGE_OK);
            assert_eq!(iotedge_client_connect(client), IOTEDGE_OK);
        }
        Self(client)
    }

    fn post(&self, payload: &[u8], qos: c_int, ends: &Ends) -> iotedge_status {
        let data = std::ptr::from_ref(ends).cast_mut().cast();
        let (bytes, len) = (payload.as_ptr(), payload.len());
        unsafe {
            iotedge_client_publish(
                self.0,
                c"t".as_ptr(),
                bytes,
                len,
                qos,
                false,
                Some(note),
                data,
            )
        }
    }

    fn wait(&self, payload: &[u8], qos: c_int, timeout_ms: u32) -> iotedge_status {
        let (bytes, len) = (payload.as_ptr(), payload.len());
        unsafe { iotedge_publish_wait(self.0, c"t".as_ptr(), bytes, len, qos, false, timeout_ms) }
    }

    fn process(&self, timeout_ms: u32) -> iotedge_status {
        unsafe { iotedge_client_process(self.0, timeout_ms) }
    }

    fn until(&self, condition: impl Fn() -> bool) {
        let start = Instant::now();
        while !condition() {
            let status = self.process(20);
            assert!(
                matches!(status, IOTEDGE_OK | IOTEDGE_RECONNECTING),
                "{status:?}"
            );
            assert!(start.elapsed() < PATIENCE, "waited too long");
        }
    }

    fn error(&self) -> String {
        let text = unsafe { CStr::from_ptr(iotedge_client_error(self.0)) };
        text.to_str().unwrap().to_owned()
    }
}

fn ends(ends: &Ends) -> Vec<iotedge_status> {
    ends.lock().unwrap().clone()
}

fn acknowledge(peer: &mut Peer) -> Vec<u8> {
    let publish = peer.publish();
    peer.send(&Packet::PubAck(publish.packet_id.unwrap().into()));
    publish.payload.to_vec()
}

fn release(go: &Receiver<()>) {
    go.recv_timeout(PATIENCE).expect("the test goes on");
}

#[test]
fn a_publish_waits_for_nothing_and_its_end_is_told_in_process() {
    let (go, gate) = channel();
    let server = Server::start(1, move |_, peer| {
        peer.accept();
        release(&gate);
        for number in 0..5_u8 {
            assert_eq!(acknowledge(peer), [number]);
        }
        peer.until_gone();
    });
    let client = Client::connect(&server, |_| {});
    let told = Ends::default();
    for number in 0..5_u8 {
        assert_eq!(client.post(&[number], 1, &told), IOTEDGE_OK);
    }
    assert_eq!(ends(&told), []);
    assert_eq!(unsafe { iotedge_client_unacknowledged(client.0) }, 5);
    go.send(()).unwrap();
    client.until(|| ends(&told).len() == 5);
    assert_eq!(ends(&told), [IOTEDGE_OK; 5]);
    assert_eq!(unsafe { iotedge_client_unacknowledged(client.0) }, 0);
    drop(client);
    server.finish();
}

#[test]
fn messages_go_out_in_order_however_few_may_be_on_their_way() {
    let server = Server::start(1, |_, peer| {
        peer.accept();
        for number in 0..100_u8 {
            assert_eq!(acknowledge(peer), [number]);
        }
        peer.until_gone();
    });
    let client = Client::connect(&server, |options| options.max_in_flight = 3);
    let told = Ends::default();
    for number in 0..100_u8 {
        assert_eq!(client.post(&[number], 1, &told), IOTEDGE_OK);
    }
    client.until(|| ends(&told).len() == 100);
    drop(client);
    server.finish();
}

#[test]
fn what_waits_is_limited_by_its_bytes() {
    let server = Server::start(1, |_, peer| {
        peer.accept();
        while peer.until_gone().is_some() {}
    });
    let client = Client::connect(&server, |options| options.max_queued_bytes = 10_000);
    let told = Ends::default();
    let mut taken = 0;
    while client.post(&[7; 1000], 1, &told) == IOTEDGE_OK {
        taken += 1;
        assert!(taken < 20, "no end");
    }
    assert_eq!(taken, 8);
    assert_eq!(client.post(&[7; 1000], 1, &told), IOTEDGE_LIMIT_EXCEEDED);
    assert!(client.error().contains("10000 bytes"), "{}", client.error());
    // A free client tells what is not acknowledged.
    drop(client);
    assert_eq!(ends(&told), [IOTEDGE_CONNECTION_LOST; 8]);
    server.finish();
}

#[test]
fn what_was_not_acknowledged_goes_again_on_the_next_connection_and_qos_2_does_not() {
    let server = Server::start(2, |number, peer| {
        peer.accept();
        if number == 0 {
            let first: Vec<_> = (0..3).map(|_| peer.publish()).collect();
            assert!(first.iter().all(|publish| !publish.dup));
            return;
        }
        let again = peer.publish();
        assert_eq!((&again.payload[..], again.dup), (&[1][..], true));
        peer.send(&Packet::PubAck(again.packet_id.unwrap().into()));
        let after = peer.publish();
        assert_eq!(
            (&after.payload[..], after.dup, after.qos),
            (&[3][..], true, QoS::AtLeastOnce)
        );
        peer.send(&Packet::PubAck(after.packet_id.unwrap().into()));
        peer.until_gone();
    });
    let client = Client::connect(&server, |options| options.auto_reconnect = true);
    let [first, second, third] = [Ends::default(), Ends::default(), Ends::default()];
    assert_eq!(client.post(&[1], 1, &first), IOTEDGE_OK);
    assert_eq!(client.post(&[2], 2, &second), IOTEDGE_OK);
    assert_eq!(client.post(&[3], 1, &third), IOTEDGE_OK);
    client.until(|| !ends(&third).is_empty());
    assert_eq!(ends(&first), [IOTEDGE_OK]);
    assert_eq!(ends(&second), [IOTEDGE_CONNECTION_LOST]);
    assert_eq!(ends(&third), [IOTEDGE_OK]);
    drop(client);
    server.finish();
}

#[test]
fn without_reconnecting_a_lost_connection_ends_them_all() {
    let server = Server::start(1, |_, peer| {
        peer.accept();
        peer.publish();
    });
    let client = Client::connect(&server, |_| {});
    let told = Ends::default();
    assert_eq!(client.post(&[1], 1, &told), IOTEDGE_OK);
    let start = Instant::now();
    while client.process(20) == IOTEDGE_OK {
        assert!(start.elapsed() < PATIENCE, "waited too long");
    }
    assert_eq!(ends(&told), [IOTEDGE_CONNECTION_LOST]);
    assert_eq!(client.post(&[2], 1, &told), IOTEDGE_NOT_CONNECTED);
    assert_eq!(ends(&told).len(), 1, "a publish that fails tells nothing");
    drop(client);
    server.finish();
}

#[test]
fn a_wait_ends_with_the_acknowledgement_or_with_its_time() {
    let (go, gate) = channel();
    let server = Server::start(1, move |_, peer| {
        peer.accept();
        assert_eq!(acknowledge(peer), [1]);
        assert_eq!(peer.publish().payload[..], [2]);
        release(&gate);
        peer.until_gone();
    });
    let client = Client::connect(&server, |_| {});
    assert_eq!(client.wait(&[1], 1, 10_000), IOTEDGE_OK);
    let start = Instant::now();
    assert_eq!(client.wait(&[2], 1, 200), IOTEDGE_TIMEOUT);
    assert!(start.elapsed() >= Duration::from_millis(200));
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(client.wait(&[3], 0, 1000), IOTEDGE_OK);
    go.send(()).unwrap();
    drop(client);
    server.finish();
}

#[test]
fn threads_publish_while_another_one_processes() {
    const EACH: usize = 50;
    let server = Server::start(1, |_, peer| {
        peer.accept();
        for _ in 0..4 * EACH {
            acknowledge(peer);
        }
        peer.until_gone();
    });
    let client = Client::connect(&server, |_| {});
    let told = Ends::default();
    let slowest = Mutex::new(Duration::ZERO);
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                for _ in 0..EACH {
                    let start = Instant::now();
                    assert_eq!(client.post(b"x", 1, &told), IOTEDGE_OK);
                    let mut slowest = slowest.lock().unwrap();
                    *slowest = slowest.max(start.elapsed());
                }
            });
            threads.spawn(|| {
                for _ in 0..EACH {
                    assert_eq!(client.wait(b"y", 1, 20_000), IOTEDGE_OK);
                }
            });
        }
        // A long wait that every publish ends.
        let start = Instant::now();
        while ends(&told).len() < 2 * EACH {
            let status = client.process(50);
            assert!(matches!(status, IOTEDGE_OK | IOTEDGE_BUSY), "{status:?}");
            assert!(start.elapsed() < PATIENCE, "waited too long");
        }
    });
    assert_eq!(ends(&told), [IOTEDGE_OK; 2 * EACH]);
    drop(client);
    server.finish();
}

#[test]
fn the_descriptor_tells_when_there_is_something_to_do() {
    let (go, gate) = channel();
    let server = Server::start(1, move |_, peer| {
        peer.accept();
        release(&gate);
        for number in 0..3_u8 {
            peer.tell("t", &number.to_string());
        }
        assert_eq!(acknowledge(peer), [1]);
        // The keep-alive is the descriptor's matter, too.
        let mut pings = 0;
        while let Some(packet) = peer.receive() {
            if packet == Packet::PingReq {
                pings += 1;
                peer.send(&Packet::PingResp);
            }
        }
        assert!(pings > 0);
    });
    let client = Client::connect(&server, |options| options.keep_alive_s = 1);
    let fd = unsafe { iotedge_client_fd(client.0) };
    assert!(fd >= 0);
    let ready = |time_ms: c_int| {
        let mut poll = libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        unsafe { libc::poll(&raw mut poll, 1, time_ms) == 1 }
    };
    assert_eq!(client.process(0), IOTEDGE_OK);
    assert!(!ready(0), "nothing has happened");
    let told = Ends::default();
    assert_eq!(client.post(&[1], 1, &told), IOTEDGE_OK);
    go.send(()).unwrap();
    let start = Instant::now();
    let mut turns = 0;
    while start.elapsed() < Duration::from_millis(1500) {
        if ready(500) {
            assert_eq!(client.process(0), IOTEDGE_OK);
            turns += 1;
        }
    }
    assert_eq!(ends(&told), [IOTEDGE_OK]);
    assert!(turns < 50, "{turns} turns: the descriptor is always ready");
    assert_eq!(unsafe { iotedge_client_fd(client.0) }, fd);
    drop(client);
    server.finish();
}
