//! What the service promises beside the documents: when it speaks, in which order, and to whom.
#![allow(clippy::unwrap_used)] // a test that panics has failed

#[path = "support/house.rs"]
mod support;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use iotedge_model::reserved::ShadowOperation;
use iotedge_model::{Principal, PrincipalKind, Protocol, ShadowName, ThingName, TraceId};
use iotedge_ports::{Failure, HttpMount, HttpRequest, HttpResponse, Method, ShadowReader};
use iotedge_shadow::{Call, Settings, ShadowHttp, StorageFailure};
use iotedge_store::{Options, Store};
use serde_json::{Value, json};
use support::{House, MemoryStore, TestAuthorizer, block_on};

const UPDATE: &str = "$aws/things/lamp/shadow/update";
const GET: &str = "$aws/things/lamp/shadow/get";

fn house() -> (House, Arc<MemoryStore>) {
    let store = Arc::new(MemoryStore::default());
    (House::new(store.clone()), store)
}

fn reported(n: u32) -> String {
    json!({"state": {"reported": {"n": n}}}).to_string()
}

fn suffixes(messages: &[(String, Value)]) -> Vec<&str> {
    messages
        .iter()
        .map(|(t, _)| t.split("/shadow/").nth(1).unwrap())
        .collect()
}

fn call(operation: ShadowOperation, payload: &str) -> Call {
    Call {
        thing: ThingName::new("lamp").unwrap(),
        shadow: None,
        operation,
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        trace: TraceId(7),
        protocol: Protocol::Http,
    }
}

#[test]
fn nothing_is_said_before_the_commit() {
    let (house, store) = house();
    store.hold();
    house.send(UPDATE, reported(1));
    store.wait_for_puts(1);
    // The other thing is answered meanwhile: the service's thread has passed the update.
    assert_eq!(
        house.service.shadow(&ThingName::new("fan").unwrap(), None),
        None
    );
    house.send("$aws/things/fan/shadow/get", "");
    let first = house.acks.wait(1);
    assert_eq!(first, [(1, Ok(()))]);
    assert_eq!(suffixes(&house.broker.take()), ["get/rejected"]);
    store.release(&Ok(()));
    assert_eq!(house.acks.wait(1), [(0, Ok(()))]);
    assert_eq!(
        suffixes(&house.broker.take()),
        ["update/accepted", "update/documents"]
    );
}

#[test]
fn a_failed_commit_is_rejected_and_not_acknowledged() {
    let (house, store) = house();
    store.hold();
    house.send(UPDATE, reported(1));
    store.wait_for_puts(1);
    store.release(&Err(StorageFailure("disk".into())));
    assert_eq!(house.acks.wait(1), [(0, Err(Failure::Store))]);
    let messages = house.broker.take();
    assert_eq!(suffixes(&messages), ["update/rejected"]);
    assert_eq!(messages[0].1["code"], 500);
    assert_eq!(messages[0].1["message"], "Internal service failure");
}

#[test]
fn answers_for_one_thing_keep_the_order_of_its_requests() {
    let (house, store) = house();
    store.hold();
    house.send(UPDATE, reported(1));
    house.send(GET, "");
    house.send(UPDATE, "not json");
    house.send(UPDATE, reported(2));
    store.wait_for_puts(2);
    assert_eq!(house.acks.count(), 0);
    store.release(&Ok(()));
    let acked: Vec<u64> = house.acks.wait(4).into_iter().map(|(t, _)| t).collect();
    assert_eq!(acked, [0, 1, 2, 3]);
    let messages = house.broker.take();
    assert_eq!(
        suffixes(&messages),
        [
            "update/accepted",
            "update/documents",
            "get/accepted",
            "update/rejected",
            "update/accepted",
            "update/documents"
        ]
    );
    assert_eq!(
        messages[2].1["version"], 1,
        "the get saw the first update only"
    );
}

#[test]
fn amb_shadow_120_the_limit_in_flight_is_per_thing() {
    let (house, store) = house();
    store.hold();
    for thing in ["a", "b"] {
        for n in 0..10 {
            house.send(&format!("$aws/things/{thing}/shadow/update"), reported(n));
        }
    }
    store.wait_for_puts(20);
    store.release(&Ok(()));
    house.acks.wait(20);
    let messages = house.broker.take();
    assert!(suffixes(&messages).iter().all(|s| *s != "update/rejected"));
}

#[test]
fn responses_carry_the_trace_of_the_request() {
    let (house, _) = house();
    house.send(UPDATE, reported(1));
    house.acks.wait(1);
    let messages = house.broker.0.lock().unwrap();
    assert!(messages.iter().all(|m| m.trace == TraceId(1)));
}

#[test]
fn a_call_publishes_changes_and_tells_refusals_to_the_caller_only() {
    let (house, _) = house();
    let answer = block_on(
        house
            .service
            .call(call(ShadowOperation::Update, &reported(1))),
    );
    let accepted: Value = serde_json::from_slice(&answer.unwrap()).unwrap();
    let messages = house.broker.take();
    assert_eq!(suffixes(&messages), ["update/accepted", "update/documents"]);
    assert_eq!(messages[0].1, accepted);
    let refused = block_on(house.service.call(call(ShadowOperation::Update, "{")));
    assert_eq!(refused.unwrap_err().reason.code(), 400);
    block_on(house.service.call(call(ShadowOperation::Get, ""))).unwrap();
    assert!(house.broker.take().is_empty());
}

#[test]
fn rules_read_the_whole_document() {
    let (house, _) = house();
    house.ask(
        "$aws/things/lamp/shadow/name/cfg/update",
        r#"{"state":{"desired":{"a":1}}}"#,
    );
    let lamp = ThingName::new("lamp").unwrap();
    let cfg = ShadowName::new("cfg").unwrap();
    let document = house.service.shadow(&lamp, Some(&cfg)).unwrap();
    assert_eq!(
        document["state"],
        json!({"desired": {"a": 1}, "delta": {"a": 1}})
    );
    assert_eq!(document["version"], 1);
    assert_eq!(house.service.shadow(&lamp, None), None);
}

#[test]
fn shadows_and_their_versions_outlive_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let options = || Options {
        min_free_disk: 0,
        ..Options::default()
    };
    {
        let (store, _) = Store::open(dir.path(), options()).unwrap();
        let house = House::new(Arc::new(store.documents("shadows")));
        house.ask(UPDATE, reported(1));
        house.ask(UPDATE, reported(2));
        house.ask("$aws/things/gone/shadow/update", reported(1));
        house.ask("$aws/things/gone/shadow/delete", "");
        house.service.stop();
        store.close();
    }
    let (store, _) = Store::open(dir.path(), options()).unwrap();
    let house = House::new(Arc::new(store.documents("shadows")));
    let messages = house.ask(GET, "");
    assert_eq!(messages[0].1["state"]["reported"], json!({"n": 2}));
    assert_eq!(messages[0].1["version"], 2);
    let messages = house.ask("$aws/things/gone/shadow/update", reported(1));
    assert_eq!(messages[0].1["version"], 2);
    assert_eq!(messages[1].1["previous"], Value::Null);
    house.service.stop();
    store.close();
}

#[test]
fn tombstones_are_forgotten_after_two_days() {
    let (house, store) = house();
    house.ask(UPDATE, reported(1));
    house.ask("$aws/things/lamp/shadow/delete", "");
    house.ask("$aws/things/fan/shadow/update", reported(1));
    house.service.sweep();
    house.ask("$aws/things/fan/shadow/get", "");
    assert_eq!(store.len(), 2);
    house.clock.advance_seconds(48 * 3600 + 1);
    house.service.sweep();
    house.ask("$aws/things/fan/shadow/get", "");
    assert_eq!(store.len(), 1);
}

struct Http {
    mount: ShadowHttp,
    authorizer: Arc<TestAuthorizer>,
}

impl Http {
    fn new(house: &House) -> Self {
        let authorizer = Arc::new(TestAuthorizer(Mutex::default()));
        Self {
            mount: ShadowHttp::new(house.service.clone(), authorizer.clone()),
            authorizer,
        }
    }
    fn ask(&self, who: &str, method: Method, path: &str, query: &[(&str, &str)]) -> HttpResponse {
        let kind = PrincipalKind::User { name: who.into() };
        self.ask_as(kind, method, path, query)
    }
    fn ask_as(
        &self,
        kind: PrincipalKind,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
    ) -> HttpResponse {
        block_on(
            self.mount.handle(HttpRequest {
                method,
                path: path.into(),
                query: query
                    .iter()
                    .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                    .collect(),
                body: Bytes::from(reported(1)),
                principal: Arc::new(Principal { kind }),
                remote: None,
                trace: TraceId(1),
                link: iotedge_ports::HttpLink::default(),
            }),
        )
    }
}

fn error_type(response: &HttpResponse) -> Option<&str> {
    let header = response
        .headers
        .iter()
        .find(|(n, _)| *n == "x-amzn-errortype");
    header.map(|(_, v)| v.as_str())
}

fn body(response: &HttpResponse) -> Value {
    serde_json::from_slice(&response.body).unwrap()
}

#[test]
fn http_asks_for_permission_on_the_thing_and_the_shadow() {
    let (house, _) = house();
    let http = Http::new(&house);
    let response = http.ask(
        "alice",
        Method::Post,
        "/things/lamp/shadow",
        &[("name", "cfg")],
    );
    assert_eq!(response.status, 200);
    http.ask("alice", Method::Get, "/things/lamp/shadow", &[]);
    http.ask("alice", Method::Delete, "/things/lamp/shadow", &[]);
    let list = "/api/things/shadow/ListNamedShadowsForThing/lamp";
    assert_eq!(
        body(&http.ask("alice", Method::Get, list, &[]))["results"],
        json!(["cfg"])
    );
    assert_eq!(
        *http.authorizer.0.lock().unwrap(),
        [
            "iot:UpdateThingShadow lamp/cfg",
            "iot:GetThingShadow lamp",
            "iot:DeleteThingShadow lamp",
            "iot:ListNamedShadowsForThing lamp"
        ]
    );
}

#[test]
fn http_refusals_have_the_shapes_of_the_api() {
    let (house, _) = house();
    let http = Http::new(&house);
    let denied = http.ask("mallory", Method::Post, "/things/lamp/shadow", &[]);
    assert_eq!(
        (denied.status, error_type(&denied)),
        (403, Some("ForbiddenException"))
    );
    assert_eq!(
        body(&denied),
        json!({"code": 403, "message": "Forbidden",
               "traceId": "00000000-0000-0000-0000-000000000001"})
    );
    assert!(house.broker.take().is_empty());
    let missing = http.ask("alice", Method::Get, "/things/lamp/shadow", &[]);
    assert_eq!(
        (missing.status, error_type(&missing)),
        (404, Some("ResourceNotFoundException"))
    );
    assert_eq!(
        body(&missing)["message"],
        "No shadow exists with name: 'lamp'"
    );
    let wrong = http.ask("alice", Method::Get, "/things/a%2Fb/shadow", &[]);
    assert_eq!(
        (wrong.status, error_type(&wrong)),
        (400, Some("InvalidRequestException"))
    );
}

#[test]
fn amb_shadow_121_who_has_not_said_who_he_is_hears_401() {
    let (house, _) = house();
    let http = Http::new(&house);
    let nobody = PrincipalKind::Anonymous {
        listener: "closed".into(),
    };
    let refused = http.ask_as(nobody, Method::Get, "/things/lamp/shadow", &[]);
    assert_eq!(
        (refused.status, error_type(&refused)),
        (401, Some("UnauthorizedException"))
    );
    assert_eq!(body(&refused)["message"], "Unauthorized");
}

#[test]
fn lists_are_only_read() {
    let (house, _) = house();
    let http = Http::new(&house);
    let list = "/api/things/shadow/ListNamedShadowsForThing/lamp";
    for method in [Method::Post, Method::Delete] {
        assert!(http.mount.takes(method, list));
        let refused = http.ask("alice", method, list, &[]);
        assert_eq!(
            (refused.status, error_type(&refused)),
            (405, Some("MethodNotAllowedException"))
        );
    }
}

#[test]
fn names_have_the_lengths_of_the_settings() {
    let settings = Settings {
        max_thing_name: 4,
        max_shadow_name: 3,
        ..Settings::default()
    };
    let house = House::with(Arc::new(MemoryStore::default()), settings);
    let http = Http::new(&house);
    let ask = |thing: &str, name: &str| {
        let topic = format!("$aws/things/{thing}/shadow/name/{name}");
        let by_mqtt = house.ask(&format!("{topic}/update"), reported(1));
        let path = format!("/things/{thing}/shadow");
        let by_http = http.ask("alice", Method::Post, &path, &[("name", name)]);
        house.broker.take();
        (suffixes(&by_mqtt)[0].ends_with("accepted"), by_http.status)
    };
    assert_eq!(ask("lamp", "cfg"), (true, 200));
    assert_eq!(ask("lamps", "cfg"), (false, 400));
    assert_eq!(ask("lamp", "conf"), (false, 400));
}

#[test]
fn every_refusal_carries_the_token_of_its_request() {
    let (house, store) = house();
    let request = |token: &str| format!("{{\"state\":{{}},\"clientToken\":\"{token}\"}}");
    let wrong_name = house.ask("$aws/things/a b/shadow/update", request("name"));
    assert_eq!(wrong_name[0].1["clientToken"], "name");
    store.hold();
    for n in 0..=10 {
        house.send(UPDATE, request(&n.to_string()));
    }
    store.wait_for_puts(10);
    store.release(&Err(StorageFailure("disk".into())));
    house.acks.wait(11);
    let told: Vec<(u64, String)> = house
        .broker
        .take()
        .iter()
        .map(|(_, m)| {
            let token = m["clientToken"].as_str().unwrap();
            (m["code"].as_u64().unwrap(), token.to_owned())
        })
        .collect();
    let failed = (0..10).map(|n| (500, n.to_string()));
    let expected: Vec<_> = failed.chain([(429, "10".to_owned())]).collect();
    assert_eq!(told, expected);
}

#[test]
fn amb_shadow_123_lists_come_in_pages() {
    let (house, _) = house();
    let http = Http::new(&house);
    for name in ["c", "a", "d", "b"] {
        let topic = format!("$aws/things/lamp/shadow/name/{name}");
        house.ask(&format!("{topic}/update"), reported(1));
        if name == "b" {
            house.ask(&format!("{topic}/delete"), "");
        }
    }
    house.ask(UPDATE, reported(1));
    house.ask("$aws/things/lamp2/shadow/name/x/update", reported(1));
    let path = "/api/things/shadow/ListNamedShadowsForThing/lamp";
    let page = |query: &[(&str, &str)]| http.ask("alice", Method::Get, path, query);
    let first = body(&page(&[("pageSize", "2")]));
    assert_eq!(first["results"], json!(["a", "c"]));
    let token = first["nextToken"].as_str().unwrap();
    let second = body(&page(&[("pageSize", "2"), ("nextToken", token)]));
    assert_eq!(second["results"], json!(["d"]));
    assert!(second.get("nextToken").is_none());
    for wrong in ["0", "101", "x", "-1"] {
        assert_eq!(page(&[("pageSize", wrong)]).status, 400, "{wrong}");
    }
    assert_eq!(page(&[("nextToken", "a b")]).status, 400);
}
