//! A WebSocket client that writes and reads frames itself.

use bytes::BytesMut;
use iotedge_mqtt::{Decoder, Packet, Role};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::PATIENCE;

pub const CONTINUATION: u8 = 0;
pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;
pub const FIN: u8 = 0x80;

pub struct WsClient {
    pub socket: TcpStream,
    frames: BytesMut,
    decoder: Decoder,
    buffer: BytesMut,
}

impl WsClient {
    pub async fn dial(address: std::net::SocketAddr) -> Self {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let request = "GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\
            Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(socket.read_u8().await.unwrap());
        }
        let answer = String::from_utf8(answer).unwrap().to_ascii_lowercase();
        assert!(answer.starts_with("http/1.1 101 "), "{answer}");
        assert!(
            answer.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"),
            "{answer}"
        );
        assert!(
            answer.contains("sec-websocket-protocol: mqtt\r\n"),
            "{answer}"
        );
        Self {
            socket,
            frames: BytesMut::new(),
            decoder: Decoder::new(Role::Client, 1 << 20),
            buffer: BytesMut::new(),
        }
    }

    /// A masked frame.
    pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![first];
        match payload.len() {
            n @ 0..=125 => out.push(0x80 | n as u8),
            n @ 126..=0xffff => {
                out.push(0xfe);
                out.extend((n as u16).to_be_bytes());
            }
            n => {
                out.push(0xff);
                out.extend((n as u64).to_be_bytes());
            }
        }
        let mask = [1, 2, 3, 4];
        out.extend(mask);
        out.extend(payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
        out
    }

    pub async fn send_frame(&mut self, first: u8, payload: &[u8]) {
        self.socket
            .write_all(&Self::frame(first, payload))
            .await
            .unwrap();
    }

    pub async fn send(&mut self, packet: &Packet) {
        let mut out = BytesMut::new();
        iotedge_mqtt::encode(packet, &mut out).unwrap();
        self.send_frame(FIN | BINARY, &out).await;
    }

    /// The next frame, its first byte and payload; `None` at the end of the connection.
    pub async fn next_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some(found) = self.take_frame() {
                return Some(found);
            }
            let read = self.socket.read_buf(&mut self.frames);
            let read = tokio::time::timeout(PATIENCE, read)
                .await
                .expect("waited in vain");
            if !matches!(read, Ok(1..)) {
                return None;
            }
        }
    }

    fn take_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let second = *self.frames.get(1)?;
        assert_eq!(second & 0x80, 0, "a server does not mask");
        let (size, at) = match second {
            126 => (
                u16::from_be_bytes(self.frames.get(2..4)?.try_into().unwrap()) as usize,
                4,
            ),
            127 => (
                u64::from_be_bytes(self.frames.get(2..10)?.try_into().unwrap()) as usize,
                10,
            ),
            n => (n as usize, 2),
        };
        if self.frames.len() < at + size {
            return None;
        }
        let frame = self.frames.split_to(at + size);
        Some((frame[0], frame[at..].to_vec()))
    }

    /// The next packet; everything that comes is binary.
    pub async fn receive(&mut self) -> Packet {
        loop {
            if let Some(packet) = self.decoder.decode(&mut self.buffer).unwrap() {
                return packet;
            }
            let (first, data) = self.next_frame().await.expect("closed");
            assert_eq!(first, FIN | BINARY, "{data:?}");
            self.buffer.extend_from_slice(&data);
        }
    }

    /// The code of the close frame that comes, and the end of the connection behind it.
    pub async fn closed(&mut self) -> u16 {
        let (first, payload) = self.next_frame().await.expect("a close frame");
        assert_eq!(first, FIN | CLOSE, "{payload:?}");
        let code = u16::from_be_bytes(payload[..2].try_into().unwrap());
        self.send_frame(FIN | CLOSE, &payload[..2]).await;
        assert_eq!(self.next_frame().await, None);
        code
    }
}
