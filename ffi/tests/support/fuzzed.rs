//! What a fuzz target does with its bytes; the tests do it with the committed corpus.
#![allow(dead_code)] // each test uses its part
#![allow(unsafe_code)] // it is C's side

use std::ffi::{CStr, CString, c_int, c_void};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixListener;
use std::sync::OnceLock;
use std::sync::mpsc::{SyncSender, sync_channel};

use iotedge::compat::*;
use iotedge::fuzzed::{Parser, Token};
use iotedge::native::*;

/// A server on a Unix socket that answers a connection with bytes and nothing more, whatever it is
/// sent.
struct Server {
    path: CString,
    next: SyncSender<Vec<u8>>,
}

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let name = format!("iotedge-fuzz-{}.sock", std::process::id());
        let path = std::env::temp_dir().join(name);
        let listener = UnixListener::bind(&path).unwrap();
        let (next, answers) = sync_channel::<Vec<u8>>(1);
        std::thread::spawn(move || {
            for answer in answers {
                let Ok((mut socket, _)) = listener.accept() else {
                    return;
                };
                let _ = socket.write_all(&answer);
                let _ = socket.shutdown(Shutdown::Write);
                while socket.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {}
            }
        });
        Server {
            path: CString::new(path.to_str().unwrap()).unwrap(),
            next,
        }
    })
}

unsafe extern "C" fn on_message(message: *const iotedge_message, data: *mut c_void) {
    let (message, client) = (unsafe { &*message }, data.cast::<iotedge_client>());
    let topic = unsafe { CStr::from_ptr(message.topic) };
    assert!(topic.to_bytes().len() <= message.topic_len);
    let payload = message.payload;
    assert_eq!(unsafe { *payload.add(message.payload_len) }, 0);
    // What a program does: it answers.
    let _ = unsafe {
        let (again, len) = (message.payload, message.payload_len.min(100));
        let nobody = std::ptr::null_mut();
        iotedge_client_publish(client, message.topic, again, len, 1, false, None, nobody)
    };
}

unsafe extern "C" fn on_shadow(
    shadow: *mut iotedge_shadow,
    _event: iotedge_shadow_event,
    _data: *mut c_void,
) {
    let mut on = false;
    let mut number = 0_i64;
    let mut text = [0; 16];
    let path = c"a/b".as_ptr();
    for section in [
        iotedge_section::IOTEDGE_REPORTED,
        iotedge_section::IOTEDGE_DESIRED,
        iotedge_section::IOTEDGE_DELTA,
    ] {
        let section = section as c_int;
        unsafe {
            iotedge_shadow_get_bool(shadow, section, path, &raw mut on);
            iotedge_shadow_get_int64(shadow, section, path, &raw mut number);
            iotedge_shadow_get_string(shadow, section, path, text.as_mut_ptr(), text.len());
        }
    }
}

/// The first byte says what the client does, the rest is what the server sends.
pub fn packets(data: &[u8]) {
    let Some((what, answer)) = data.split_first() else {
        return;
    };
    let server = server();
    // CONNACK, unless connecting itself is what is tried.
    let accepts: &[u8] = if what & 0x80 == 0 {
        &[0x20, 2, 0, 0]
    } else {
        &[]
    };
    server.next.send([accepts, answer].concat()).unwrap();
    let mut options = std::mem::MaybeUninit::uninit();
    unsafe { iotedge_options_init(options.as_mut_ptr()) };
    let mut options = unsafe { options.assume_init() };
    options.socket_path = server.path.as_ptr();
    options.client_id = c"fuzz".as_ptr();
    options.timeout_ms = 1000;
    options.max_packet_bytes = 1024;
    options.max_subscriptions = 8;
    let mut client = std::ptr::null_mut();
    unsafe {
        let made = iotedge_client_new(&raw const options, &raw mut client);
        assert_eq!(made as c_int, 0);
        if iotedge_client_connect(client) as c_int == 0 {
            act(client, *what);
        }
        iotedge_client_free(client);
    }
}

unsafe fn act(client: *mut iotedge_client, what: u8) {
    let (hello, null) = (b"hello".as_ptr(), std::ptr::null_mut());
    let mut shadow = std::ptr::null_mut();
    unsafe {
        if what & 1 != 0 {
            iotedge_client_subscribe(client, c"a/#".as_ptr(), 2, Some(on_message), client.cast());
        }
        if what & 2 != 0 {
            for qos in 0..3 {
                let topic = c"a".as_ptr();
                iotedge_client_publish(client, topic, hello, 5, qos, false, None, null);
            }
        }
        if what & 4 != 0 {
            let (thing, none) = (c"t".as_ptr(), std::ptr::null());
            iotedge_shadow_new(client, thing, none, Some(on_shadow), null, &raw mut shadow);
        }
        if what & 8 != 0 {
            iotedge_client_unsubscribe(client, c"a/#".as_ptr());
        }
        // The server has said all: its end comes.
        let mut rounds = 0;
        while iotedge_client_process(client, 10) as c_int != -9 && rounds < 100 {
            rounds += 1;
            if !iotedge_client_is_connected(client) {
                break;
            }
        }
        assert!(rounds < 100, "its end was not seen");
        if !shadow.is_null() {
            iotedge_shadow_free(shadow);
        }
    }
}

/// JSON for everything that reads it.
pub fn json(data: &[u8]) {
    iotedge::fuzzed::shadow_document(data);
    let text = CString::new(data.split(|byte| *byte == 0).next().unwrap_or_default()).unwrap();
    let mut tokens: Vec<Token> = Vec::with_capacity(64);
    let mut parser = std::mem::MaybeUninit::<Parser>::uninit();
    unsafe {
        jsmn_init(parser.as_mut_ptr());
        let counted = jsmn_parse(
            parser.as_mut_ptr(),
            text.as_ptr(),
            text.as_bytes().len(),
            std::ptr::null_mut(),
            0,
        );
        jsmn_init(parser.as_mut_ptr());
        let room = 64;
        let count = jsmn_parse(
            parser.as_mut_ptr(),
            text.as_ptr(),
            text.as_bytes().len(),
            tokens.as_mut_ptr(),
            room,
        );
        let Ok(count) = usize::try_from(count) else {
            return;
        };
        assert_eq!(i64::from(counted), count as i64, "with and without tokens");
        tokens.set_len(count);
        for token in &mut tokens {
            assert!(0 <= token.start && token.start <= token.end);
            assert!(token.end as usize <= text.as_bytes().len());
            values(&text, token);
        }
    }
}

unsafe fn values(text: &CStr, token: &mut Token) {
    let (json, at) = (text.as_ptr(), std::ptr::from_mut(token));
    let mut small = [0x55_u8; 9];
    macro_rules! read {
        ($($function:ident: $kind:ty),*) => {$({
            let mut value = <$kind>::default();
            let code = $function(&raw mut value, json, at);
            assert!([0, -42].contains(&code));
        })*};
    }
    unsafe {
        read!(
            parseInteger32Value: i32, parseInteger16Value: i16, parseInteger8Value: i8,
            parseUnsignedInteger32Value: u32, parseUnsignedInteger16Value: u16,
            parseUnsignedInteger8Value: u8, parseFloatValue: f32, parseDoubleValue: f64,
            parseBooleanValue: bool
        );
        let code = parseStringValue(small.as_mut_ptr().cast(), 8, json, at);
        assert!([0, -42, -45].contains(&code));
        assert_eq!(small[8], 0x55, "not beyond its room");
        jsoneq(json, at, c"a".as_ptr());
        let found = findToken(c"a".as_ptr(), json, at);
        assert!(found.is_null() || (*found).start > token.start);
    }
}
