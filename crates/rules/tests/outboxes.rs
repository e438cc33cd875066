//! Actions carried out from their outboxes, with the real broker and store.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test may panic

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use iotedge_broker::{Broker, Limits};
use iotedge_model::{
    ClientId, DropReason, Message, MessageId, Now, Principal, PrincipalKind, QoS, Source, Topic,
    TraceId, UnixMillis,
};
use iotedge_ports::{
    AckSink, BoxFuture, BrokerPort, Clock, Failure, OnFull, Part, Publication, PublishOutcome,
    Service,
};
use iotedge_rules::sink::{Item, NoFunctions, Progress, Sink, SinkError, Sinks};
use iotedge_rules::{Engine, OutboxSettings, Outboxes, Rule, Task, parse_rule};
use iotedge_store::{DeadLetter, Options, Store, TakerKind};
use tokio::sync::{Notify, watch};

const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Default)]
struct TestClock(AtomicU64);

impl Clock for TestClock {
    fn now(&self) -> Now {
        let mono = self.0.load(Ordering::Relaxed);
        Now {
            mono,
            wall: UnixMillis(1_700_000_000_000 + mono),
            trusted: true,
        }
    }
}

/// What a sink does with a body.
type Verdict = Box<dyn Fn(&str) -> Option<SinkError> + Send>;

/// Keeps what it is given, or fails as a test says.
struct TestSink {
    got: watch::Sender<Vec<(String, String)>>,
    tries: watch::Sender<u64>,
    verdict: Mutex<Verdict>,
    hold: Mutex<Option<Arc<Notify>>>,
}

impl TestSink {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            got: watch::Sender::default(),
            tries: watch::Sender::default(),
            verdict: Mutex::new(Box::new(|_| None)),
            hold: Mutex::default(),
        })
    }

    fn fail(&self, verdict: impl Fn(&str) -> Option<SinkError> + Send + 'static) {
        *self.verdict.lock().unwrap() = Box::new(verdict);
    }

    async fn wait(&self, bodies: &[&str]) {
        let mut got = self.got.subscribe();
        let enough = got.wait_for(|got| {
            let found: Vec<&str> = got.iter().map(|(_, body)| &**body).collect();
            found == bodies
        });
        let waited = tokio::time::timeout(PATIENCE, enough).await.map(|_| ());
        assert!(waited.is_ok(), "{bodies:?}: {:?}", *self.got.borrow());
    }

    async fn tried(&self, times: u64) {
        let mut tries = self.tries.subscribe();
        let enough = tries.wait_for(|n| *n >= times);
        tokio::time::timeout(PATIENCE, enough)
            .await
            .unwrap()
            .unwrap();
    }
}

impl Sink for TestSink {
    fn run<'a>(&'a self, outbox: &'a str, items: &'a [Item]) -> BoxFuture<'a, Progress> {
        Box::pin(async move {
            let hold = self.hold.lock().unwrap().clone();
            if let Some(hold) = hold {
                self.tries.send_modify(|n| *n += 1);
                hold.notified().await;
            }
            for (done, item) in items.iter().enumerate() {
                let body = String::from_utf8(item.body.to_vec()).unwrap();
                let error = (self.verdict.lock().unwrap())(&body);
                if let Some(error) = error {
                    self.tries.send_modify(|n| *n += 1);
                    return Progress::until(done, error);
                }
                self.got
                    .send_modify(|got| got.push((outbox.to_owned(), body)));
            }
            Progress::all(items)
        })
    }
}

struct House {
    store: Store,
    broker: Broker,
    clock: Arc<TestClock>,
    engine: Arc<Engine>,
    outboxes: Arc<Outboxes>,
    sink: Arc<TestSink>,
}

fn rule(name: &str, sql: &str, rest: &str) -> Rule {
    let text = format!(r#"{{"awsIotSqlVersion": "2016-03-23", "sql": {sql:?}, {rest}}}"#);
    parse_rule(name, "f", &text).unwrap_or_else(|e| panic!("{e:?}"))
}

fn file_rule(name: &str, more: &str) -> Rule {
    let rest = format!(r#""actions": [{{"file": {{"path": "f"}}}}]{more}"#);
    rule(name, "SELECT v FROM 'in/#'", &rest)
}

impl House {
    fn open(dir: &Path, sink: Arc<TestSink>, settings: OutboxSettings) -> Self {
        let options = Options {
            min_free_disk: 0,
            ..Options::default()
        };
        let (store, mut opened) = Store::open(dir, options).unwrap();
        let clock = Arc::new(TestClock::default());
        let broker = Broker::new(store.clone(), &mut opened, clock.clone(), Limits::default());
        let sinks = Sinks {
            sqlite: sink.clone(),
            file: sink.clone(),
            http: sink.clone(),
            exec: sink.clone(),
            lambda: Arc::new(NoFunctions),
        };
        let outboxes = Outboxes::new(
            Arc::new(broker.clone()),
            clock.clone(),
            sinks,
            settings,
            tokio::runtime::Handle::current(),
        );
        let engine = Arc::new(Engine::new("123456789012", None));
        engine.bind_outboxes(&outboxes);
        broker.bind_rules(engine.clone());
        outboxes.start();
        Self {
            store,
            broker,
            clock,
            engine,
            outboxes,
            sink,
        }
    }

    async fn close(self) -> Arc<TestSink> {
        self.outboxes.stop().await;
        drop((self.engine, self.outboxes, self.broker));
        self.store.close();
        self.sink
    }

    /// Publishes and waits until it is acknowledged.
    async fn publish(&self, topic: &str, v: &str) -> PublishOutcome {
        let (ear, heard) = Ear::new();
        let mut batch = [Publication::new(
            message(topic, &format!(r#"{{"v":"{v}"}}"#)),
            Some((ear, 0)),
        )];
        self.broker.publish(&mut batch);
        if batch[0].outcome == PublishOutcome::Pending {
            tokio::time::timeout(PATIENCE, heard)
                .await
                .unwrap()
                .unwrap();
        }
        batch[0].outcome
    }

    /// Waits until so many dead letters are there.
    async fn letters(&self, number: usize) -> Vec<DeadLetter> {
        let all = || self.store.dead_letters(None, 100).unwrap();
        eventually("dead letters", || all().len() >= number).await;
        all()
    }
}

/// For what gives no event of its own.
async fn eventually(what: &str, there: impl Fn() -> bool) {
    for _ in 0..4_000 {
        if there() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("waited in vain: {what}");
}

struct Ear(Mutex<Option<tokio::sync::oneshot::Sender<()>>>);

impl Ear {
    fn new() -> (Arc<Self>, tokio::sync::oneshot::Receiver<()>) {
        let (tell, heard) = tokio::sync::oneshot::channel();
        (Arc::new(Self(Mutex::new(Some(tell)))), heard)
    }
}

impl AckSink for Ear {
    fn acked(&self, _: u64, outcome: Result<(), Failure>) {
        assert_eq!(outcome, Ok(()));
        self.0.lock().unwrap().take().unwrap().send(()).unwrap();
    }
}

fn message(topic: &str, payload: &str) -> Message {
    Message {
        id: MessageId(0),
        trace: TraceId(0),
        principal: Arc::new(Principal {
            kind: PrincipalKind::User { name: "u".into() },
        }),
        client_id: ClientId::new("client-1").unwrap().as_str().into(),
        source: Source::Mqtt,
        qos: QoS::AtLeastOnce,
        ..Message::internal(
            "test",
            Topic::new(topic).unwrap(),
            Bytes::copy_from_slice(payload.as_bytes()),
            QoS::AtLeastOnce,
        )
    }
}

/// Keeps what is published on one topic.
struct Listener(watch::Sender<Vec<String>>);

impl Service for Listener {
    fn deliver(&self, message: &Arc<Message>, done: Option<Part>) {
        let text = String::from_utf8(message.payload.to_vec()).unwrap();
        self.0.send_modify(|got| got.push(text));
        if let Some(done) = done {
            done.finish(Ok(()));
        }
    }
}

fn out(n: &str) -> String {
    format!(r#"{{"v":"{n}"}}"#)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_done_in_order_when_the_sink_is_back_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let sink = TestSink::new();
    sink.fail(|_| Some(SinkError::Unavailable("connection refused".into())));
    let house = House::open(dir.path(), sink, OutboxSettings::default());
    house.engine.replace(vec![file_rule("r", "")]);
    for n in ["1", "2", "3"] {
        assert_eq!(house.publish("in/a", n).await, PublishOutcome::Pending);
    }
    house.sink.tried(2).await;
    let status = house.outboxes.status();
    assert_eq!(&*status[0].name, "r/0");
    assert_eq!(status[0].trouble.as_deref(), Some("f: connection refused"));
    let sink = house.close().await;

    sink.fail(|_| None);
    let house = House::open(dir.path(), sink, OutboxSettings::default());
    house.engine.replace(vec![file_rule("r", "")]);
    house.publish("in/a", "4").await;
    house
        .sink
        .wait(&[&out("1"), &out("2"), &out("3"), &out("4")])
        .await;
    let sink = house.close().await;
    let house = House::open(dir.path(), sink, OutboxSettings::default());
    house.engine.replace(vec![file_rule("r", "")]);
    house.publish("in/a", "5").await;
    let all: Vec<String> = ["1", "2", "3", "4", "5"].map(out).to_vec();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    house.sink.wait(&all).await;
    eventually("the action is counted", || {
        let counts = house.engine.rules()[0].counts();
        (counts.executed, counts.succeeded) == (1, 1)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_message_goes_to_the_error_action_and_the_dead_letters_and_the_next_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let sink = TestSink::new();
    sink.fail(|body| {
        body.contains("bad")
            .then(|| SinkError::Refused("no such column".into()))
    });
    let house = House::open(dir.path(), sink, OutboxSettings::default());
    let error = r#", "errorAction": {"republish": {"topic": "errors/${topic(2)}", "qos": 1}}"#;
    house.engine.replace(vec![file_rule("r", error)]);
    let listener = Arc::new(Listener(watch::Sender::default()));
    let filter = iotedge_model::TopicFilter::new("errors/#").unwrap();
    house.broker.attach_service(&[filter], listener.clone());
    for v in ["1", "bad", "2"] {
        house.publish("in/a", v).await;
    }
    house.sink.wait(&[&out("1"), &out("2")]).await;
    let letters = house.letters(1).await;
    assert_eq!(letters[0].kind, TakerKind::Outbox);
    assert_eq!(&*letters[0].taker, "r/0");
    assert_eq!(&*letters[0].reason, "refused f: no such column");
    let work = iotedge_rules::Work::decode(&letters[0].message.payload).unwrap();
    assert_eq!(work.body, out("bad"));
    assert!(matches!(work.task, Task::File(_)));

    let documents = listener.0.borrow().clone();
    assert_eq!(documents.len(), 1);
    let document: serde_json::Value = serde_json::from_str(&documents[0]).unwrap();
    assert_eq!(document["ruleName"], "r");
    assert_eq!(document["topic"], "in/a");
    assert_eq!(document["clientId"], "client-1");
    assert_eq!(
        document["cloudwatchTraceId"],
        letters[0].message.trace.to_string()
    );
    assert_eq!(document["base64OriginalPayload"], "eyJ2IjoiYmFkIn0=");
    assert_eq!(
        document["failures"],
        serde_json::json!([{"failedAction": "FileAction", "failedResource": "f", "errorMessage": "no such column"}])
    );
    let rule = &house.engine.rules()[0];
    assert_eq!(rule.counts().failed_action, 1);
    eventually("the action is counted", || {
        let (name, kind, counts) = &rule.action_counts()[0];
        assert_eq!((&**name, *kind), ("actions[0]", "file"));
        (counts.succeeded, counts.failed[1].1) == (2, 1)
    })
    .await;

    // Replayed when what was wrong is mended.
    house.sink.fail(|_| None);
    house
        .broker
        .revive(letters[0].id, Box::new(|_| {}))
        .unwrap();
    house.sink.wait(&[&out("1"), &out("2"), &out("bad")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_again_and_again_is_given_up_after_its_attempts() {
    let dir = tempfile::tempdir().unwrap();
    let sink = TestSink::new();
    sink.fail(|body| {
        body.contains("bad")
            .then(|| SinkError::Failed("exit code 1".into()))
    });
    let settings = OutboxSettings {
        max_attempts: 3,
        ..OutboxSettings::default()
    };
    let house = House::open(dir.path(), sink, settings);
    house.engine.replace(vec![file_rule("r", "")]);
    house.publish("in/a", "bad").await;
    house.publish("in/a", "good").await;
    house.sink.wait(&[&out("good")]).await;
    assert_eq!(*house.sink.tries.borrow(), 3);
    assert_eq!(&*house.letters(1).await[0].reason, "failed f: exit code 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_stays_away_is_given_up_at_each_messages_deadline() {
    let dir = tempfile::tempdir().unwrap();
    let sink = TestSink::new();
    sink.fail(|_| Some(SinkError::Unavailable("no route to host".into())));
    let settings = OutboxSettings {
        retry_for: Duration::from_secs(60),
        ..OutboxSettings::default()
    };
    let house = House::open(dir.path(), sink, settings);
    house.engine.replace(vec![file_rule("r", "")]);
    house.publish("in/a", "1").await;
    house.sink.tried(2).await;
    house.clock.0.store(61_000, Ordering::Relaxed);
    let letters = house.letters(1).await;
    assert_eq!(&*letters[0].reason, "unavailable f: no route to host");
    house.publish("in/a", "2").await;
    let tries = *house.sink.tries.borrow();
    house.sink.tried(tries + 1).await;
    assert_eq!(house.store.dead_letters(None, 10).unwrap().len(), 1);
    house.sink.fail(|_| None);
    house.sink.wait(&[&out("2")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_hangs_holds_up_neither_publishers_nor_other_rules() {
    let dir = tempfile::tempdir().unwrap();
    let sink = TestSink::new();
    let hold = Arc::new(Notify::new());
    *sink.hold.lock().unwrap() = Some(hold.clone());
    let settings = OutboxSettings {
        max_messages: 3,
        on_full: OnFull::DropOldest,
        ..OutboxSettings::default()
    };
    let house = House::open(dir.path(), sink, settings);
    house.engine.replace(vec![file_rule("slow", "")]);
    house.publish("in/a", "1").await;
    house.sink.tried(1).await;
    *house.sink.hold.lock().unwrap() = None;
    house.engine.replace(vec![
        file_rule("slow", ""),
        rule(
            "other",
            "SELECT v FROM 'other'",
            r#""actions": [{"file": {"path": "f"}}]"#,
        ),
    ]);
    for n in ["2", "3", "4", "5"] {
        house.publish("in/a", n).await;
    }
    house.publish("other", "x").await;
    house.sink.wait(&[&out("x")]).await;
    hold.notify_one();
    house
        .sink
        .wait(&[&out("x"), &out("1"), &out("4"), &out("5")])
        .await;
    let taker = house.store.find_taker(TakerKind::Outbox, "slow/0").unwrap();
    let account = house.store.account(taker);
    assert!(account.balances());
    assert_eq!(account.dropped[&DropReason::QueueFull], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_rule_that_has_gone_is_still_done_and_then_its_outbox_goes() {
    let dir = tempfile::tempdir().unwrap();
    let sink = TestSink::new();
    sink.fail(|_| Some(SinkError::Unavailable("down".into())));
    let house = House::open(dir.path(), sink, OutboxSettings::default());
    house.engine.replace(vec![file_rule("r", "")]);
    house.publish("in/a", "1").await;
    house.engine.replace(Vec::new());
    house.publish("in/a", "not for it").await;
    let sink = house.close().await;

    sink.fail(|_| None);
    let house = House::open(dir.path(), sink, OutboxSettings::default());
    house.engine.replace(Vec::new());
    let takers = house.store.takers();
    let names: Vec<Arc<str>> = takers
        .iter()
        .filter(|t| t.kind == TakerKind::Outbox)
        .map(|t| t.name.clone())
        .collect();
    assert_eq!(names.len(), 1);
    house.outboxes.adopt(&names);
    house.sink.wait(&[&out("1")]).await;
    eventually("the outbox has gone", || {
        house.store.find_taker(TakerKind::Outbox, "r/0").is_none()
    })
    .await;
    assert!(house.outboxes.status().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_is_not_there_is_told_to_the_error_actions_own_outbox() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(dir.path(), TestSink::new(), OutboxSettings::default());
    let arn = "arn:aws:lambda:us-east-1:123456789012:function:myLambdaFunction";
    let rest = format!(
        r#""actions": [{{"lambda": {{"functionArn": "{arn}"}}}}], "errorAction": {{"file": {{"path": "errors"}}}}"#
    );
    house
        .engine
        .replace(vec![rule("r", "SELECT * FROM 'in/#'", &rest)]);
    house.publish("in/a", "1").await;
    let letters = house.letters(1).await;
    assert_eq!(
        &*letters[0].reason,
        format!("refused {arn}: no such function: {arn}")
    );
    let mut got = house.sink.got.subscribe();
    let got = tokio::time::timeout(PATIENCE, got.wait_for(|got| !got.is_empty()));
    let (outbox, body) = got.await.unwrap().unwrap()[0].clone();
    assert_eq!(outbox, "r/error");
    assert!(body.contains("no such function"), "{body}");
}
