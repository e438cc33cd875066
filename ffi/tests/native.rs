//! `iotedge.h`, called as a C program calls it.
#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used)] // C's side; helpers fail as tests

use std::ffi::{CStr, CString, c_void};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use iotedge::native::iotedge_status::*;
use iotedge::native::*;

#[path = "support/server.rs"]
mod server;

use server::Server;

unsafe extern "C" fn count(_: *const iotedge_message, data: *mut c_void) {
    unsafe { &*data.cast::<AtomicU32>() }.fetch_add(1, Ordering::Relaxed);
}

fn options(port: u16, texts: &[CString; 4]) -> iotedge_options {
    let mut options = std::mem::MaybeUninit::uninit();
    unsafe { iotedge_options_init(options.as_mut_ptr()) };
    let mut options = unsafe { options.assume_init() };
    options.port = port;
    options.host = texts[0].as_ptr();
    options.ca_file = texts[1].as_ptr();
    options.cert_file = texts[2].as_ptr();
    options.key_file = texts[3].as_ptr();
    options
}

fn texts(dir: &Path) -> [CString; 4] {
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let files = ["rootCA.crt", "cert.pem", "privkey.pem"].map(path);
    let [ca, certificate, key] = files;
    ["localhost".to_owned(), ca, certificate, key].map(|text| CString::new(text).unwrap())
}

fn process_until_lost(client: *mut iotedge_client) {
    let start = Instant::now();
    loop {
        match unsafe { iotedge_client_process(client, 20) } {
            IOTEDGE_OK => assert!(start.elapsed() < server::PATIENCE, "waited too long"),
            other => return assert_eq!(other, IOTEDGE_CONNECTION_LOST),
        }
    }
}

#[test]
fn what_replaces_a_subscription_needs_no_room_besides_it() {
    let server = Server::start(2, |number, peer| {
        peer.accept();
        peer.grant();
        if number == 1 {
            peer.grant();
            peer.tell("t", "once");
            peer.until_gone();
        }
    });
    let texts = texts(server.certificates.dir());
    let mut options = options(server.port, &texts);
    options.max_subscriptions = 1;
    let mut client = std::ptr::null_mut();
    let counted = [AtomicU32::new(0), AtomicU32::new(0)];
    let count_of = |index: usize| counted[index].load(Ordering::Relaxed);
    unsafe {
        assert_eq!(
            iotedge_client_new(&raw const options, &raw mut client),
            IOTEDGE_OK
        );
        let subscribe = |filter: &CStr, counter: &AtomicU32| {
            let data = std::ptr::from_ref(counter).cast_mut().cast();
            iotedge_client_subscribe(client, filter.as_ptr(), 1, Some(count), data)
        };
        let [old, new] = &counted;
        assert_eq!(iotedge_client_connect(client), IOTEDGE_OK);
        assert_eq!(subscribe(c"t", old), IOTEDGE_OK);
        process_until_lost(client);
        assert_eq!(iotedge_client_connect(client), IOTEDGE_OK);
        assert_eq!(subscribe(c"t", old), IOTEDGE_OK, "again, after the loss");
        assert_eq!(
            subscribe(c"t", new),
            IOTEDGE_OK,
            "again, with another callback"
        );
        assert_eq!(
            subscribe(c"u", new),
            IOTEDGE_LIMIT_EXCEEDED,
            "another filter"
        );
        let start = Instant::now();
        while count_of(0) + count_of(1) == 0 {
            assert_eq!(iotedge_client_process(client, 20), IOTEDGE_OK);
            assert!(start.elapsed() < server::PATIENCE, "waited too long");
        }
        iotedge_client_free(client);
    }
    assert_eq!(
        [count_of(0), count_of(1)],
        [0, 1],
        "only the last callback is called"
    );
    server.finish();
}
