//! The few MQTT 3.1.1 packets that a load needs, as bytes.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Bytes at the beginning of each payload: the publisher (u32), its number for the message (u64)
/// and when it was sent (u64, nanoseconds after the load's start; 0 where that is not asked).
pub const STAMP: usize = 20;

/// Room for a read: large, so that a fast broker costs few system calls.
const READ_BYTES: usize = 256 * 1024;

/// How long a broker may take to answer CONNECT and SUBSCRIBE, or to take what is written.
const PATIENCE: Duration = Duration::from_secs(20);

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

fn remaining_length(mut length: usize, out: &mut Vec<u8>) {
    loop {
        let digit = (length % 128) as u8;
        length /= 128;
        if length == 0 {
            out.push(digit);
            return;
        }
        out.push(digit | 0x80);
    }
}

fn text(value: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&(value.len() as u16).to_be_bytes());
    out.extend_from_slice(value.as_bytes());
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    remaining_length(body.len(), &mut out);
    out.extend_from_slice(body);
    out
}

/// Connects a client: socket, CONNECT, CONNACK. The keep-alive is an hour, for 0 is refused by
/// rumqttd: no load lasts so long.
pub fn connect(address: SocketAddr, client_id: &str, clean: bool) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut body = Vec::new();
    text("MQTT", &mut body);
    body.extend_from_slice(&[4, if clean { 0x02 } else { 0x00 }, 0x0e, 0x10]);
    text(client_id, &mut body);
    stream.write_all(&packet(0x10, &body))?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer)?;
    if answer[0] != 0x20 || answer[3] != 0 {
        return Err(broken(&format!("no CONNACK for {client_id}: {answer:?}")));
    }
    Ok(stream)
}

/// Subscribes to one filter and waits until the broker has granted exactly `qos`.
pub fn subscribe(stream: &mut TcpStream, filter: &str, qos: u8) -> io::Result<()> {
    let mut body = vec![0, 1];
    text(filter, &mut body);
    body.push(qos);
    stream.write_all(&packet(0x82, &body))?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer)?;
    if answer[0] != 0x90 || answer[4] != qos {
        return Err(broken(&format!("no SUBACK for {filter}: {answer:?}")));
    }
    Ok(())
}

/// Adds a PUBLISH at QoS 1.
pub fn publish(topic: &str, payload: &[u8], packet_id: u16, out: &mut Vec<u8>) {
    out.push(0x32);
    remaining_length(2 + topic.len() + 2 + payload.len(), out);
    text(topic, out);
    out.extend_from_slice(&packet_id.to_be_bytes());
    out.extend_from_slice(payload);
}

/// Leaves properly, and waits until the broker has let go.
pub fn disconnect(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(&[0xe0, 0])?;
    stream.read_to_end(&mut Vec::new()).map(drop)
}

/// A run of equal PUBLISH packets, of which only numbers change.
pub struct Batch {
    bytes: Vec<u8>,
    packet_len: usize,
    packet_id_at: Option<usize>,
    stamp_at: usize,
}

impl Batch {
    /// `count` packets on `topic` with `payload_len` bytes, of which the first [`STAMP`] are the
    /// stamp.
    pub fn new(topic: &str, qos: u8, payload_len: usize, publisher: u32, count: usize) -> Self {
        let payload_len = payload_len.max(STAMP);
        let mut body = Vec::new();
        text(topic, &mut body);
        let id_at = body.len();
        if qos > 0 {
            body.extend_from_slice(&[0, 0]);
        }
        let stamp_at = body.len();
        body.extend_from_slice(&publisher.to_be_bytes());
        body.resize(stamp_at + payload_len, b'x');
        let one = packet(0x30 | (qos << 1), &body);
        let header = one.len() - body.len();
        Self {
            packet_len: one.len(),
            packet_id_at: (qos > 0).then_some(header + id_at),
            stamp_at: header + stamp_at,
            bytes: one.repeat(count),
        }
    }

    /// How many packets it holds.
    pub fn capacity(&self) -> usize {
        self.bytes.len() / self.packet_len
    }

    /// The first `count` packets, numbered from `first` on. Packet identifiers follow the numbers
    /// and leave out 0.
    pub fn numbered(&mut self, first: u64, count: usize, nanos: u64) -> &[u8] {
        let used = count * self.packet_len;
        for (number, one) in (first..).zip(self.bytes[..used].chunks_exact_mut(self.packet_len)) {
            if let Some(at) = self.packet_id_at {
                let id = (number % 65_535) as u16 + 1;
                one[at..at + 2].copy_from_slice(&id.to_be_bytes());
            }
            let at = self.stamp_at + 4;
            one[at..at + 8].copy_from_slice(&number.to_be_bytes());
            one[at + 8..at + 16].copy_from_slice(&nanos.to_be_bytes());
        }
        &self.bytes[..used]
    }
}

/// Puts an acknowledgement of this kind (its first byte) behind `out`.
pub fn acknowledge(first: u8, packet_id: u16, out: &mut Vec<u8>) {
    let [high, low] = packet_id.to_be_bytes();
    out.extend_from_slice(&[first, 2, high, low]);
}

/// First bytes of acknowledgements.
pub const PUBACK: u8 = 0x40;
/// First byte.
pub const PUBREC: u8 = 0x50;
/// First byte.
pub const PUBREL: u8 = 0x62;
/// First byte.
pub const PUBCOMP: u8 = 0x70;

/// What a read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// A PUBLISH with its stamp.
    Publish {
        /// Its publisher.
        publisher: u32,
        /// The publisher's number for it.
        number: u64,
        /// When it was sent.
        nanos: u64,
        /// Its packet identifier, at QoS 1 and 2.
        packet_id: Option<u16>,
    },
    /// A PUBACK or PUBCOMP.
    Acknowledged,
    /// A PUBREC with its packet identifier.
    Pubrec(u16),
    /// A PUBREL with its packet identifier.
    Pubrel(u16),
    /// Something else.
    Other,
}

/// Cuts a stream of bytes into packets.
pub struct Reader {
    buffer: Vec<u8>,
    filled: usize,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            buffer: vec![0; READ_BYTES],
            filled: 0,
        }
    }
}

impl Reader {
    /// Reads once, and hands each whole packet to `each`. Returns the number of bytes read, 0 at
    /// the end of the stream.
    pub fn read(
        &mut self,
        stream: &mut impl Read,
        mut each: impl FnMut(Received),
    ) -> io::Result<usize> {
        let read = stream.read(&mut self.buffer[self.filled..])?;
        self.filled += read;
        let mut at = 0;
        while let Some((body, end)) = frame(&self.buffer[at..self.filled])? {
            each(parse(self.buffer[at], &self.buffer[at + body..at + end])?);
            at += end;
        }
        if at == 0 && self.filled == self.buffer.len() {
            return Err(broken("a packet is larger than the load's buffer"));
        }
        self.buffer.copy_within(at..self.filled, 0);
        self.filled -= at;
        Ok(read)
    }
}

/// Where the first packet's body begins and ends, once it is whole.
fn frame(bytes: &[u8]) -> io::Result<Option<(usize, usize)>> {
    let mut length = 0;
    for (i, &digit) in bytes.iter().skip(1).take(4).enumerate() {
        length |= usize::from(digit & 0x7f) << (7 * i);
        if digit & 0x80 == 0 {
            let end = 2 + i + length;
            return Ok((end <= bytes.len()).then_some((2 + i, end)));
        }
    }
    if bytes.len() > 4 {
        return Err(broken("a remaining length of five bytes"));
    }
    Ok(None)
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> io::Result<[u8; N]> {
    bytes
        .get(at..at + N)
        .and_then(|s| s.try_into().ok())
        .ok_or_else(|| broken("a packet that is too short"))
}

fn parse(first: u8, body: &[u8]) -> io::Result<Received> {
    match first >> 4 {
        3 => {
            let mut at = 2 + usize::from(u16::from_be_bytes(number(body, 0)?));
            let mut packet_id = None;
            if first & 0x06 != 0 {
                packet_id = Some(u16::from_be_bytes(number(body, at)?));
                at += 2;
            }
            Ok(Received::Publish {
                publisher: u32::from_be_bytes(number(body, at)?),
                number: u64::from_be_bytes(number(body, at + 4)?),
                nanos: u64::from_be_bytes(number(body, at + 12)?),
                packet_id,
            })
        }
        4 | 7 => Ok(Received::Acknowledged),
        5 => Ok(Received::Pubrec(u16::from_be_bytes(number(body, 0)?))),
        6 => Ok(Received::Pubrel(u16::from_be_bytes(number(body, 0)?))),
        _ => Ok(Received::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_batch_numbers_a_reader_reads_back_whatever_the_cuts() {
        for (qos, payload, topic) in [(0, 64, "bench/0"), (1, 20, "b"), (1, 300, "bench/long")] {
            let mut batch = Batch::new(topic, qos, payload, 7, 100);
            let bytes = batch.numbered(65_500, 100, 9).to_vec();
            for cut in [1, 3, 77, bytes.len()] {
                let mut reader = Reader::default();
                let mut expected = 65_500;
                for mut part in bytes.chunks(cut) {
                    reader
                        .read(&mut part, |received| {
                            let packet_id = (qos > 0).then_some((expected % 65_535) as u16 + 1);
                            assert_eq!(
                                received,
                                Received::Publish {
                                    publisher: 7,
                                    number: expected,
                                    nanos: 9,
                                    packet_id
                                }
                            );
                            expected += 1;
                        })
                        .unwrap();
                }
                assert_eq!(expected, 65_600);
            }
        }
    }

    #[test]
    fn a_broken_stream_is_an_error() {
        let mut reader = Reader::default();
        let mut bytes: &[u8] = &[0x30, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert!(reader.read(&mut bytes, |_| ()).is_err());
        let mut bytes: &[u8] = &[0x30, 3, 0, 1, b'a'];
        assert!(Reader::default().read(&mut bytes, |_| ()).is_err());
    }
}
