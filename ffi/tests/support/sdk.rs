//! Calls of the compatibility border, as a C program makes them.
#![allow(dead_code)] // each test uses its part
#![allow(unsafe_code)] // it is C's side

use std::ffi::{CString, c_char, c_int, c_void};
use std::path::Path;
use std::sync::Mutex;

use iotedge::compat::*;

/// A client with all that it points to.
pub struct Sdk {
    memory: Box<std::mem::MaybeUninit<AwsIotClient>>,
    texts: Vec<CString>,
    pub config: CompatConfig,
    pub init: InitParams,
    pub connect: ConnectParams,
}

impl Sdk {
    /// For a server on localhost with the certificates of `dir`.
    pub fn new(port: u16, dir: &Path) -> Self {
        let mut texts = Vec::new();
        let mut text = |t: String| {
            texts.push(CString::new(t).unwrap());
            texts.last().unwrap().as_ptr()
        };
        let mut path = |name: &str| text(dir.join(name).to_str().unwrap().to_owned());
        let (root_ca, device_cert, private_key) =
            (path("rootCA.crt"), path("cert.pem"), path("privkey.pem"));
        let host = text("localhost".to_owned());
        let client_id = text("device".to_owned());
        let null = std::ptr::null_mut();
        Self {
            init: InitParams {
                enable_auto_reconnect: 0,
                host,
                port,
                root_ca,
                device_cert,
                private_key,
                packet_timeout_ms: 2000,
                command_timeout_ms: 10_000,
                tls_handshake_timeout_ms: 5000,
                is_ssl_hostname_verify: 1,
                disconnect_handler: None,
                disconnect_handler_data: std::ptr::null_mut(),
            },
            connect: ConnectParams {
                struct_id: [0; 4],
                mqtt_version: 4,
                client_id,
                client_id_len: 6,
                keep_alive: 60,
                is_clean_session: 1,
                is_will_present: 0,
                will: WillOptions {
                    struct_id: [0; 4],
                    topic_name: null,
                    topic_name_len: 0,
                    message: null,
                    message_len: 0,
                    is_retained: 0,
                    qos: 0,
                },
                username: null,
                username_len: 0,
                password: null,
                password_len: 0,
            },
            config: CompatConfig::default(),
            memory: Box::new(std::mem::MaybeUninit::uninit()),
            texts,
        }
    }

    /// Keeps a text as long as the client.
    pub fn text(&mut self, text: &str) -> *mut c_char {
        self.texts.push(CString::new(text).unwrap());
        self.texts.last().unwrap().as_ptr().cast_mut()
    }

    pub fn client(&self) -> *mut AwsIotClient {
        self.memory.as_ptr().cast_mut()
    }

    pub fn init(&self) -> c_int {
        let size = size_of::<InitParams>();
        unsafe {
            iotedge_compat_mqtt_init(
                self.client(),
                &raw const self.init,
                size,
                &raw const self.config,
            )
        }
    }

    pub fn connect(&self) -> c_int {
        unsafe { aws_iot_mqtt_connect(self.client(), &raw const self.connect) }
    }

    /// Init and connect, which must do.
    pub fn up(&self) -> &Self {
        assert_eq!(self.init(), 0);
        assert_eq!(self.connect(), 0);
        self
    }

    pub fn publish(&self, topic: &str, payload: &[u8], qos: c_int) -> c_int {
        publish(self.client(), topic, payload, qos)
    }

    pub fn subscribe(&self, filter: &str, handler: MessageHandler, data: *mut c_void) -> c_int {
        subscribe(self.client(), filter, handler, data)
    }

    pub fn unsubscribe(&self, filter: &str) -> c_int {
        let len = u16::try_from(filter.len()).unwrap();
        unsafe { aws_iot_mqtt_unsubscribe(self.client(), filter.as_ptr().cast(), len) }
    }

    pub fn run(&self, ms: u32) -> c_int {
        aws_iot_mqtt_yield(self.client(), ms)
    }

    /// Yields until `done`, or until a code that is none of `fine`.
    pub fn run_until(&self, fine: &[c_int], done: impl Fn() -> bool) -> c_int {
        let start = std::time::Instant::now();
        loop {
            let code = self.run(20);
            if done() || !fine.contains(&code) {
                return code;
            }
            assert!(start.elapsed() < super::server::PATIENCE, "waited too long");
        }
    }
}

impl Drop for Sdk {
    fn drop(&mut self) {
        aws_iot_mqtt_free(self.client());
    }
}

pub fn publish(client: *mut AwsIotClient, topic: &str, payload: &[u8], qos: c_int) -> c_int {
    let mut params = PublishParams {
        qos,
        is_retained: 0,
        is_dup: 0,
        id: 0,
        payload: payload.as_ptr().cast_mut().cast(),
        payload_len: payload.len(),
    };
    let len = u16::try_from(topic.len()).unwrap();
    let code = unsafe { aws_iot_mqtt_publish(client, topic.as_ptr().cast(), len, &raw mut params) };
    assert_eq!(params.id != 0, qos == 1 && code == 0, "the id is told");
    code
}

pub fn subscribe(
    client: *mut AwsIotClient,
    filter: &str,
    handler: MessageHandler,
    data: *mut c_void,
) -> c_int {
    let len = u16::try_from(filter.len()).unwrap();
    unsafe { aws_iot_mqtt_subscribe(client, filter.as_ptr().cast(), len, 1, Some(handler), data) }
}

/// What handlers saw, in order. `data` of the handlers points here.
#[derive(Default)]
pub struct Seen(Mutex<Vec<String>>);

impl Seen {
    pub fn data(&self) -> *mut c_void {
        std::ptr::from_ref(self).cast_mut().cast()
    }

    pub fn note(&self, text: impl Into<String>) {
        self.0.lock().unwrap().push(text.into());
    }

    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    pub fn of<'a>(data: *mut c_void) -> &'a Self {
        unsafe { &*data.cast::<Self>() }
    }
}

/// Notes `topic=payload`.
pub unsafe extern "C" fn note(
    _client: *mut AwsIotClient,
    topic: *mut c_char,
    topic_len: u16,
    params: *mut PublishParams,
    data: *mut c_void,
) {
    Seen::of(data).note(unsafe { text_of(topic, topic_len, params) });
}

pub unsafe fn text_of(topic: *mut c_char, topic_len: u16, params: *mut PublishParams) -> String {
    let topic = unsafe { std::slice::from_raw_parts(topic.cast::<u8>(), topic_len.into()) };
    let params = unsafe { &*params };
    let payload =
        unsafe { std::slice::from_raw_parts(params.payload.cast::<u8>(), params.payload_len) };
    assert_eq!(
        unsafe { *params.payload.cast::<u8>().add(params.payload_len) },
        0,
        "a NUL byte stands behind"
    );
    format!(
        "{}={}",
        String::from_utf8_lossy(topic),
        String::from_utf8_lossy(payload)
    )
}
