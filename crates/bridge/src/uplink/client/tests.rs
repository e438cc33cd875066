use bytes::Bytes;
use iotedge_mqtt::{Decoder, Packet, ReasonCode, Role, encode};
use tokio::io::DuplexStream;

use super::*;

struct Server {
    stream: DuplexStream,
    decoder: Decoder,
    buffer: BytesMut,
}

impl Server {
    async fn packet(&mut self) -> Packet {
        loop {
            if let Some(packet) = self.decoder.decode(&mut self.buffer).unwrap() {
                return packet;
            }
            assert!(self.stream.read_buf(&mut self.buffer).await.unwrap() > 0);
        }
    }

    async fn send(&mut self, packets: &[Packet]) {
        let mut bytes = BytesMut::new();
        packets.iter().for_each(|p| encode(p, &mut bytes).unwrap());
        self.stream.write_all(&bytes).await.unwrap();
    }
}

/// A connection over a way that holds so many bytes, its CONNACK there.
async fn connected(room: usize) -> (Link, Server) {
    let (near, far) = tokio::io::duplex(room);
    let session = Session::new(Hello {
        version: iotedge_mqtt::Version::V311,
        client_id: "gateway",
        clean: true,
        keep_alive: 30,
        max_packet_bytes: 1 << 20,
        login: None,
    });
    let mut link = Link::new(Box::new(near), session.unwrap(), true);
    let mut server = Server {
        stream: far,
        decoder: Decoder::new(Role::Server, 1 << 20),
        buffer: BytesMut::new(),
    };
    let answering = async {
        assert!(matches!(server.packet().await, Packet::Connect(_)));
        let ack = Packet::ConnAck(ReasonCode::Success.into());
        server.send(&[ack]).await;
        server
    };
    let (accepted, server) = tokio::join!(link.connack(30), answering);
    link.keep_alive(accepted.unwrap().keep_alive);
    (link, server)
}

async fn event(link: &mut Link) -> Result<Event, Ended> {
    poll_fn(|cx| link.poll_event(cx)).await
}

fn message(bytes: usize) -> Publish {
    Publish {
        topic: "t".into(),
        payload: Bytes::from(vec![b'x'; bytes]),
        qos: QoS::AtLeastOnce,
        retain: false,
        expiry: None,
        properties: None,
    }
}

#[tokio::test]
async fn what_is_handed_over_together_leaves_in_one_write() {
    let (mut link, mut server) = connected(1 << 20).await;
    for _ in 0..500 {
        link.publish(message(200)).unwrap();
    }
    assert_eq!(event(&mut link).await, Ok(Event::Published(1)));
    // One read takes all that one write brought.
    server.buffer.reserve(1 << 20);
    server.stream.read_buf(&mut server.buffer).await.unwrap();
    for _ in 0..500 {
        let packet = server.decoder.decode(&mut server.buffer).unwrap();
        assert!(matches!(packet, Some(Packet::Publish(_))), "{packet:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn pings_go_each_keep_alive_and_a_peer_that_takes_nothing_is_left() {
    let (mut link, mut server) = connected(1000).await;
    let start = Instant::now();
    assert_eq!(event(&mut link).await, Ok(Event::PingSent));
    assert_eq!(start.elapsed().as_secs(), 30);
    assert_eq!(server.packet().await, Packet::PingReq);
    server.send(&[Packet::PingResp]).await;
    assert_eq!(event(&mut link).await, Ok(Event::Pong));
    link.publish(message(2000)).unwrap();
    let begun = Instant::now();
    let ended = event(&mut link).await.unwrap_err();
    assert!(ended.text.contains("takes nothing"), "{ended:?}");
    assert_eq!(begun.elapsed(), STUCK);
}

#[tokio::test]
async fn what_came_before_the_end_comes_before_it_and_nothing_behind() {
    let (mut link, mut server) = connected(1 << 20).await;
    link.publish(message(10)).unwrap();
    link.publish(message(10)).unwrap();
    for id in [1, 2] {
        assert_eq!(event(&mut link).await, Ok(Event::Published(id)));
    }
    let ack = |id: u16| Packet::PubAck(std::num::NonZeroU16::new(id).unwrap().into());
    server.send(&[ack(1), ack(7), ack(2)]).await;
    drop(server);
    let Ok(Event::Acknowledged(first)) = event(&mut link).await else {
        panic!("no PUBACK");
    };
    assert_eq!(first.packet_id, 1);
    let ended = event(&mut link).await.unwrap_err();
    assert!(ended.text.contains("packet id 7"), "{ended:?}");
    assert_eq!(link.buffered(), None, "nothing behind an error");
    assert_eq!(event(&mut link).await, Err(ended));
}

#[tokio::test]
async fn acknowledgements_behind_a_broken_write_are_read() {
    let (mut link, mut server) = connected(1 << 20).await;
    link.publish(message(10)).unwrap();
    assert_eq!(event(&mut link).await, Ok(Event::Published(1)));
    let id = std::num::NonZeroU16::MIN;
    server.send(&[Packet::PubAck(id.into())]).await;
    drop(server);
    link.publish(message(10)).unwrap();
    let came = event(&mut link).await;
    assert!(matches!(came, Ok(Event::Acknowledged(_))), "{came:?}");
    assert!(event(&mut link).await.is_err());
}
