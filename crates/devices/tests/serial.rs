//! A serial port, played by a pair of pseudo-terminals (`socat`), into a broker that remembers.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use iotedge_devices::{
    DeviceState, DeviceStatus, Format, READ_BUFFER, Reject, SerialConfig, SerialPort, WINDOW,
};
use iotedge_model::{Message, Principal, QoS, Source, Topic, TopicFilter};
use iotedge_ports::{
    AckSink, AttachRoute, BrokerPort, CloseReason, ConnectRefused, ConnectRequest, Connected,
    ConnectionId, Detached, Failure, Mailbox, Publication, PublishOutcome, Refusal, Service,
    SubscribeResult, Subscription,
};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::sync::Notify;
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(30);

/// How the broker of the tests answers.
#[derive(Default)]
struct Recorder {
    taken: Mutex<Vec<Message>>,
    waiting: Mutex<Vec<(Arc<dyn AckSink>, u64)>>,
    /// Publications to refuse from now on.
    refuse: AtomicUsize,
    /// Commits to fail from now on.
    fail: AtomicUsize,
    /// Keep acknowledgements until [`Recorder::release`].
    hold: std::sync::atomic::AtomicBool,
    changed: Notify,
}

fn take_one(counter: &AtomicUsize) -> bool {
    counter
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
        .is_ok()
}

impl Recorder {
    fn payloads(&self) -> Vec<String> {
        let taken = self.taken.lock().unwrap();
        taken
            .iter()
            .map(|m| String::from_utf8_lossy(&m.payload).into_owned())
            .collect()
    }

    fn count(&self) -> usize {
        self.taken.lock().unwrap().len()
    }

    fn release(&self) {
        self.hold.store(false, Ordering::SeqCst);
        for (sink, token) in std::mem::take(&mut *self.waiting.lock().unwrap()) {
            sink.acked(token, Ok(()));
        }
    }

    /// Waits until so many were published.
    async fn until(&self, count: usize) {
        let reached = async {
            loop {
                let changed = self.changed.notified();
                if self.count() >= count {
                    return;
                }
                changed.await;
            }
        };
        timeout(LONG, reached)
            .await
            .unwrap_or_else(|_| panic!("{} of {count} published", self.count()));
    }
}

impl BrokerPort for Recorder {
    fn publish(&self, batch: &mut [Publication]) {
        for publication in batch {
            if take_one(&self.refuse) {
                publication.outcome = PublishOutcome::Refused(Refusal::QuotaExceeded);
                self.changed.notify_waiters();
                continue;
            }
            let message = publication.message.take().unwrap();
            let Some((sink, token)) = publication.ack.clone() else {
                self.taken.lock().unwrap().push(message);
                publication.outcome = PublishOutcome::Done { matched: true };
                continue;
            };
            publication.outcome = PublishOutcome::Pending;
            if take_one(&self.fail) {
                sink.acked(token, Err(Failure::Store));
                continue;
            }
            self.taken.lock().unwrap().push(message);
            if self.hold.load(Ordering::SeqCst) {
                self.waiting.lock().unwrap().push((sink, token));
            } else {
                // From another thread, as the store's writer does.
                std::thread::spawn(move || sink.acked(token, Ok(())));
            }
        }
        self.changed.notify_waiters();
    }
    fn connect(&self, _: ConnectRequest) -> Result<Connected, ConnectRefused> {
        Err(ConnectRefused::Stopping)
    }
    fn detach(&self, _: Detached) {}
    fn subscribe(
        &self,
        _: ConnectionId,
        _: &[Subscription],
        _: (Arc<dyn AckSink>, u64),
    ) -> (Vec<SubscribeResult>, bool) {
        (Vec::new(), true)
    }
    fn send_retained(&self, _: ConnectionId, _: &[Subscription]) {}
    fn unsubscribe(
        &self,
        _: ConnectionId,
        _: &[Arc<str>],
        _: (Arc<dyn AckSink>, u64),
    ) -> (Vec<bool>, bool) {
        (Vec::new(), true)
    }
    fn attach_service(&self, _: &[TopicFilter], _: Arc<dyn Service>) {}
    fn attach_route(&self, _: AttachRoute) -> Arc<dyn Mailbox> {
        panic!("a device attaches no route")
    }
    fn attach_outbox(
        &self,
        _: iotedge_ports::AttachOutbox,
    ) -> (iotedge_ports::OutboxId, Arc<dyn Mailbox>) {
        unreachable!("nobody here has rules")
    }
    fn remove_outbox(&self, _: iotedge_ports::OutboxId) {}
    fn retained(&self, _: &Topic) -> Option<Arc<Message>> {
        None
    }

    fn retained_after(&self, _after: Option<&Topic>, _most: usize) -> Vec<Arc<Message>> {
        Vec::new()
    }
    fn close_principal(&self, _: &Principal, _: CloseReason) -> usize {
        0
    }
}

/// Two pseudo-terminals that are one cable.
struct Cable {
    socat: Child,
    feeder: PathBuf,
}

impl Cable {
    /// `None` where socat is not installed.
    async fn plug(dir: &Path) -> Option<Self> {
        let (port, feeder) = (dir.join("port"), dir.join("feeder"));
        let end = |path: &Path| format!("pty,raw,echo=0,link={}", path.display());
        let spawned = Command::new("socat")
            .args([end(&port), end(&feeder)])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let socat = match spawned {
            Ok(socat) => socat,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                eprintln!(
                    "SKIPPED: socat is not installed, so there is no serial cable to test with"
                );
                return None;
            }
            Err(error) => panic!("socat: {error}"),
        };
        // socat says nothing when its links are there, so they are looked for.
        let linked = async {
            while !(port.exists() && feeder.exists()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LONG, linked).await.expect("socat makes its links");
        Some(Self { socat, feeder })
    }

    async fn feed(&self, bytes: &[u8]) {
        let mut file = tokio::fs::OpenOptions::new()
            .write(true)
            .open(&self.feeder)
            .await
            .unwrap();
        file.write_all(bytes).await.unwrap();
        file.flush().await.unwrap();
    }

    async fn unplug(mut self) {
        self.socat.kill().await.unwrap();
        // Killed, socat leaves its links.
        let _ = std::fs::remove_file(&self.feeder);
        let _ = std::fs::remove_file(self.feeder.with_file_name("port"));
    }
}

fn config(dir: &Path, format: Format) -> SerialConfig {
    let text = format!(
        "name = \"meter\"\npath = {:?}\ntopic = \"sensors/${{name}}/data\"\nmax_line_bytes = 100\n",
        dir.join("port")
    );
    SerialConfig {
        format,
        ..toml::from_str(&text).unwrap()
    }
}

async fn until_state(port: &SerialPort, state: DeviceState) {
    let reached = async {
        while port.status().state != state {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, reached)
        .await
        .unwrap_or_else(|_| panic!("not {state}: {:?}", port.status()));
}

fn rejected(status: &DeviceStatus, reject: Reject) -> u64 {
    status
        .rejected
        .iter()
        .find(|(r, _)| *r == reject)
        .map_or(0, |(_, n)| *n)
}

struct Bench {
    cable: Cable,
    broker: Arc<Recorder>,
    port: SerialPort,
    dir: tempfile::TempDir,
}

async fn bench(change: impl FnOnce(&mut SerialConfig, &Recorder)) -> Option<Bench> {
    let dir = tempfile::tempdir().unwrap();
    let cable = Cable::plug(dir.path()).await?;
    let broker = Arc::new(Recorder::default());
    let mut config = config(dir.path(), Format::Text);
    change(&mut config, &broker);
    let port = SerialPort::start(config.check().unwrap(), broker.clone());
    until_state(&port, DeviceState::Reading).await;
    Some(Bench {
        cable,
        broker,
        port,
        dir,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_lines_arrive_in_order() {
    let Some(b) = bench(|_, _| {}).await else {
        return;
    };
    let expected: Vec<String> = (0..2000).map(|n| format!("line {n}")).collect();
    for part in expected.chunks(250) {
        b.cable.feed((part.join("\n") + "\n").as_bytes()).await;
    }
    b.broker.until(2000).await;
    assert_eq!(b.broker.payloads(), expected);
    {
        let taken = b.broker.taken.lock().unwrap();
        let first = &taken[0];
        assert_eq!(first.topic.as_str(), "sensors/meter/data");
        assert_eq!(first.qos, QoS::AtLeastOnce);
        assert_eq!(
            first.source,
            Source::Device {
                name: "meter".into()
            }
        );
        assert_eq!(&*first.principal.id(), "service:serial:meter");
        assert_eq!(&*first.client_id, "");
    }
    let status = b.port.stop().await;
    assert_eq!((status.lines, status.accepted), (2000, 2000));
    assert_eq!(status.state, DeviceState::Stopped);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_is_counted_by_reason_and_stops_nothing() {
    let Some(b) = bench(|c, _| c.format = Format::Json).await else {
        return;
    };
    let mut bytes = b"{\"a\":1}\r\n\xff\xfe\xfd\n\n\x00\x01\x02\n".to_vec();
    bytes.extend(vec![b'x'; 300]);
    bytes.extend(b"\n{\"a\":2}\n{\"a\":\n{\"a\":3}\n");
    b.cable.feed(&bytes).await;
    b.broker.until(3).await;
    assert_eq!(b.broker.payloads(), ["{\"a\":1}", "{\"a\":2}", "{\"a\":3}"]);
    let status = b.port.stop().await;
    assert_eq!(status.lines, 8);
    assert_eq!(status.accepted, 3);
    assert_eq!(rejected(&status, Reject::NotUtf8), 1);
    assert_eq!(rejected(&status, Reject::Empty), 1);
    assert_eq!(rejected(&status, Reject::TooLong), 1);
    assert_eq!(rejected(&status, Reject::NotJson), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_goes_and_comes_back_is_read_again() {
    let Some(b) = bench(|_, _| {}).await else {
        return;
    };
    b.cable.feed(b"one\nhalf a li").await;
    b.broker.until(1).await;
    b.cable.unplug().await;
    until_state(&b.port, DeviceState::Absent).await;
    assert!(b.port.status().reason.is_some());
    let cable = Cable::plug(b.dir.path()).await.unwrap();
    until_state(&b.port, DeviceState::Reading).await;
    cable.feed(b"two\n").await;
    b.broker.until(2).await;
    assert_eq!(b.broker.payloads(), ["one", "two"]);
    let status = b.port.stop().await;
    assert_eq!(rejected(&status, Reject::Cut), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusing_broker_loses_no_line() {
    let Some(b) = bench(|_, r| r.refuse.store(2, Ordering::SeqCst)).await else {
        return;
    };
    b.cable.feed(b"a\nb\nc\n").await;
    until_state(&b.port, DeviceState::Blocked).await;
    b.cable.feed(b"d\n").await;
    b.broker.until(4).await;
    assert_eq!(b.broker.payloads(), ["a", "b", "c", "d"]);
    until_state(&b.port, DeviceState::Reading).await;
    assert_eq!(b.port.stop().await.accepted, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_that_could_not_be_committed_go_again_in_order() {
    let Some(b) = bench(|_, r| r.fail.store(3, Ordering::SeqCst)).await else {
        return;
    };
    b.cable.feed(b"a\nb\nc\nd\n").await;
    b.broker.until(4).await;
    let status = b.port.stop().await;
    let mut payloads = b.broker.payloads();
    assert_eq!(status.accepted, 4);
    // "d" may have been on its way when the others failed.
    payloads.retain(|p| p != "d");
    assert_eq!(payloads, ["a", "b", "c"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_answers_the_port_is_not_read_on() {
    let Some(b) = bench(|_, r| r.hold.store(true, Ordering::SeqCst)).await else {
        return;
    };
    let lines: Vec<String> = (0..300).map(|n| format!("{n:04}")).collect();
    b.cable.feed((lines.join("\n") + "\n").as_bytes()).await;
    b.broker.until(WINDOW).await;
    assert_eq!(b.broker.count(), WINDOW);
    assert_eq!(b.port.status().accepted, 0);
    b.broker.release();
    b.broker.until(300).await;
    assert_eq!(b.broker.payloads(), lines);
    b.port.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_and_not_accepted_fits_one_read_buffer() {
    let Some(b) = bench(|_, r| r.hold.store(true, Ordering::SeqCst)).await else {
        return;
    };
    let line = "x".repeat(90);
    let feed = format!("{line}\n").repeat(60);
    b.cable.feed(feed.as_bytes()).await;
    b.broker.until(READ_BUFFER / 91).await;
    let held: usize = b.broker.payloads().iter().map(String::len).sum();
    assert!(held <= READ_BUFFER, "{held}");
    b.broker.release();
    b.broker.until(60).await;
    assert_eq!(b.port.stop().await.accepted, 60);
}

#[tokio::test]
async fn a_port_that_is_not_there_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let port = SerialPort::start(
        config(dir.path(), Format::Text).check().unwrap(),
        Arc::new(Recorder::default()),
    );
    let told = async {
        while port.status().reason.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, told).await.unwrap();
    let status = port.stop().await;
    assert!(status.reason.is_none() && status.state == DeviceState::Stopped);
}

#[test]
fn mistakes_in_the_configuration_are_named_by_key() {
    let parse = |extra: &str| {
        toml::from_str::<SerialConfig>(&format!("name = \"a\"\npath = \"/dev/x\"\n{extra}"))
    };
    let keys = |extra: &str| -> Vec<String> {
        parse(extra)
            .unwrap()
            .check()
            .unwrap_err()
            .iter()
            .map(|p| p.key.to_owned())
            .collect()
    };
    assert!(parse("topic = \"t\"").unwrap().check().is_ok());
    assert!(
        parse("topic = \"t\"\nbuad = 1")
            .unwrap_err()
            .to_string()
            .contains("buad")
    );
    assert!(
        parse("topic = \"t\"\nparity = \"mark\"")
            .unwrap_err()
            .to_string()
            .contains("mark")
    );
    assert_eq!(keys("topic = \"a/+\""), ["topic"]);
    assert_eq!(keys("topic = \"a/${id}\""), ["topic"]);
    assert_eq!(keys("topic = \"$$aws/events/x\""), ["topic"]);
    assert_eq!(
        keys("topic = \"t\"\nqos = 2\ndata_bits = 9\nstop_bits = 3\nbaud = 0"),
        ["baud", "data_bits", "stop_bits", "qos"]
    );
    assert_eq!(keys("topic = \"t\"\nformat = \"csv\""), ["columns"]);
    assert_eq!(
        keys("topic = \"t\"\ncolumns = [\"a\"]\ncsv_header = true"),
        ["columns", "csv_header"]
    );
    assert_eq!(
        keys("topic = \"t\"\nformat = \"csv\"\ncolumns = [\"a\", \"a\"]\ncsv_delimiter = \";;\""),
        ["columns", "csv_delimiter"]
    );
    assert_eq!(
        keys("topic = \"t\"\nmax_line_bytes = 5000\nline_delimiter = \"\""),
        ["line_delimiter", "max_line_bytes"]
    );
}
