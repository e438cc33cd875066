//! Documents without a connection: what fuzzing feeds.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::PathBuf;
use std::time::Instant;

use bytes::Bytes;
use iotedge_mqtt::{Publish, QoS, Str};

use super::super::registry::Entry;
use super::super::settings::settings;
use super::super::types::CompatConfig;
use super::answers::{self, Request};
use super::delta::{self, Delta, Form, JsonStruct, JsonStructV1};
use super::{Action, Status};
use crate::boundary::UserData;
use crate::client::{Client, Endpoint};

/// The members that are registered: one of each kind, and some more strings.
const KEYS: [&CStr; 12] = [
    c"a", c"b", c"c", c"d", c"e", c"f", c"g", c"h", c"on", c"s", c"state", c"",
];

/// Takes `document` for a delta and for answers to requests of all kinds, as if a server had sent it.
pub(crate) fn take_document(document: &[u8]) {
    let config = CompatConfig::default();
    let nowhere = Endpoint {
        host: String::new(),
        port: 0,
        ca: PathBuf::new(),
        identity: None,
        verify: true,
        alpn: None,
        local: None,
    };
    let client = Client::new(settings(nowhere, &config, 0, 0, 0));
    let entry = Entry::new(client, false, config.shadow_limits());
    let mut values = [0_u64; KEYS.len()];
    let mut members: Vec<JsonStruct> = KEYS
        .iter()
        .zip(&mut values)
        .zip(0..)
        .map(|((key, value), kind)| JsonStruct {
            key: key.as_ptr(),
            data: std::ptr::from_mut(value).cast(),
            data_length: size_of::<u64>(),
            kind,
            callback: None,
        })
        .collect();
    // A string of version 1 has no length: its room is for whatever may come.
    let mut room = vec![0_u8; document.len() + 1];
    let mut old = JsonStructV1 {
        key: c"s".as_ptr(),
        data: room.as_mut_ptr().cast(),
        kind: 9,
        callback: None,
    };
    {
        let mut shadow = entry.shadow();
        shadow.thing = Some("lamp".to_owned());
        let deltas = members.iter_mut().map(std::ptr::from_mut);
        let deltas = deltas.map(|member| Delta::new(member.cast(), Form::V3));
        shadow.deltas = deltas.collect();
        shadow
            .deltas
            .push(Delta::new((&raw mut old).cast(), Form::V1));
    }
    super::super::aws_iot_shadow_disable_discard_old_delta_msgs();
    let Ok(topic) = Str::new("$aws/things/lamp/shadow/get/accepted") else {
        return;
    };
    let message = Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic,
        packet_id: None,
        payload: Bytes::copy_from_slice(document),
        properties: None,
    };
    delta::received(&entry, &message);
    for action in [Action::Get, Action::Update, Action::Delete] {
        for token in [&b"t"[..], b"", b"\\u0000"] {
            entry.shadow().requests.push(Request {
                token: token.to_vec(),
                thing: c"lamp".to_owned(),
                action,
                callback: ignore,
                context: UserData::new(std::ptr::null_mut()),
                deadline: Instant::now(),
            });
        }
        answers::answered(&entry, action, Status::Accepted, &message);
    }
    answers::expire(&entry);
    assert!(entry.shadow().requests.is_empty());
}

unsafe extern "C" fn ignore(
    _: *const c_char,
    _: c_int,
    _: c_int,
    _: *const c_char,
    _: *mut c_void,
) {
}
