//! A gateway with the real broker and store on ports of its own, and clients that write and read
//! packets themselves.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)] // a test may panic, and uses what it needs

pub mod v5;
pub mod ws;

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use iotedge_broker::{Broker, Limits as BrokerLimits};
use iotedge_gateway::{Address, Auth, Context, Gateway, Limits, Listener, Running, Speaks};
use iotedge_model::{Action, Message, Now, Principal, PrincipalKind, QoS, Topic, UnixMillis};
use iotedge_mqtt::{
    Connect, Decoder, Packet, Publish, ReasonCode, Role, Str, SubAckCode, Subscribe, Version,
};
use iotedge_ports::{
    AuthRequest, Authorizer, BrokerPort, Clock, Decision, Grant, PrincipalStatus, Publication,
};
use iotedge_store::{Options, Store};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub const PATIENCE: Duration = Duration::from_secs(20);

/// Goes with the time, and further when a test says so.
pub struct TestClock {
    start: Instant,
    ahead: AtomicU64,
}

impl TestClock {
    pub fn advance(&self, by: Duration) {
        self.ahead
            .fetch_add(by.as_millis() as u64, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Now {
        let mono = self.start.elapsed().as_millis() as u64 + self.ahead.load(Ordering::Relaxed);
        Now {
            mono,
            wall: UnixMillis(1_800_000_000_000 + mono),
            trusted: true,
        }
    }
}

/// Denies what has `forbidden` in it, and the client id `stranger`.
pub struct Rules;

impl Authorizer for Rules {
    fn authorize(&self, request: &AuthRequest<'_>) -> Decision {
        let denied = match request.action {
            Action::Receive => request.resource.contains("unheard"),
            Action::Connect => request.resource == "stranger",
            _ => request.resource.contains("forbidden"),
        };
        if denied {
            Decision::Deny("a test says no".into())
        } else {
            Decision::Allow
        }
    }

    fn generation(&self) -> u64 {
        1
    }

    fn status(&self, _principal: &Principal, _grant: Option<&Grant>) -> PrincipalStatus {
        PrincipalStatus::Active
    }
}

pub struct House {
    _dir: tempfile::TempDir,
    pub broker: Broker,
    pub running: Running,
    pub clock: Arc<TestClock>,
}

impl House {
    pub async fn open(limits: Limits) -> Self {
        // Events of the test's own clients would come between what it asks for.
        let broker_limits = BrokerLimits {
            lifecycle_events: false,
            ..BrokerLimits::default()
        };
        Self::open_with(limits, broker_limits).await
    }

    pub async fn open_with(limits: Limits, broker_limits: BrokerLimits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            min_free_disk: 0,
            ..Options::default()
        };
        let (store, mut opened) = Store::open(dir.path(), options).unwrap();
        let clock = Arc::new(TestClock {
            start: Instant::now(),
            ahead: AtomicU64::new(0),
        });
        let broker = Broker::new(store, &mut opened, clock.clone(), broker_limits);
        let principal = Principal {
            kind: PrincipalKind::User {
                name: "test".into(),
            },
        };
        let listener = |speaks| Listener {
            name: "test".into(),
            address: Address::Tcp("127.0.0.1:0".parse().unwrap()),
            speaks,
            allowed_origins: Vec::new(),
            tls: None,
            auth: Auth::Anonymous(Arc::new(principal.clone())),
            max_connections: 100,
            max_connection_rate: None,
            max_qos: None,
            max_topic_alias: None,
            allow_empty_client_id: true,
        };
        let context = Context {
            broker: Arc::new(broker.clone()),
            authorizer: Arc::new(Rules),
            mounts: Vec::new(),
            limits,
        };
        let listeners = vec![
            listener(Speaks {
                mqtt: true,
                ..Speaks::default()
            }),
            listener(Speaks {
                http: true,
                ..Speaks::default()
            }),
            listener(Speaks {
                websocket: true,
                ..Speaks::default()
            }),
            listener(Speaks {
                mqtt: true,
                websocket: true,
                http: true,
            }),
        ];
        let running = Gateway::bind(context, listeners).await.unwrap().start();
        Self {
            _dir: dir,
            broker,
            running,
            clock,
        }
    }

    /// A message from inside.
    pub fn message(&self, topic: &str, payload: &str) -> Message {
        let topic = Topic::new(topic).unwrap();
        let payload = Bytes::copy_from_slice(payload.as_bytes());
        Message::internal("test", topic, payload, QoS::AtMostOnce)
    }

    pub fn publish_all(&self, messages: Vec<Message>) {
        let publications = messages.into_iter().map(|m| Publication::new(m, None));
        let mut batch: Vec<Publication> = publications.collect();
        self.broker.publish(&mut batch);
    }

    pub fn mqtt(&self) -> SocketAddr {
        self.running.addresses()[0]
    }

    pub fn websocket(&self) -> SocketAddr {
        self.running.addresses()[2]
    }

    /// Where everything is spoken.
    pub fn shared(&self) -> SocketAddr {
        self.running.addresses()[3]
    }

    pub async fn client(&self, id: &str) -> Client {
        let mut client = Client::dial(self.mqtt()).await;
        client.send(&Packet::Connect(connect(id))).await;
        let Packet::ConnAck(ack) = client.receive().await else {
            panic!("no CONNACK")
        };
        assert_eq!(ack.reason, ReasonCode::Success);
        client
    }
}

pub fn connect(id: &str) -> Connect {
    Connect {
        version: Version::V311,
        clean: true,
        keep_alive: 60,
        client_id: Str::new(id).unwrap(),
        will: None,
        username: None,
        password: None,
        properties: None,
    }
}

pub fn publish(topic: &str, payload: &str, id: Option<u16>) -> Packet {
    Packet::Publish(Publish {
        dup: false,
        qos: if id.is_some() {
            QoS::AtLeastOnce
        } else {
            QoS::AtMostOnce
        },
        retain: false,
        topic: Str::new(topic).unwrap(),
        packet_id: id.and_then(NonZeroU16::new),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        properties: None,
    })
}

pub fn subscribe(filter: &str, qos: QoS) -> Packet {
    subscription(&[(filter, qos)])
}

/// A SUBSCRIBE of 3.1.1, which is one of version 5 without properties too.
pub fn subscription(filters: &[(&str, QoS)]) -> Packet {
    Packet::Subscribe(Subscribe {
        packet_id: NonZeroU16::MIN,
        filters: filters
            .iter()
            .map(|(f, q)| (Str::new(f).unwrap(), (*q).into()))
            .collect(),
        properties: None,
    })
}

pub struct Client {
    pub socket: TcpStream,
    decoder: Decoder,
    buffer: BytesMut,
    version: Version,
}

impl Client {
    pub async fn dial(address: SocketAddr) -> Self {
        Self::dial_as(Version::V311, address).await
    }

    pub async fn dial_as(version: Version, address: SocketAddr) -> Self {
        Self {
            version,
            socket: TcpStream::connect(address).await.unwrap(),
            decoder: Decoder::new(Role::Client, 1 << 20).with_version(version),
            buffer: BytesMut::new(),
        }
    }

    pub async fn send(&mut self, packet: &Packet) {
        let mut out = BytesMut::new();
        iotedge_mqtt::encode_for(self.version, packet, &mut out).unwrap();
        self.socket.write_all(&out).await.unwrap();
    }

    pub async fn send_all(&mut self, packets: &[Packet]) {
        let mut out = BytesMut::new();
        for packet in packets {
            iotedge_mqtt::encode_for(self.version, packet, &mut out).unwrap();
        }
        self.socket.write_all(&out).await.unwrap();
    }

    /// The next packet; `None` when the connection is closed.
    pub async fn next(&mut self) -> Option<Packet> {
        loop {
            if let Some(packet) = self.decoder.decode(&mut self.buffer).unwrap() {
                return Some(packet);
            }
            let read = self.socket.read_buf(&mut self.buffer);
            let read = tokio::time::timeout(PATIENCE, read)
                .await
                .expect("waited in vain");
            if !matches!(read, Ok(1..)) {
                return None;
            }
        }
    }

    pub async fn receive(&mut self) -> Packet {
        self.next().await.expect("the connection was closed")
    }

    pub async fn subscribe(&mut self, filters: &[(&str, QoS)]) -> Vec<SubAckCode> {
        self.send(&subscription(filters)).await;
        match self.receive().await {
            Packet::SubAck(ack) => ack.codes,
            other => panic!("no SUBACK but {other:?}"),
        }
    }
}
