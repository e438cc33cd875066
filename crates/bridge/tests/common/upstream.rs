//! An upstream under the test's control: it sees every packet and answers what it is told.

use std::time::Duration;

use bytes::BytesMut;
use rumqttc::mqttbytes::v4::{self, ConnAck, ConnectReturnCode, Packet, PubAck, Publish};
use rumqttc::{SubAck, SubscribeReasonCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub struct Upstream {
    listener: TcpListener,
    pub url: String,
}

pub struct Link {
    stream: TcpStream,
    buffer: BytesMut,
    /// The CONNECT.
    pub connect: v4::Connect,
}

impl Upstream {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("mqtt://{}", listener.local_addr().unwrap());
        Self { listener, url }
    }

    /// The next connection, its CONNECT read and answered.
    pub async fn accept(&self, code: ConnectReturnCode) -> Link {
        let (stream, _) = tokio::time::timeout(Duration::from_secs(30), self.listener.accept())
            .await
            .expect("no connection came")
            .unwrap();
        stream.set_nodelay(true).unwrap();
        let mut link = Link {
            stream,
            buffer: BytesMut::new(),
            connect: v4::Connect::new(""),
        };
        match link.next().await {
            Some(Packet::Connect(connect)) => link.connect = connect,
            other => panic!("no CONNECT: {other:?}"),
        }
        link.send(|b| ConnAck::new(code, false).write(b).unwrap())
            .await;
        link
    }

    pub async fn accept_ok(&self) -> Link {
        self.accept(ConnectReturnCode::Success).await
    }
}

impl Link {
    /// The next packet; `None` at the connection's end.
    pub async fn next(&mut self) -> Option<Packet> {
        loop {
            match Packet::read(&mut self.buffer, 1 << 26) {
                Ok(packet) => return Some(packet),
                Err(rumqttc::mqttbytes::Error::InsufficientBytes(_)) => {}
                Err(error) => panic!("{error}"),
            }
            let read = tokio::time::timeout(
                Duration::from_secs(30),
                self.stream.read_buf(&mut self.buffer),
            )
            .await
            .expect("no packet came");
            if read.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// The next PUBLISH; pings are answered on the way.
    pub async fn publish(&mut self) -> Publish {
        loop {
            match self.next().await {
                Some(Packet::Publish(publish)) => return publish,
                Some(Packet::PingReq) => {
                    self.send(|b| v4::PingResp.write(b).unwrap()).await;
                }
                other => panic!("no PUBLISH: {other:?}"),
            }
        }
    }

    pub async fn publishes(&mut self, n: usize) -> Vec<Publish> {
        let mut all = Vec::new();
        for _ in 0..n {
            all.push(self.publish().await);
        }
        all
    }

    /// Whether nothing but pings comes for a moment.
    pub async fn silent(&mut self) -> bool {
        tokio::time::timeout(Duration::from_millis(150), self.publish())
            .await
            .is_err()
    }

    pub async fn send(&mut self, write: impl FnOnce(&mut BytesMut) -> usize) {
        let mut bytes = BytesMut::new();
        write(&mut bytes);
        self.stream.write_all(&bytes).await.unwrap();
    }

    pub async fn ack(&mut self, packet_id: u16) {
        self.send(|b| PubAck::new(packet_id).write(b).unwrap())
            .await;
    }

    /// Reads SUBSCRIBE, gives its filters and answers each with a code.
    pub async fn subscribed(&mut self, ok: bool) -> Vec<String> {
        let Some(Packet::Subscribe(subscribe)) = self.next().await else {
            panic!("no SUBSCRIBE");
        };
        let codes = subscribe
            .filters
            .iter()
            .map(|f| match ok {
                true => SubscribeReasonCode::Success(f.qos),
                false => SubscribeReasonCode::Failure,
            })
            .collect();
        let ack = SubAck::new(subscribe.pkid, codes);
        self.send(|b| ack.write(b).unwrap()).await;
        subscribe.filters.into_iter().map(|f| f.path).collect()
    }

    /// Sends a PUBLISH to the bridge.
    pub async fn deliver(&mut self, topic: &str, payload: &str, qos: rumqttc::QoS, id: u16) {
        let mut publish = Publish::new(topic, qos, payload);
        publish.pkid = id;
        self.send(|b| publish.write(b).unwrap()).await;
    }
}
