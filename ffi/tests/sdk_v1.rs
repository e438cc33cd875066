//! Version 1 of the SDK: its one client, and the numbers that its calls give.
#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used)] // C's side; helpers fail as tests

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use iotedge::compat::*;
use iotedge_mqtt::{ConnectReturnCode, Packet, QoS, SubAckCode};

#[path = "support/server.rs"]
mod server;

use server::{Certificates, Server, message};

static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// There is one client: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    let guard = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    iotedge_v1_mqtt_disconnect();
    seen();
    guard
}

/// What handlers saw since the last time.
fn seen() -> Vec<String> {
    std::mem::take(&mut *SEEN.lock().unwrap_or_else(PoisonError::into_inner))
}

struct Program {
    texts: Vec<CString>,
    connect: ConnectParamsV1,
    config: CompatConfig,
}

impl Program {
    fn new(port: u16, certificates: &Certificates) -> Self {
        let mut texts = Vec::new();
        let mut text = |text: &str| {
            texts.push(CString::new(text).unwrap());
            texts.last().unwrap().as_ptr()
        };
        let path = |name| certificates.path(name).to_str().unwrap().to_owned();
        let null = std::ptr::null();
        let connect = ConnectParamsV1 {
            enable_auto_reconnect: 0,
            host: text("localhost"),
            port,
            root_ca: text(&path("rootCA.crt")),
            device_cert: text(&path("cert.pem")),
            private_key: text(&path("privkey.pem")),
            client_id: text("device"),
            user_name: null,
            password: null,
            mqtt_version: 4,
            keep_alive: 10,
            is_clean_session: 1,
            is_will_present: 0,
            will: WillOptionsV1 {
                topic_name: null,
                message: null,
                is_retained: 0,
                qos: 0,
            },
            command_timeout_ms: 10_000,
            tls_handshake_timeout_ms: 10_000,
            is_ssl_hostname_verify: 1,
            disconnect_handler: None,
        };
        let config = CompatConfig {
            max_reconnect_wait_ms: 8000,
            ..CompatConfig::default()
        };
        Self {
            texts,
            connect,
            config,
        }
    }

    fn text(&mut self, text: &str) -> *const c_char {
        self.texts.push(CString::new(text).unwrap());
        self.texts.last().unwrap().as_ptr()
    }

    fn connect(&self) -> c_int {
        unsafe { iotedge_v1_mqtt_connect(&raw const self.connect, &raw const self.config) }
    }
}

/// Notes `topic=payload` with the payload's NUL byte as `|`.
unsafe extern "C" fn on_message(params: CallbackParamsV1) -> i32 {
    let bytes = |data: *const u8, len: usize| unsafe { std::slice::from_raw_parts(data, len) };
    let topic = bytes(params.topic_name.cast(), params.topic_name_len.into());
    let payload = params.message.payload.cast::<u8>();
    let payload = bytes(payload, params.message.payload_len as usize);
    let text = [topic, b"=", payload].concat();
    let text = String::from_utf8(text).unwrap().replace('\0', "|");
    SEEN.lock().unwrap().push(text);
    0
}

fn subscribe(topic: &CStr, handler: Option<MessageHandlerV1>) -> c_int {
    let topic = topic.as_ptr();
    let params = SubscribeParamsV1 {
        topic,
        qos: 1,
        handler,
    };
    unsafe { iotedge_v1_mqtt_subscribe(&raw const params) }
}

fn publish(topic: &CStr, payload: &[u8], qos: c_int) -> (c_int, u16) {
    let mut params = PublishParamsV1 {
        topic: topic.as_ptr(),
        message: MessageParamsV1 {
            qos,
            is_retained: 0,
            is_duplicate: 0,
            id: 0,
            payload: payload.as_ptr().cast_mut().cast(),
            payload_len: u32::try_from(payload.len()).unwrap(),
        },
    };
    let code = unsafe { iotedge_v1_mqtt_publish(&raw mut params) };
    (code, params.message.id)
}

fn unsubscribe(topic: &CStr) -> c_int {
    unsafe { iotedge_v1_mqtt_unsubscribe(topic.as_ptr()) }
}

/// Yields until handlers have seen so many, or until another code.
fn yield_until(count: usize) -> c_int {
    let start = std::time::Instant::now();
    loop {
        let code = iotedge_v1_mqtt_yield(20);
        if code != 0 || SEEN.lock().unwrap().len() >= count {
            return code;
        }
        assert!(start.elapsed() < server::PATIENCE, "waited too long");
    }
}

#[test]
fn messages_go_and_come_with_their_nul_bytes() {
    let _alone = alone();
    let server = Server::start(1, |_, peer| {
        let connect = peer.accept();
        assert_eq!(
            (connect.client_id.as_str(), connect.keep_alive),
            ("device", 10)
        );
        assert!(connect.username.is_none(), "no metrics");
        peer.grant();
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let publish = peer.publish();
            assert_eq!((publish.qos, &publish.payload[..]), (qos, &b"hello\0"[..]));
            match publish.packet_id {
                Some(id) if qos == QoS::AtLeastOnce => peer.send(&Packet::PubAck(id.into())),
                Some(id) => {
                    peer.send(&Packet::PubRec(id.into()));
                    assert!(matches!(peer.receive(), Some(Packet::PubRel(_))));
                    peer.send(&Packet::PubComp(id.into()));
                }
                None => {}
            }
            peer.send(&message("sdkTest/sub", &publish.payload, None));
        }
        match peer.receive() {
            Some(Packet::Unsubscribe(u)) => peer.send(&Packet::UnsubAck(u.packet_id.into())),
            other => panic!("UNSUBSCRIBE, not {other:?}"),
        }
        assert!(matches!(peer.receive(), Some(Packet::Disconnect(_))));
    });
    let program = Program::new(server.port, &server.certificates);
    assert_eq!(program.connect(), 0);
    assert!(iotedge_v1_is_mqtt_connected());
    assert_eq!(program.connect(), -26, "it is connected");
    assert_eq!(subscribe(c"sdkTest/sub", Some(on_message)), 0);
    for qos in 0..3 {
        let (code, id) = publish(c"sdkTest/sub", b"hello\0", qos);
        assert_eq!((code, id != 0), (0, qos > 0));
    }
    assert_eq!(yield_until(3), 0);
    assert_eq!(seen(), ["sdkTest/sub=hello|"; 3]);
    assert_eq!(unsubscribe(c"sdkTest/sub"), 0);
    assert_eq!(unsubscribe(c"sdkTest/sub"), -15, "it is gone");
    assert_eq!(iotedge_v1_mqtt_disconnect(), 0);
    assert!(!iotedge_v1_is_mqtt_connected());
    assert_eq!(iotedge_v1_mqtt_yield(10), -23);
    server.finish();
}

#[test]
fn what_keeps_it_from_connecting_has_its_number() {
    let _alone = alone();
    let server = Server::start(6, |number, peer| {
        let code = u8::try_from(number).unwrap() + 1;
        match ConnectReturnCode::try_from(code) {
            Ok(code) => drop(peer.connect_with(code)),
            // Says nothing, until the client has had enough.
            Err(_) => while peer.receive().is_some() {},
        }
    });
    let program = || Program::new(server.port, &server.certificates);
    for _ in 0..5 {
        assert_eq!(program().connect(), -3, "refused");
    }
    let mut late = program();
    late.connect.command_timeout_ms = 200;
    assert_eq!(late.connect(), -3, "no CONNACK");
    let wrong = |change: &dyn Fn(&mut Program)| {
        let mut program = program();
        change(&mut program);
        program.connect()
    };
    let nonsense = server.certificates.path("nonsense.pem");
    let nonsense = nonsense.to_str().unwrap();
    assert_eq!(wrong(&|p| p.connect.client_id = std::ptr::null()), -2);
    assert_eq!(wrong(&|p| p.connect.host = std::ptr::null()), -2);
    assert_eq!(wrong(&|p| p.connect.root_ca = std::ptr::null()), -2);
    assert_eq!(
        wrong(&|p| p.connect.is_will_present = 1),
        -2,
        "a will without a topic"
    );
    assert_eq!(wrong(&|p| p.connect.root_ca = p.text(nonsense)), -14);
    assert_eq!(wrong(&|p| p.connect.device_cert = p.text(nonsense)), -14);
    assert_eq!(wrong(&|p| p.connect.private_key = p.text(nonsense)), -14);
    assert_eq!(wrong(&|p| p.connect.host = p.text("nowhere.invalid")), -3);
    assert_eq!(wrong(&|p| p.connect.port = 1), -3);
    let null = std::ptr::null();
    assert_eq!(
        unsafe { iotedge_v1_mqtt_connect(null, std::ptr::null()) },
        -2
    );
    server.finish();

    let other = Certificates::new();
    let server = Server::start(1, |_, peer| drop(peer.receive()));
    let mut stranger = Program::new(server.port, &server.certificates);
    stranger.connect.root_ca = stranger.text(other.path("rootCA.crt").to_str().unwrap());
    assert_eq!(stranger.connect(), -9, "a CA that did not sign it");
    server.finish();
}

#[test]
fn calls_without_a_connection_and_with_missing_arguments_have_their_numbers() {
    let _alone = alone();
    assert_eq!(publish(c"t", b"x", 0).0, -5);
    assert_eq!(subscribe(c"t", Some(on_message)), -4);
    assert_eq!(unsubscribe(c"t"), -15);
    assert_eq!(iotedge_v1_mqtt_disconnect(), -6);
    assert!([-7, -23].contains(&iotedge_v1_mqtt_yield(10)));
    assert_eq!(iotedge_v1_mqtt_yield(-1), -7);
    let null = std::ptr::null();
    assert_eq!(unsafe { iotedge_v1_mqtt_subscribe(null) }, -2);
    assert_eq!(unsafe { iotedge_v1_mqtt_publish(std::ptr::null_mut()) }, -2);
    assert_eq!(unsafe { iotedge_v1_mqtt_unsubscribe(null.cast()) }, -2);
    assert_eq!(subscribe(c"t", None), -2);

    let server = Server::start(1, |_, peer| {
        peer.accept();
        peer.answer_subscribe(SubAckCode::FAILURE);
        peer.publish();
        assert_eq!(peer.until_gone(), None);
    });
    let mut program = Program::new(server.port, &server.certificates);
    program.connect.command_timeout_ms = 200;
    assert_eq!(program.connect(), 0);
    assert_eq!(subscribe(c"t", Some(on_message)), -4, "refused");
    assert_eq!(subscribe(c"no/#/filter", Some(on_message)), -4);
    assert_eq!(publish(c"not/#/a/topic", b"x", 0).0, -5);
    assert_eq!(publish(c"t", b"x", 3).0, -5, "no such QoS");
    assert_eq!(publish(c"t", &[0; 512], 0).0, -5, "larger than the buffer");
    assert_eq!(publish(c"t", b"x", 1).0, -5, "not acknowledged");
    program.connect.host = std::ptr::null();
    assert_eq!(program.connect(), -26, "it is connected");
    // The next connect begins anew, and drops this one's socket.
    assert_eq!(iotedge_v1_mqtt_disconnect(), 0);
    drop(program);
    drop(server);
}

#[test]
fn a_message_that_is_too_large_has_its_number() {
    let _alone = alone();
    let server = Server::start(1, |_, peer| {
        peer.accept();
        peer.grant();
        peer.tell("t", &"x".repeat(600));
        peer.tell("t", "next");
        assert!(matches!(peer.receive(), Some(Packet::Disconnect(_))));
    });
    let program = Program::new(server.port, &server.certificates);
    assert_eq!(program.connect(), 0);
    assert_eq!(subscribe(c"t", Some(on_message)), 0);
    assert_eq!(yield_until(1), -28);
    assert_eq!(yield_until(1), 0);
    assert_eq!(seen(), ["t=next"]);
    assert_eq!(iotedge_v1_mqtt_disconnect(), 0);
    server.finish();
}

static LOSSES: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" fn on_loss() {
    LOSSES.fetch_add(1, Ordering::Relaxed);
}

#[test]
fn a_lost_connection_is_told_and_made_again_as_the_program_wants() {
    let _alone = alone();
    LOSSES.store(0, Ordering::Relaxed);
    let server = Server::start(4, |number, peer| {
        peer.accept();
        peer.grant();
        if number == 3 {
            peer.tell("t", "here again");
            assert!(matches!(peer.receive(), Some(Packet::Disconnect(_))));
        }
    });
    let mut program = Program::new(server.port, &server.certificates);
    program.connect.disconnect_handler = Some(on_loss);
    program.config.min_reconnect_wait_ms = 10;
    assert_eq!(program.connect(), 0);
    assert_eq!(subscribe(c"t", Some(on_message)), 0);
    assert_eq!(yield_until(1), -23, "no reconnecting");
    assert_eq!(LOSSES.load(Ordering::Relaxed), 1);
    assert_eq!(iotedge_v1_mqtt_yield(10), -23);
    assert_eq!(iotedge_v1_mqtt_attempt_reconnect(), 1);
    assert!(!iotedge_v1_is_autoreconnect_enabled());
    assert_eq!(iotedge_v1_mqtt_autoreconnect_set_status(true), 0);
    assert!(iotedge_v1_is_autoreconnect_enabled());
    let start = std::time::Instant::now();
    while SEEN.lock().unwrap().is_empty() {
        let code = iotedge_v1_mqtt_yield(20);
        assert!([0, 1, -25].contains(&code), "{code}");
        assert!(start.elapsed() < server::PATIENCE);
    }
    assert_eq!(seen(), ["t=here again"]);
    assert_eq!(iotedge_v1_mqtt_attempt_reconnect(), -26);
    assert_eq!(iotedge_v1_mqtt_disconnect(), 0);
    server.finish();
}

static STATUS: AtomicI32 = AtomicI32::new(-1);

unsafe extern "C" fn answered(
    _thing: *const c_char,
    _action: c_int,
    status: c_int,
    _document: *const c_char,
    _context: *mut c_void,
) {
    STATUS.store(status, Ordering::Relaxed);
}

#[test]
fn shadows_send_their_documents_nul_byte_and_have_their_own_numbers() {
    let _alone = alone();
    let update = "$aws/things/lamp/shadow/update";
    let server = Server::start(1, move |_, peer| {
        let connect = peer.accept();
        assert_eq!(
            (connect.keep_alive, connect.client_id.as_str()),
            (10, "device")
        );
        let accepted = format!("{update}/accepted");
        assert_eq!(peer.grant().filters[0].0.as_str(), accepted);
        assert_eq!(
            peer.grant().filters[0].0.as_str(),
            format!("{update}/rejected")
        );
        let publish = peer.publish();
        assert_eq!(publish.topic.as_str(), update);
        assert_eq!(publish.payload.last(), Some(&0));
        peer.tell(&accepted, "{\"clientToken\":\"t\"}\0");
        assert_eq!(
            peer.grant().filters[0].0.as_str(),
            format!("{update}/delta")
        );
        peer.tell(
            &format!("{update}/delta"),
            "{\"version\":1,\"state\":{\"on\":true}}\0",
        );
        assert!(matches!(peer.receive(), Some(Packet::Disconnect(_))));
    });
    let program = Program::new(server.port, &server.certificates);
    let null = std::ptr::null();
    let shadow = ShadowParametersV1 {
        thing_name: c"lamp".as_ptr(),
        client_id: program.connect.client_id,
        host: program.connect.host,
        port: server.port.into(),
        root_ca: program.connect.root_ca,
        client_crt: program.connect.device_cert,
        client_key: program.connect.private_key,
    };
    let connect = |params: &ShadowParametersV1| unsafe {
        iotedge_v1_shadow_connect(std::ptr::from_ref(params), &raw const program.config)
    };
    let ask = |document: &CStr| unsafe {
        let context = std::ptr::null_mut();
        let lamp = c"lamp".as_ptr();
        iotedge_v1_shadow_update(lamp, document.as_ptr(), Some(answered), context, 9, true)
    };
    assert_eq!(iotedge_v1_shadow_init(), 0);
    assert_eq!(
        unsafe { iotedge_v1_shadow_connect(std::ptr::null(), std::ptr::null()) },
        -2
    );
    assert_eq!(
        connect(&ShadowParametersV1 {
            thing_name: null,
            ..shadow
        }),
        -2
    );
    assert_eq!(
        connect(&ShadowParametersV1 {
            client_id: null,
            ..shadow
        }),
        -2
    );
    assert_eq!(
        connect(&ShadowParametersV1 {
            port: 70_000,
            ..shadow
        }),
        -1
    );
    assert_eq!(ask(c"{}"), -3, "not connected");
    assert_eq!(connect(&shadow), 0);
    assert_eq!(ask(c"{\"clientToken\":\"t\"}"), 0);
    while STATUS.load(Ordering::Relaxed) < 0 {
        assert_eq!(iotedge_v1_shadow_yield(20), 0);
    }
    assert_eq!(STATUS.load(Ordering::Relaxed), 2, "accepted");
    let mut on = 0_u8;
    let mut delta = JsonStructV1 {
        key: c"on".as_ptr(),
        data: (&raw mut on).cast(),
        kind: 8,
        callback: None,
    };
    assert_eq!(
        unsafe { iotedge_v1_shadow_register_delta(&raw mut delta) },
        0
    );
    let start = std::time::Instant::now();
    while aws_iot_shadow_get_last_received_version() == 0 {
        assert_eq!(iotedge_v1_shadow_yield(20), 0);
        assert!(start.elapsed() < server::PATIENCE);
    }
    assert_eq!(unsafe { std::ptr::read_volatile(&raw const on) }, 1);
    assert_eq!(
        unsafe { iotedge_v1_shadow_register_delta(std::ptr::null_mut()) },
        -2
    );
    let mut buffer = [0_u8; 8];
    let (text, size) = (buffer.as_mut_ptr().cast(), buffer.len());
    unsafe {
        assert_eq!(
            iotedge_v1_shadow_init_json_document(std::ptr::null_mut(), 8),
            -2
        );
        assert_eq!(iotedge_v1_shadow_init_json_document(text, 1), -22);
        assert_eq!(iotedge_v1_shadow_init_json_document(text, size), -21);
        assert_eq!(
            iotedge_v1_finalize_json_document(std::ptr::null_mut(), 8),
            -2
        );
        assert_eq!(iotedge_v1_fill_with_client_token(text, 4), -21);
    }
    assert_eq!(iotedge_v1_mqtt_disconnect(), 0);
    server.finish();
}
