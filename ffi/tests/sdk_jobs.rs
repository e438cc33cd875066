//! The calls for jobs: what they send, and what they say when they cannot.
#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used)] // C's side; helpers fail as tests

use std::ffi::{CStr, c_char, c_int};

use iotedge::compat::*;
use iotedge_mqtt::Packet;

#[path = "support/sdk.rs"]
mod sdk;
#[path = "support/server.rs"]
mod server;

use sdk::{Sdk, Seen, note};
use server::Server;

const GET_PENDING: c_int = 1;
const START_NEXT: c_int = 2;
const DESCRIBE: c_int = 3;
const UPDATE: c_int = 4;
const REQUEST: c_int = 1;
const ANY_REPLY: c_int = 4;

/// A buffer as C programs have them.
struct Buffer(Vec<c_char>);

impl Buffer {
    fn new(size: usize) -> Self {
        Self(vec![0x55; size])
    }

    fn pointer(&mut self) -> *mut c_char {
        self.0.as_mut_ptr()
    }

    fn text(&self) -> &str {
        unsafe { CStr::from_ptr(self.0.as_ptr()) }.to_str().unwrap()
    }
}

struct Calls {
    sdk: Sdk,
    topic: Buffer,
    message: Buffer,
}

impl Calls {
    fn new(sdk: Sdk, topic: usize, message: usize) -> Self {
        Self {
            sdk,
            topic: Buffer::new(topic),
            message: Buffer::new(message),
        }
    }

    fn query(&mut self, token: Option<&CStr>, kind: c_int, job: Option<&CStr>) -> c_int {
        let null = std::ptr::null();
        unsafe {
            aws_iot_jobs_send_query(
                self.sdk.client(),
                0,
                c"lamp".as_ptr(),
                job.map_or(null, CStr::as_ptr),
                token.map_or(null, CStr::as_ptr),
                self.topic.pointer(),
                u16::try_from(self.topic.0.len()).unwrap(),
                self.message.pointer(),
                self.message.0.len(),
                kind,
            )
        }
    }

    fn start_next(&mut self, request: Option<&StartNextRequest>) -> c_int {
        unsafe {
            aws_iot_jobs_start_next(
                self.sdk.client(),
                1,
                c"lamp".as_ptr(),
                request.map_or(std::ptr::null(), std::ptr::from_ref),
                self.topic.pointer(),
                u16::try_from(self.topic.0.len()).unwrap(),
                self.message.pointer(),
                self.message.0.len(),
            )
        }
    }

    fn describe(&mut self, request: Option<&DescribeRequest>, with_buffer: bool) -> c_int {
        let null = std::ptr::null_mut();
        let message = if with_buffer {
            self.message.pointer()
        } else {
            null
        };
        unsafe {
            aws_iot_jobs_describe(
                self.sdk.client(),
                0,
                c"lamp".as_ptr(),
                c"$next".as_ptr(),
                request.map_or(std::ptr::null(), std::ptr::from_ref),
                self.topic.pointer(),
                u16::try_from(self.topic.0.len()).unwrap(),
                message,
                self.message.0.len(),
            )
        }
    }

    fn update(&mut self, job: Option<&CStr>, request: Option<&UpdateRequest>) -> c_int {
        unsafe {
            aws_iot_jobs_send_update(
                self.sdk.client(),
                1,
                c"lamp".as_ptr(),
                job.map_or(std::ptr::null(), CStr::as_ptr),
                request.map_or(std::ptr::null(), std::ptr::from_ref),
                self.topic.pointer(),
                u16::try_from(self.topic.0.len()).unwrap(),
                self.message.pointer(),
                self.message.0.len(),
            )
        }
    }

    fn subscribe(&mut self, kind: c_int, reply: c_int, job: Option<&CStr>, seen: &Seen) -> c_int {
        unsafe {
            aws_iot_jobs_subscribe_to_job_messages(
                self.sdk.client(),
                1,
                c"lamp".as_ptr(),
                job.map_or(std::ptr::null(), CStr::as_ptr),
                kind,
                reply,
                Some(note),
                seen.data(),
                self.topic.pointer(),
                u16::try_from(self.topic.0.len()).unwrap(),
            )
        }
    }
}

fn update_request() -> UpdateRequest {
    UpdateRequest {
        expected_version: 0,
        execution_number: 0,
        status: 4,
        status_details: c"{\"n\":1}".as_ptr(),
        include_state: 0,
        include_document: 0,
        client_token: std::ptr::null(),
    }
}

const START: StartNextRequest = StartNextRequest {
    status_details: std::ptr::null(),
    client_token: std::ptr::null(),
};
const NEXT: DescribeRequest = DescribeRequest {
    execution_number: 0,
    include_document: 1,
    client_token: std::ptr::null(),
};

#[test]
fn requests_go_out_with_their_topics_and_documents() {
    let expected = [
        ("get", ""),
        ("get", "{\"clientToken\":\"tok\"}"),
        ("start-next", "{}"),
        ("$next/get", ""),
        ("$next/get", "{\"includeJobDocument\":true}"),
        (
            "j1/update",
            "{\"status\":\"SUCCEEDED\",\"statusDetails\":{\"n\":1}}",
        ),
    ];
    let server = Server::start(1, move |_, peer| {
        peer.accept();
        for (topic, document) in expected {
            let publish = peer.publish();
            assert_eq!(
                publish.topic.as_str(),
                format!("$aws/things/lamp/jobs/{topic}")
            );
            assert_eq!(publish.payload, document.as_bytes());
            if let Some(id) = publish.packet_id {
                peer.send(&Packet::PubAck(id.into()));
            }
        }
        peer.until_gone();
    });
    let sdk = Sdk::new(server.port, server.certificates.dir());
    sdk.up();
    let mut calls = Calls::new(sdk, 100, 100);
    assert_eq!(calls.query(None, GET_PENDING, None), 0);
    assert_eq!(calls.query(Some(c"tok"), GET_PENDING, None), 0);
    assert_eq!(calls.topic.text(), "$aws/things/lamp/jobs/get");
    assert_eq!(calls.message.text(), "{\"clientToken\":\"tok\"}");
    assert_eq!(calls.start_next(Some(&START)), 0);
    assert_eq!(calls.describe(Some(&NEXT), false), 0);
    assert_eq!(calls.describe(Some(&NEXT), true), 0);
    assert_eq!(calls.update(Some(c"j1"), Some(&update_request())), 0);
    drop(calls);
    server.finish();
}

#[test]
fn a_subscription_is_known_by_its_topic() {
    let server = Server::start(1, |_, peer| {
        peer.accept();
        for filter in ["get/+", "#"] {
            let subscribe = peer.grant();
            let filter = format!("$aws/things/lamp/jobs/{filter}");
            assert_eq!(subscribe.filters[0].0.as_str(), filter);
            peer.tell("$aws/things/lamp/jobs/get/accepted", "{}");
            match peer.receive() {
                Some(Packet::Unsubscribe(unsubscribe)) => {
                    assert_eq!(unsubscribe.filters[0].as_str(), filter);
                    peer.send(&Packet::UnsubAck(unsubscribe.packet_id.into()));
                }
                other => panic!("UNSUBSCRIBE, not {other:?}"),
            }
        }
        peer.until_gone();
    });
    let sdk = Sdk::new(server.port, server.certificates.dir());
    sdk.up();
    let seen = Seen::default();
    let mut calls = Calls::new(sdk, 100, 1);
    let leave = |calls: &mut Calls| {
        let (client, topic) = (calls.sdk.client(), calls.topic.pointer());
        unsafe { aws_iot_jobs_unsubscribe_from_job_messages(client, topic) }
    };
    assert_eq!(calls.subscribe(GET_PENDING, ANY_REPLY, None, &seen), 0);
    assert_eq!(calls.sdk.run_until(&[0], || seen.len() == 1), 0);
    assert_eq!(leave(&mut calls), 0);
    assert_eq!(leave(&mut calls), -1, "it is gone");
    let all = unsafe {
        aws_iot_jobs_subscribe_to_all_job_messages(
            calls.sdk.client(),
            0,
            c"lamp".as_ptr(),
            Some(note),
            seen.data(),
            calls.topic.pointer(),
            100,
        )
    };
    assert_eq!(all, 0);
    assert_eq!(calls.sdk.run_until(&[0], || seen.len() == 2), 0);
    assert_eq!(leave(&mut calls), 0);
    drop(calls);
    server.finish();
}

#[test]
fn what_is_missing_wrong_or_too_long_is_told_before_anything_is_sent() {
    let server = Server::start(1, |_, peer| {
        peer.accept();
        assert_eq!(peer.until_gone(), None);
    });
    let sdk = Sdk::new(server.port, server.certificates.dir());
    sdk.up();
    let seen = Seen::default();
    let mut calls = Calls::new(sdk, 30, 10);
    assert_eq!(calls.query(None, 0, None), -1, "no such topic");
    assert_eq!(calls.query(None, 99, None), -1);
    assert_eq!(calls.query(None, DESCRIBE, None), -1, "of which job?");
    assert_eq!(
        calls.query(None, UPDATE, Some(c"a-long-job-id")),
        -51,
        "the topic's buffer"
    );
    assert_eq!(
        calls.query(Some(c"tok"), GET_PENDING, None),
        -51,
        "the message's buffer"
    );
    assert_eq!(calls.start_next(None), -2);
    assert_eq!(calls.start_next(Some(&START)), -51);
    assert_eq!(calls.update(None, Some(&update_request())), -1);
    assert_eq!(calls.update(Some(c"j"), None), -2);
    assert_eq!(calls.subscribe(START_NEXT, ANY_REPLY, None, &seen), -51);
    assert_eq!(
        calls.subscribe(5, ANY_REPLY, None, &seen),
        -1,
        "notify has no reply"
    );
    let null = std::ptr::null_mut();
    let client = calls.sdk.client();
    unsafe {
        let lamp = c"lamp".as_ptr();
        let topic = calls.topic.pointer();
        let query = |client, lamp, topic| {
            let none = std::ptr::null();
            aws_iot_jobs_send_query(client, 0, lamp, none, none, topic, 30, null, 0, REQUEST)
        };
        assert_eq!(query(std::ptr::null_mut(), lamp, topic), -2);
        assert_eq!(query(client, std::ptr::null(), topic), -2);
        assert_eq!(query(client, lamp, null), -2);
        assert_eq!(aws_iot_jobs_unsubscribe_from_job_messages(client, null), -2);
        let handler = None;
        let subscribed = aws_iot_jobs_subscribe_to_job_messages(
            client,
            0,
            lamp,
            std::ptr::null(),
            GET_PENDING,
            REQUEST,
            handler,
            null.cast(),
            topic,
            30,
        );
        assert_eq!(subscribed, -2, "no handler");
    }
    drop(calls);
    server.finish();
}

#[test]
fn a_request_with_qos_1_that_is_not_acknowledged_is_a_timeout() {
    let server = Server::start(1, |_, peer| {
        peer.accept();
        peer.publish();
        peer.until_gone();
    });
    let mut sdk = Sdk::new(server.port, server.certificates.dir());
    sdk.init.command_timeout_ms = 200;
    sdk.up();
    let mut calls = Calls::new(sdk, 100, 100);
    assert_eq!(calls.update(Some(c"j1"), Some(&update_request())), -28);
    drop(calls);
    server.finish();
}
