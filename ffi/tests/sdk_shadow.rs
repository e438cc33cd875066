//! Shadows as programs of the SDK use them: requests and their answers, deltas, versions, and what
//! each call says when it cannot be done.
#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used)] // C's side; helpers fail as tests

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use iotedge::compat::*;
use iotedge_mqtt::{Packet, QoS, SubAckCode};

#[path = "support/sdk.rs"]
mod sdk;
#[path = "support/server.rs"]
mod server;

use sdk::{Sdk, Seen, note};
use server::{Peer, Server, message};

const ACCEPTED: &str = "$aws/things/lamp/shadow/update/accepted";
const REJECTED: &str = "$aws/things/lamp/shadow/update/rejected";
const DELTA: &str = "$aws/things/lamp/shadow/update/delta";
const DOCUMENT: &CStr = c"{\"state\":{\"reported\":{\"on\":true}}, \"clientToken\":\"t-1\"}";

/// Tokens and versions are the process's: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn init(sdk: &Sdk) -> c_int {
    let params = ShadowInitParameters {
        host: sdk.init.host,
        port: sdk.init.port,
        root_ca: sdk.init.root_ca,
        client_crt: sdk.init.device_cert,
        client_key: sdk.init.private_key,
        enable_auto_reconnect: 0,
        disconnect_handler: None,
    };
    unsafe { iotedge_compat_shadow_init(sdk.client(), &raw const params, &raw const sdk.config) }
}

fn connect(sdk: &Sdk, delete_handler: Option<MessageHandler>) -> c_int {
    let params = ShadowConnectParameters {
        thing_name: c"lamp".as_ptr(),
        client_id: c"device".as_ptr(),
        client_id_len: 0,
        delete_handler,
    };
    unsafe { aws_iot_shadow_connect(sdk.client(), &raw const params) }
}

fn up(sdk: &Sdk) {
    assert_eq!(init(sdk), 0);
    assert_eq!(connect(sdk, None), 0);
}

/// Notes `thing action status document`.
unsafe extern "C" fn answered(
    thing: *const c_char,
    action: c_int,
    status: c_int,
    document: *const c_char,
    context: *mut c_void,
) {
    let text = |text| unsafe { CStr::from_ptr(text) }.to_string_lossy();
    let (thing, document) = (text(thing), text(document));
    Seen::of(context).note(format!("{thing} {action} {status} {document}"));
}

fn update(sdk: &Sdk, document: &CStr, seen: Option<&Seen>, seconds: u8, keep: bool) -> c_int {
    unsafe {
        aws_iot_shadow_update(
            sdk.client(),
            c"lamp".as_ptr(),
            document.as_ptr().cast_mut(),
            seen.map(|_| answered as _),
            seen.map_or(std::ptr::null_mut(), Seen::data),
            seconds,
            keep,
        )
    }
}

fn yield_until(sdk: &Sdk, done: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !done() {
        assert_eq!(aws_iot_shadow_yield(sdk.client(), 20), 0);
        assert!(start.elapsed() < server::PATIENCE, "waited too long");
    }
}

/// SUBSCRIBE to one filter with a QoS, granted.
fn granted(peer: &mut Peer, filter: &str, qos: QoS) {
    let subscribe = peer.grant();
    let (asked, options) = &subscribe.filters[0];
    assert_eq!((asked.as_str(), options.qos), (filter, qos));
}

fn left(peer: &mut Peer, filter: &str) {
    match peer.receive() {
        Some(Packet::Unsubscribe(unsubscribe)) => {
            assert_eq!(unsubscribe.filters[0].as_str(), filter);
            peer.send(&Packet::UnsubAck(unsubscribe.packet_id.into()));
        }
        other => panic!("UNSUBSCRIBE, not {other:?}"),
    }
}

fn request(peer: &mut Peer, topic: &str) -> String {
    let publish = peer.publish();
    assert_eq!(
        (publish.topic.as_str(), publish.qos),
        (topic, QoS::AtMostOnce)
    );
    String::from_utf8(publish.payload.to_vec()).unwrap()
}

#[test]
fn an_update_listens_for_its_answer_and_leaves_the_topics_when_it_has_come() {
    let _alone = alone();
    let server = Server::start(1, |_, peer| {
        let connect = peer.accept();
        assert_eq!((connect.keep_alive, connect.clean), (600, true));
        for answer in [ACCEPTED, REJECTED] {
            granted(peer, ACCEPTED, QoS::AtMostOnce);
            granted(peer, REJECTED, QoS::AtMostOnce);
            let document = request(peer, "$aws/things/lamp/shadow/update");
            assert_eq!(document.as_bytes(), DOCUMENT.to_bytes());
            peer.tell(answer, "{\"clientToken\":\"of another\"}");
            peer.tell(answer, "{\"clientToken\":\"t-1\",\"version\":3}");
            left(peer, ACCEPTED);
            left(peer, REJECTED);
        }
        assert_eq!(peer.until_gone(), None);
    });
    let sdk = Sdk::new(server.port, server.certificates.dir());
    up(&sdk);
    let seen = Seen::default();
    for number in [1, 2] {
        assert_eq!(update(&sdk, DOCUMENT, Some(&seen), 10, false), 0);
        yield_until(&sdk, || seen.len() == number);
    }
    let answer = "{\"clientToken\":\"t-1\",\"version\":3}";
    assert_eq!(
        seen.all(),
        [format!("lamp 1 2 {answer}"), format!("lamp 1 1 {answer}")]
    );
    assert_eq!(
        aws_iot_shadow_get_last_received_version(),
        0,
        "update/accepted does not count"
    );
    drop(sdk);
    server.finish();
}

#[test]
fn topics_that_are_kept_serve_the_next_request_and_without_a_callback_none_are_asked_for() {
    let _alone = alone();
    let server = Server::start(1, |_, peer| {
        peer.accept();
        request(peer, "$aws/things/lamp/shadow/update");
        request(peer, "$aws/things/lamp/shadow/update");
        granted(peer, ACCEPTED, QoS::AtMostOnce);
        granted(peer, REJECTED, QoS::AtMostOnce);
        for _ in 0..2 {
            request(peer, "$aws/things/lamp/shadow/update");
            peer.tell(ACCEPTED, "{\"clientToken\":\"t-1\"}");
        }
        assert_eq!(peer.until_gone(), None);
    });
    let sdk = Sdk::new(server.port, server.certificates.dir());
    up(&sdk);
    let seen = Seen::default();
    assert_eq!(update(&sdk, DOCUMENT, None, 10, true), 0, "no callback");
    assert_eq!(
        update(&sdk, c"{\"state\":{}}", Some(&seen), 10, true),
        0,
        "no token"
    );
    for number in [1, 2] {
        assert_eq!(update(&sdk, DOCUMENT, Some(&seen), 10, true), 0);
        yield_until(&sdk, || seen.len() == number);
    }
    drop(sdk);
    server.finish();
}

#[test]
fn a_request_without_an_answer_is_told_as_a_timeout() {
    let _alone = alone();
    let server = Server::start(1, |_, peer| {
        peer.accept();
        granted(peer, ACCEPTED, QoS::AtMostOnce);
        granted(peer, REJECTED, QoS::AtMostOnce);
        request(peer, "$aws/things/lamp/shadow/update");
        left(peer, ACCEPTED);
        left(peer, REJECTED);
        assert_eq!(peer.until_gone(), None);
    });
    let sdk = Sdk::new(server.port, server.certificates.dir());
    up(&sdk);
    let seen = Seen::default();
    assert_eq!(update(&sdk, DOCUMENT, Some(&seen), 1, false), 0);
    assert_eq!(aws_iot_shadow_yield(sdk.client(), 1), 0);
    assert_eq!(seen.len(), 0, "the second is not over");
    yield_until(&sdk, || seen.len() == 1);
    assert_eq!(seen.all(), ["lamp 1 0 "]);
    drop(sdk);
    server.finish();
}

#[test]
fn requests_and_subscriptions_have_their_places_and_no_more() {
    let _alone = alone();
    let server = Server::start(1, |_, peer| {
        peer.accept();
        granted(peer, ACCEPTED, QoS::AtMostOnce);
        granted(peer, REJECTED, QoS::AtMostOnce);
        request(peer, "$aws/things/lamp/shadow/update");
        assert_eq!(peer.until_gone(), None);
    });
    let mut sdk = Sdk::new(server.port, server.certificates.dir());
    sdk.config.max_shadow_acks = 1;
    sdk.config.num_subscribe_handlers = 2;
    up(&sdk);
    let seen = Seen::default();
    assert_eq!(update(&sdk, DOCUMENT, Some(&seen), 10, true), 0);
    assert_eq!(
        update(&sdk, DOCUMENT, Some(&seen), 10, true),
        -1,
        "one waits"
    );
    let delta = member(c"on", 8, std::ptr::null_mut(), 1);
    assert_eq!(register(&sdk, &delta), -34, "two subscriptions are there");
    drop(sdk);
    server.finish();
}

#[test]
fn a_refused_request_takes_no_place() {
    let _alone = alone();
    let server = Server::start(1, |_, peer| {
        peer.accept();
        for _ in 0..2 {
            // One of the two finds a place, and gives it back.
            granted(peer, ACCEPTED, QoS::AtMostOnce);
            left(peer, ACCEPTED);
        }
        assert_eq!(peer.until_gone(), None);
    });
    let mut sdk = Sdk::new(server.port, server.certificates.dir());
    sdk.config.num_subscribe_handlers = 1;
    up(&sdk);
    let seen = Seen::default();
    for _ in 0..2 {
        assert_eq!(update(&sdk, DOCUMENT, Some(&seen), 10, false), -34);
    }
    drop(sdk);
    server.finish();
}

#[test]
fn a_document_has_to_fit_the_buffer_and_waits_for_nothing_then() {
    let _alone = alone();
    let server = Server::start(1, |_, peer| {
        peer.accept();
        for _ in 0..2 {
            granted(peer, ACCEPTED, QoS::AtMostOnce);
            granted(peer, REJECTED, QoS::AtMostOnce);
            left(peer, ACCEPTED);
            left(peer, REJECTED);
        }
        assert_eq!(peer.until_gone(), None);
    });
    let mut sdk = Sdk::new(server.port, server.certificates.dir());
    sdk.config.max_shadow_acks = 1;
    sdk.config.tx_buf_len = 100;
    up(&sdk);
    let seen = Seen::default();
    let long = CString::new(format!(
        "{{\"x\":\"{}\",\"clientToken\":\"t\"}}",
        "y".repeat(80)
    ));
    let long = long.unwrap();
    for _ in 0..2 {
        assert_eq!(update(&sdk, &long, Some(&seen), 10, false), -33);
    }
    drop(sdk);
    server.finish();
}

#[test]
fn get_and_delete_send_a_token_that_counts_up() {
    let _alone = alone();
    let server = Server::start(1, |_, peer| {
        peer.accept();
        for (number, action) in ["get", "get", "delete"].into_iter().enumerate() {
            let topic = format!("$aws/things/lamp/shadow/{action}");
            let (accepted, rejected) = (format!("{topic}/accepted"), format!("{topic}/rejected"));
            granted(peer, &accepted, QoS::AtMostOnce);
            granted(peer, &rejected, QoS::AtMostOnce);
            let document = request(peer, &topic);
            assert_eq!(document, format!("{{\"clientToken\":\"device-{number}\"}}"));
            let answer = format!("{{\"clientToken\":\"device-{number}\",\"version\":9}}");
            peer.tell(if number == 1 { &rejected } else { &accepted }, &answer);
            left(peer, &accepted);
            left(peer, &rejected);
        }
        assert_eq!(peer.until_gone(), None);
    });
    let sdk = Sdk::new(server.port, server.certificates.dir());
    up(&sdk);
    let seen = Seen::default();
    let (lamp, client) = (c"lamp".as_ptr(), sdk.client());
    for number in 1..=3 {
        let code = unsafe {
            match number {
                3 => aws_iot_shadow_delete(client, lamp, Some(answered), seen.data(), 10, false),
                _ => aws_iot_shadow_get(client, lamp, Some(answered), seen.data(), 10, false),
            }
        };
        assert_eq!(code, 0);
        yield_until(&sdk, || seen.len() == number);
        assert_eq!(aws_iot_shadow_get_last_received_version(), 9);
    }
    let statuses: Vec<String> = seen.all().iter().map(|s| s[..8].to_owned()).collect();
    assert_eq!(statuses, ["lamp 0 2", "lamp 0 1", "lamp 2 2"]);
    drop(sdk);
    server.finish();
}

fn member(key: &'static CStr, kind: c_int, data: *mut c_void, length: usize) -> JsonStruct {
    JsonStruct {
        key: key.as_ptr(),
        data,
        data_length: length,
        kind,
        callback: None,
    }
}

fn register(sdk: &Sdk, delta: &JsonStruct) -> c_int {
    let pointer = std::ptr::from_ref(delta).cast_mut();
    unsafe { aws_iot_shadow_register_delta(sdk.client(), pointer) }
}

static TOLD: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Notes `key=value`.
unsafe extern "C" fn changed(value: *const c_char, len: u32, member: *mut JsonStruct) {
    let (value, key) = unsafe {
        let value = std::slice::from_raw_parts(value.cast::<u8>(), len as usize);
        (value, CStr::from_ptr((*member).key))
    };
    let text = format!(
        "{}={}",
        key.to_string_lossy(),
        String::from_utf8_lossy(value)
    );
    TOLD.lock().unwrap().push(text);
}

fn told() -> Vec<String> {
    std::mem::take(&mut *TOLD.lock().unwrap())
}

fn told_more_than(count: usize) -> bool {
    TOLD.lock().unwrap().len() > count
}

#[test]
fn a_delta_writes_values_of_the_type_and_tells_the_text_of_all() {
    let _alone = alone();
    let delta = "{\"version\":4,\"metadata\":{\"on\":{\"timestamp\":1}},\"state\":{\"on\":true,\
        \"small\":300,\"name\":\"long name\",\"short\":\"ab\",\"o\":{\"a\":[1]},\"t\":21.5}}";
    let server = Server::start(1, move |_, peer| {
        peer.accept();
        granted(peer, DELTA, QoS::AtMostOnce);
        peer.tell(DELTA, delta);
        peer.tell(DELTA, "no JSON {");
        assert_eq!(peer.until_gone(), None);
    });
    let sdk = Sdk::new(server.port, server.certificates.dir());
    up(&sdk);
    let (mut on, mut small, mut temperature) = (0_u8, 7_i8, 0_f32);
    let (mut name, mut short, mut object) = (*b"before\0", *b"xyz", *b"{}\0");
    let mut members = [
        member(c"on", 8, (&raw mut on).cast(), 0),
        member(c"small", 2, (&raw mut small).cast(), 1),
        member(c"name", 9, (&raw mut name).cast(), name.len()),
        member(c"short", 9, (&raw mut short).cast(), short.len()),
        member(c"o", 10, (&raw mut object).cast(), object.len()),
        member(c"t", 6, (&raw mut temperature).cast(), 4),
        member(c"absent", 8, std::ptr::null_mut(), 1),
    ];
    for member in &mut members {
        member.callback = Some(changed);
    }
    for member in &members {
        assert_eq!(register(&sdk, member), 0, "one subscription for all");
    }
    told();
    yield_until(&sdk, || told_more_than(5));
    let expected = [
        "on=true",
        "small=300",
        "name=long name",
        "short=ab",
        "o={\"a\":[1]}",
        "t=21.5",
    ];
    assert_eq!(told(), expected);
    assert_eq!((on, small, &name, &short), (1, 7, b"before\0", b"ab\0"));
    assert_eq!((&object, temperature), (b"{}\0", 21.5));
    assert_eq!(aws_iot_shadow_get_last_received_version(), 4);
    drop(sdk);
    server.finish();
}

#[test]
fn an_old_delta_is_dropped_unless_the_program_wants_it() {
    let _alone = alone();
    let (go, went) = server::channel::<()>();
    let server = Server::start(1, move |_, peer| {
        peer.accept();
        granted(peer, DELTA, QoS::AtMostOnce);
        let delta =
            |version: u32| format!("{{\"version\":{version},\"state\":{{\"n\":{version}}}}}");
        for versions in [&[5_u32, 5, 4, 6][..], &[4], &[2]] {
            versions
                .iter()
                .for_each(|version| peer.tell(DELTA, &delta(*version)));
            went.recv().unwrap();
        }
        assert_eq!(peer.until_gone(), None);
    });
    let sdk = Sdk::new(server.port, server.certificates.dir());
    up(&sdk);
    let mut n = 0_u32;
    let mut delta = member(c"n", 3, (&raw mut n).cast(), 4);
    delta.callback = Some(changed);
    told();
    assert_eq!(register(&sdk, &delta), 0);
    yield_until(&sdk, || told_more_than(1));
    assert_eq!(told(), ["n=5", "n=6"]);
    aws_iot_shadow_disable_discard_old_delta_msgs();
    go.send(()).unwrap();
    yield_until(&sdk, || told_more_than(0));
    assert_eq!(aws_iot_shadow_get_last_received_version(), 6);
    aws_iot_shadow_enable_discard_old_delta_msgs();
    aws_iot_shadow_reset_last_received_version();
    go.send(()).unwrap();
    yield_until(&sdk, || told_more_than(1));
    assert_eq!(told(), ["n=4", "n=2"]);
    go.send(()).unwrap();
    drop(sdk);
    server.finish();
}

#[test]
fn deltas_have_so_many_places_as_the_program_says() {
    let _alone = alone();
    let server = Server::start(1, |_, peer| {
        peer.accept();
        granted(peer, DELTA, QoS::AtMostOnce);
        assert_eq!(peer.until_gone(), None);
    });
    let mut sdk = Sdk::new(server.port, server.certificates.dir());
    sdk.config.max_shadow_deltas = 2;
    up(&sdk);
    let delta = member(c"n", 3, std::ptr::null_mut(), 4);
    assert_eq!([register(&sdk, &delta), register(&sdk, &delta)], [0, 0]);
    assert_eq!(register(&sdk, &delta), -1);
    drop(sdk);
    server.finish();
}

#[test]
fn who_asks_for_it_is_told_that_the_shadow_was_deleted() {
    let _alone = alone();
    let deleted = "$aws/things/lamp/shadow/delete/accepted";
    let server = Server::start(1, move |_, peer| {
        peer.accept();
        granted(peer, deleted, QoS::AtLeastOnce);
        peer.send(&message(deleted, b"{\"version\":2}", Some(1)));
        assert!(matches!(peer.receive(), Some(Packet::PubAck(_))));
        assert_eq!(peer.until_gone(), None);
    });
    static DELETED: Mutex<Vec<String>> = Mutex::new(Vec::new());
    unsafe extern "C" fn on_delete(
        _client: *mut AwsIotClient,
        topic: *mut c_char,
        len: u16,
        params: *mut PublishParams,
        _data: *mut c_void,
    ) {
        let text = unsafe { sdk::text_of(topic, len, params) };
        DELETED.lock().unwrap().push(text);
    }
    let sdk = Sdk::new(server.port, server.certificates.dir());
    assert_eq!(init(&sdk), 0);
    assert_eq!(connect(&sdk, Some(on_delete)), 0);
    yield_until(&sdk, || !DELETED.lock().unwrap().is_empty());
    assert_eq!(
        *DELETED.lock().unwrap(),
        [format!("{deleted}={{\"version\":2}}")]
    );
    drop(sdk);
    server.finish();
}

#[test]
fn an_answer_that_is_too_long_for_the_shadows_buffer_is_not_looked_at() {
    let _alone = alone();
    let server = Server::start(1, |_, peer| {
        peer.accept();
        granted(peer, ACCEPTED, QoS::AtMostOnce);
        granted(peer, REJECTED, QoS::AtMostOnce);
        request(peer, "$aws/things/lamp/shadow/update");
        let padding = "x".repeat(64);
        peer.tell(
            ACCEPTED,
            &format!("{{\"clientToken\":\"t-1\",\"p\":\"{padding}\"}}"),
        );
        peer.tell(REJECTED, "{\"clientToken\":\"t-1\"}");
        assert_eq!(peer.until_gone(), None);
    });
    let mut sdk = Sdk::new(server.port, server.certificates.dir());
    sdk.config.shadow_rx_buf_len = 64;
    up(&sdk);
    let seen = Seen::default();
    assert_eq!(update(&sdk, DOCUMENT, Some(&seen), 10, true), 0);
    yield_until(&sdk, || seen.len() == 1);
    assert_eq!(seen.all(), ["lamp 1 1 {\"clientToken\":\"t-1\"}"]);
    drop(sdk);
    server.finish();
}

#[test]
fn a_server_that_goes_away_ends_the_request_and_further_ones_find_no_connection() {
    let _alone = alone();
    let server = Server::start(1, |_, peer| {
        peer.accept();
        assert!(matches!(peer.receive(), Some(Packet::Subscribe(_))));
    });
    let sdk = Sdk::new(server.port, server.certificates.dir());
    up(&sdk);
    let seen = Seen::default();
    assert_eq!(update(&sdk, DOCUMENT, Some(&seen), 10, true), -12);
    server.finish();
    assert_eq!(aws_iot_shadow_yield(sdk.client(), 50), -13);
    assert_eq!(update(&sdk, DOCUMENT, Some(&seen), 10, true), -26);
    let delta = member(c"n", 3, std::ptr::null_mut(), 4);
    assert_eq!(register(&sdk, &delta), -26);
    assert_eq!(aws_iot_shadow_disconnect(sdk.client()), -13);
    assert_eq!(seen.len(), 0);
}

#[test]
fn a_refused_subscription_to_answers_is_told_as_a_timeout() {
    let _alone = alone();
    let server = Server::start(1, |_, peer| {
        peer.accept();
        peer.answer_subscribe(SubAckCode::FAILURE);
        peer.answer_subscribe(SubAckCode::FAILURE);
        request(peer, "$aws/things/lamp/shadow/update");
        assert_eq!(peer.until_gone(), None);
    });
    let sdk = Sdk::new(server.port, server.certificates.dir());
    up(&sdk);
    let seen = Seen::default();
    assert_eq!(update(&sdk, DOCUMENT, Some(&seen), 1, true), 0);
    yield_until(&sdk, || seen.len() == 1);
    assert_eq!(seen.all(), ["lamp 1 0 "]);
    drop(sdk);
    server.finish();
}

/// What a callback does with its context: the client.
unsafe extern "C" fn asks_again(
    thing: *const c_char,
    _action: c_int,
    _status: c_int,
    _document: *const c_char,
    context: *mut c_void,
) {
    let client = context.cast::<AwsIotClient>();
    let null = std::ptr::null_mut();
    let again = unsafe { aws_iot_shadow_get(client, thing, None, null, 1, false) };
    assert_eq!(again, 0);
    assert_eq!(aws_iot_shadow_yield(client, 10), -30);
    let seen = Seen::default();
    assert_eq!(sdk::subscribe(client, "extra", note, seen.data()), 0);
    let len = u16::try_from("extra".len()).unwrap();
    assert_eq!(
        unsafe { aws_iot_mqtt_unsubscribe(client, c"extra".as_ptr(), len) },
        0
    );
    ASKED_AGAIN.store(true, Ordering::Relaxed);
}

static ASKED_AGAIN: AtomicBool = AtomicBool::new(false);

#[test]
fn a_callback_may_ask_subscribe_and_unsubscribe_but_not_yield() {
    let _alone = alone();
    let server = Server::start(1, |_, peer| {
        peer.accept();
        granted(peer, ACCEPTED, QoS::AtMostOnce);
        granted(peer, REJECTED, QoS::AtMostOnce);
        request(peer, "$aws/things/lamp/shadow/update");
        peer.tell(ACCEPTED, "{\"clientToken\":\"t-1\"}");
        request(peer, "$aws/things/lamp/shadow/get");
        granted(peer, "extra", QoS::AtLeastOnce);
        left(peer, "extra");
        left(peer, ACCEPTED);
        left(peer, REJECTED);
        assert!(matches!(peer.receive(), Some(Packet::Disconnect(_))));
    });
    let sdk = Sdk::new(server.port, server.certificates.dir());
    up(&sdk);
    let (lamp, client) = (c"lamp".as_ptr(), sdk.client());
    let document = DOCUMENT.as_ptr().cast_mut();
    let asked = unsafe {
        aws_iot_shadow_update(
            client,
            lamp,
            document,
            Some(asks_again),
            client.cast(),
            10,
            false,
        )
    };
    assert_eq!(asked, 0);
    yield_until(&sdk, || ASKED_AGAIN.load(Ordering::Relaxed));
    assert_eq!(aws_iot_shadow_disconnect(client), 0);
    assert_eq!(aws_iot_shadow_yield(client, 10), 5, "as the program wanted");
    drop(sdk);
    server.finish();
}
