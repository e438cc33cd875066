//! The commands against a daemon that says what it is told to.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use clap::Parser as _;

use super::args::Arguments;
use super::protocol::{
    Base64, BridgeStatus, CertCreate, Certificate, CertificateCreated, CertificateInfo, Explained,
    Message, QueueHead, QueueInfo, Reply, Request, RouteStatus, Shadow, Status, UpstreamStatus,
};
use super::{CtlError, run};

/// Answers one connection: each request line gets the next of `answers`.
struct Daemon {
    folder: tempfile::TempDir,
    thread: JoinHandle<Vec<Request>>,
}

impl Daemon {
    fn new(answers: Vec<Vec<Reply>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("s")).unwrap();
        let thread = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let mut stream = stream;
            let mut asked = Vec::new();
            for replies in answers {
                let line = lines.next().unwrap().unwrap();
                asked.push(Request::from_line(line.as_bytes()).unwrap());
                for reply in replies {
                    stream.write_all(&reply.to_line()).unwrap();
                }
            }
            asked
        });
        Self { folder, thread }
    }

    fn one(reply: Reply) -> Self {
        Self::new(vec![vec![reply]])
    }

    fn run(&self, line: &[&str]) -> (Result<(), CtlError>, String) {
        let socket = self.folder.path().join("s");
        let head = ["iotedgectl", "--socket", socket.to_str().unwrap()];
        command(head.iter().chain(line))
    }

    fn asked(self) -> Vec<Request> {
        self.thread.join().unwrap()
    }
}

fn command<'a>(line: impl Iterator<Item = &'a &'a str>) -> (Result<(), CtlError>, String) {
    let arguments = Arguments::try_parse_from(line).unwrap();
    let mut out = Vec::new();
    let outcome = run::run(&arguments, &mut out);
    (outcome, String::from_utf8(out).unwrap())
}

fn offline(line: &[&str]) -> (Result<(), CtlError>, String) {
    command(["iotedgectl"].iter().chain(line))
}

fn status() -> Status {
    Status {
        thing_name: "edge-7".into(),
        time_trusted: true,
        clients: 3,
        dropped: [("policy".to_owned(), 2)].into(),
        upstreams: bridge().upstreams,
        ..Status::default()
    }
}

fn bridge() -> BridgeStatus {
    BridgeStatus {
        upstreams: vec![UpstreamStatus {
            name: "cloud".into(),
            url: "mqtts://cloud.example:8883".into(),
            state: "backing-off".into(),
            reason: "connection refused".into(),
            routes: vec![RouteStatus {
                name: "out:t/#".into(),
                direction: "out".into(),
                accepted: 12,
                delivered: 5,
                queued: 7,
                ..RouteStatus::default()
            }],
            ..UpstreamStatus::default()
        }],
        written_bytes: 1_400_000,
        messages: 2000,
    }
}

#[test]
fn status_is_one_screen_or_json() {
    let daemon = Daemon::one(Reply::ok(&status()));
    let (outcome, text) = daemon.run(&["status"]);
    outcome.unwrap();
    for word in [
        "edge-7",
        "clients 3",
        "policy 2",
        "cloud",
        "backing-off",
        "connection refused",
    ] {
        assert!(text.contains(word), "{word} is not in\n{text}");
    }
    assert_eq!(daemon.asked(), [Request::Status]);

    let daemon = Daemon::one(Reply::ok(&status()));
    let (outcome, text) = daemon.run(&["status", "--json"]);
    outcome.unwrap();
    assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status());
    assert_eq!(text.lines().count(), 1);
}

#[test]
fn a_refusal_is_an_error_with_its_reason() {
    let daemon = Daemon::one(Reply::error("404", "No shadow exists with name: 'lamp'"));
    let (outcome, text) = daemon.run(&["shadow", "get", "lamp"]);
    assert_eq!(
        outcome.unwrap_err().to_string(),
        "No shadow exists with name: 'lamp' (404)"
    );
    assert_eq!(text, "");
    let thing = iotedge_model::ThingName::new("lamp").unwrap();
    assert_eq!(
        daemon.asked(),
        [Request::ShadowGet(Shadow { thing, name: None })]
    );
}

#[test]
fn without_a_daemon_the_socket_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("nobody");
    let (outcome, _) = offline(&["--socket", socket.to_str().unwrap(), "status"]);
    let error = outcome.unwrap_err().to_string();
    assert!(error.contains(socket.to_str().unwrap()), "{error}");
}

#[test]
fn a_daemon_that_hangs_up_or_talks_nonsense_is_an_error() {
    let daemon = Daemon::new(vec![Vec::new()]);
    let (outcome, _) = daemon.run(&["status"]);
    assert!(matches!(outcome, Err(CtlError::NoDaemon(_))));

    let daemon = Daemon::one(Reply::Ok(serde_json::json!([1])));
    let (outcome, _) = daemon.run(&["bridge", "status"]);
    assert!(matches!(outcome, Err(CtlError::Answer(_))));
}

#[test]
fn bridge_status_says_what_a_message_costs_the_disk() {
    let daemon = Daemon::one(Reply::ok(&bridge()));
    let (outcome, text) = daemon.run(&["bridge", "status"]);
    outcome.unwrap();
    assert!(
        text.contains("written, 700 bytes for each of 2000 messages"),
        "{text}"
    );
}

fn created() -> CertificateCreated {
    CertificateCreated {
        certificate_id: "ab".repeat(32),
        certificate_pem: "CERT\n".into(),
        private_key: Some("KEY\n".into()),
        ca_pem: "CA\n".into(),
        ..CertificateCreated::default()
    }
}

#[test]
fn cert_create_writes_three_files_and_prints_the_id() {
    let out = tempfile::tempdir().unwrap();
    let folder = out.path().join("new");
    let path = folder.to_str().unwrap();
    let daemon = Daemon::one(Reply::ok(&created()));
    let (outcome, text) = daemon.run(&[
        "cert", "create", "--name", "m1", "--policy", "p", "--out", path,
    ]);
    outcome.unwrap();
    assert!(text.starts_with(&"ab".repeat(32)), "{text}");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    assert_eq!(
        [read("m1.pem"), read("m1.key"), read("ca.pem")],
        ["CERT\n", "KEY\n", "CA\n"]
    );
    let mode = |name: &str| folder.join(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("m1.key"), 0o600);
    assert_eq!(
        daemon.asked(),
        [Request::CertCreate(CertCreate {
            name: Some("m1".into()),
            csr: None,
            policies: vec!["p".into()],
            thing: None,
        })]
    );

    // The key is printed nowhere.
    let daemon = Daemon::one(Reply::ok(&created()));
    let (outcome, text) = daemon.run(&["--json", "cert", "create", "--name", "m2", "--out", path]);
    outcome.unwrap();
    assert!(!text.contains("KEY"), "{text}");
    let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answer["certificateId"], "ab".repeat(32));
}

#[test]
fn what_is_there_is_not_overwritten_and_no_certificate_is_made() {
    let out = tempfile::tempdir().unwrap();
    std::fs::write(out.path().join("m1.key"), "old").unwrap();
    let path = out.path().to_str().unwrap();
    // Nobody listens: it must fail before it asks.
    let line = [
        "--socket", "/nowhere", "cert", "create", "--name", "m1", "--out", path,
    ];
    let (outcome, _) = offline(&line);
    assert!(matches!(outcome, Err(CtlError::File { .. })), "{outcome:?}");
    assert_eq!(
        std::fs::read_to_string(out.path().join("m1.key")).unwrap(),
        "old"
    );
    for name in ["a/b", "..", "", "ca"] {
        let (outcome, _) = offline(&["cert", "create", "--name", name, "--out", path]);
        assert!(
            matches!(outcome, Err(CtlError::Failed(_))),
            "{name:?} {outcome:?}"
        );
    }
}

#[test]
fn a_certificate_whose_files_cannot_be_written_is_revoked() {
    let out = tempfile::tempdir().unwrap();
    std::fs::write(out.path().join("ca.pem"), "of another gateway").unwrap();
    let daemon = Daemon::new(vec![
        vec![Reply::ok(&created())],
        vec![Reply::ok(&CertificateInfo::default())],
    ]);
    let path = out.path().to_str().unwrap();
    let (outcome, _) = daemon.run(&["cert", "create", "--name", "m1", "--out", path]);
    let error = outcome.unwrap_err().to_string();
    assert!(error.contains("another CA"), "{error}");
    let id = iotedge_model::CertificateId::parse(&"ab".repeat(32)).unwrap();
    assert_eq!(daemon.asked()[1], Request::CertRevoke(Certificate { id }));
}

#[test]
fn subscribe_prints_messages_until_it_has_its_count() {
    let message = |topic: &str, payload: &[u8]| {
        Reply::Message(Message {
            topic: topic.into(),
            payload: Base64(payload.to_vec()),
            qos: iotedge_model::QoS::AtLeastOnce,
            retain: false,
        })
    };
    let replies = || {
        vec![vec![
            Reply::done(),
            message("a/1", b"hello"),
            message("a/2", b"\xff"),
            message("a/3", b"too many"),
        ]]
    };
    let daemon = Daemon::new(replies());
    let (outcome, text) = daemon.run(&["subscribe", "a/#", "-n", "1"]);
    outcome.unwrap();
    assert_eq!(text, "a/1 hello\n");

    let daemon = Daemon::new(replies());
    let (outcome, text) = daemon.run(&["subscribe", "a/#", "-n", "2", "--json"]);
    outcome.unwrap();
    assert_eq!(
        text,
        "{\"topic\":\"a/1\",\"payload\":\"hello\",\"qos\":1,\"retain\":false}\n\
         {\"topic\":\"a/2\",\"payload_base64\":\"/w==\",\"qos\":1,\"retain\":false}\n"
    );
    // The daemon goes away before the third.
    let daemon = Daemon::new(vec![vec![Reply::done(), message("a/1", b"x")]]);
    let (outcome, _) = daemon.run(&["subscribe", "a/#", "-n", "2"]);
    assert!(matches!(outcome, Err(CtlError::NoDaemon(_))));
}

#[test]
fn explain_ends_with_1_when_it_is_denied() {
    for (allowed, word) in [(true, "allow\n"), (false, "deny\n")] {
        let daemon = Daemon::one(Reply::ok(&Explained {
            allowed,
            explanation: "because".into(),
        }));
        let id = "ab".repeat(32);
        let (outcome, text) = daemon.run(&[
            "policy",
            "explain",
            "--cert",
            &id,
            "--client-id",
            "c",
            "--action",
            "iot:Publish",
            "--resource",
            "t",
        ]);
        assert_eq!(outcome.is_ok(), allowed);
        assert!(text.starts_with(word) && text.contains("because"), "{text}");
    }
}

#[test]
fn bridge_queue_shows_what_waits_and_what_comes_first() {
    let queue = QueueInfo {
        upstream: "cloud".into(),
        route: "out:t/#".into(),
        queued: 7,
        dead_letters: 3,
        heads: vec![QueueHead {
            topic: "t/first".into(),
            ..QueueHead::default()
        }],
        ..QueueInfo::default()
    };
    let daemon = Daemon::one(Reply::ok(&[queue]));
    let (outcome, text) = daemon.run(&["bridge", "queue", "--upstream", "cloud", "--peek", "1"]);
    outcome.unwrap();
    for word in ["cloud/out:t/#", "7", "3", "t/first"] {
        assert!(text.contains(word), "{text}");
    }
    let daemon = Daemon::one(Reply::error("not-found", "there is no upstream"));
    let (outcome, _) = daemon.run(&["bridge", "queue", "--upstream", "other"]);
    assert!(outcome.is_err());
}

fn put(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn rule_test_prints_the_payload_with_a_line_feed_or_no_match() {
    let folder = tempfile::tempdir().unwrap();
    let payload = put(folder.path(), "p", r#"{"t":21.5,"unit":"C"}"#);
    let payload = payload.to_str().unwrap();
    let test = |sql: &str, more: &[&str]| {
        let mut line = vec![
            "rule",
            "test",
            "--sql",
            sql,
            "--topic",
            "a/b/c",
            "--payload",
            payload,
        ];
        line.extend(more);
        offline(&line)
    };
    let version = ["--sql-version", "2016-03-23"];
    let (outcome, text) = test("SELECT t * 2 AS double FROM 'a/+/c' WHERE t > 20", &version);
    outcome.unwrap();
    assert_eq!(text, "{\"double\":43}\n");
    let (outcome, text) = test("SELECT * FROM 'a/+/c' WHERE t > 30", &version);
    outcome.unwrap();
    assert_eq!(text, "no match\n");
    let (outcome, text) = test(
        "SELECT * FROM '#'",
        &["--template", "out/${topic(1)}/${unit}"],
    );
    outcome.unwrap();
    assert_eq!(text, "out/a/C\n");
    let (outcome, _) = test("SELEKT", &[]);
    assert!(matches!(outcome, Err(CtlError::Failed(_))));
}

#[test]
fn policy_test_says_allow_deny_or_invalid_on_its_first_line() {
    let folder = tempfile::tempdir().unwrap();
    let allow = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Publish","Resource":"arn:aws:iot:us-east-1:123456789012:topic/a"}]}"#;
    let case = |policy: &str, resource: &str| {
        format!(
            r#"{{"policies":[{policy}],"client_id":"c","action":"iot:Publish","resource":"{resource}"}}"#
        )
    };
    for (text, first, done) in [
        (case(allow, "a"), "allow", true),
        (case(allow, "b"), "deny", false),
        (case("{}", "a"), "invalid: policy 1: ", false),
    ] {
        let file = put(folder.path(), "r.json", &text);
        let (outcome, out) = offline(&["policy", "test", "--request", file.to_str().unwrap()]);
        assert_eq!(outcome.is_ok(), done, "{out}");
        assert!(out.lines().next().unwrap().starts_with(first), "{out}");
    }
    let (outcome, _) = offline(&["policy", "test", "--request", "/no/such/file"]);
    assert!(matches!(outcome, Err(CtlError::File { .. })));
}
