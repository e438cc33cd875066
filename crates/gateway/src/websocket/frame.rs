//! Frames (RFC 6455, chapter 5) as a server meets them. Pure: bytes in, bytes out.

use thiserror::Error;

/// The longest head of a frame: two bytes, a length of eight, a mask of four.
const MAX_HEAD: usize = 14;
/// The longest payload of a control frame (5.5).
const MAX_CONTROL: u64 = 125;

/// Opcodes (5.2).
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Everything is well (7.4.1).
pub const NORMAL: u16 = 1000;

/// What a client did wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Violation {
    /// A bit that an extension would have to give a meaning to.
    #[error("a WebSocket frame with reserved bits, and no extension is agreed on")]
    ReservedBits,
    /// An opcode without meaning.
    #[error("a WebSocket frame with the unknown opcode {0}")]
    Opcode(u8),
    /// MQTT comes in binary frames ([MQTT-6.0.0-1]).
    #[error("a WebSocket text frame; MQTT comes in binary frames")]
    Text,
    /// A client's frames are masked (5.1).
    #[error("a WebSocket frame that is not masked")]
    NotMasked,
    /// A length in more bytes than it needs, or above 63 bits (5.2).
    #[error("a WebSocket frame whose length is not well written")]
    Length,
    /// More than the limit.
    #[error("a WebSocket message of more than {0} bytes")]
    TooLarge(u64),
    /// A control frame in fragments or of more than 125 bytes (5.5).
    #[error("a WebSocket control frame that is fragmented or too long")]
    Control,
    /// A continuation of nothing, or a message within another (5.4).
    #[error("WebSocket fragments out of order")]
    Fragments,
    /// A close frame with half a code, or one that is not for sending (7.4).
    #[error("a WebSocket close frame without a valid code")]
    CloseCode,
    /// The reason in a close frame is not UTF-8 (5.5.1).
    #[error("a WebSocket close frame whose reason is not UTF-8")]
    CloseReason,
}

impl Violation {
    /// The code that the connection is closed with (7.4.1).
    pub fn close_code(self) -> u16 {
        match self {
            Self::Text => 1003,
            Self::CloseReason => 1007,
            Self::TooLarge(_) => 1009,
            _ => 1002,
        }
    }
}

/// Why nothing more comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The client closes, with its code if it gives one.
    Closed(Option<u16>),
    /// The client broke the rules.
    Violated(Violation),
}

impl End {
    /// The code to close with: what the client said, or what it did wrong.
    pub fn close_code(self) -> u16 {
        match self {
            Self::Closed(code) => code.unwrap_or(NORMAL),
            Self::Violated(violation) => violation.close_code(),
        }
    }
}

/// A frame whose payload is on its way.
#[derive(Debug, Clone, Copy)]
struct Frame {
    opcode: u8,
    last: bool,
    mask: [u8; 4],
    /// How much of it has come.
    come: u64,
    length: u64,
}

/// Takes a client's frames apart.
#[derive(Debug)]
pub struct Deframer {
    max_message: u64,
    head: [u8; MAX_HEAD],
    head_length: u8,
    frame: Option<Frame>,
    /// Bytes of a fragmented message so far.
    message: Option<u64>,
    /// The payload of a control frame that has not come whole.
    control: Vec<u8>,
    pong: Option<Vec<u8>>,
    end: Option<End>,
}

impl Deframer {
    /// For messages of up to `max_message` bytes, in however many frames.
    pub fn new(max_message: u64) -> Self {
        Self {
            max_message,
            head: [0; MAX_HEAD],
            head_length: 0,
            frame: None,
            message: None,
            control: Vec::new(),
            pong: None,
            end: None,
        }
    }

    /// Takes what has come. Its data is moved, unmasked, to the front of `bytes`; says how much of
    /// it there is. Behind the end nothing is looked at.
    pub fn take_apart(&mut self, bytes: &mut [u8]) -> usize {
        let (mut from, mut data) = (0, 0);
        while from < bytes.len() && self.end.is_none() {
            let Some(frame) = &mut self.frame else {
                self.push_head(bytes[from]);
                from += 1;
                continue;
            };
            let left = usize::try_from(frame.length - frame.come).unwrap_or(usize::MAX);
            let here = left.min(bytes.len() - from);
            let part = from..from + here;
            unmask(&mut bytes[part.clone()], frame.mask, frame.come);
            frame.come += here as u64;
            if is_control(frame.opcode) {
                self.control.extend_from_slice(&bytes[part]);
            } else {
                bytes.copy_within(part, data);
                data += here;
            }
            from += here;
            self.finish();
        }
        data
    }

    /// The payload of the last ping that is not answered.
    pub fn take_pong(&mut self) -> Option<Vec<u8>> {
        self.pong.take()
    }

    /// Whether a ping waits for its answer.
    pub fn has_pong(&self) -> bool {
        self.pong.is_some()
    }

    /// Whether, and why, nothing more comes.
    pub fn end(&self) -> Option<End> {
        self.end
    }

    fn push_head(&mut self, byte: u8) {
        let length = usize::from(self.head_length);
        if let Some(place) = self.head.get_mut(length) {
            *place = byte;
            self.head_length += 1;
        }
        match self.read_head() {
            Ok(None) => {}
            Ok(Some(frame)) => {
                self.head_length = 0;
                self.frame = Some(frame);
                self.finish();
            }
            Err(violation) => self.end = Some(End::Violated(violation)),
        }
    }

    /// The frame, when its head is whole.
    fn read_head(&self) -> Result<Option<Frame>, Violation> {
        let mut head = self.head.iter().take(self.head_length.into()).copied();
        let (Some(first), Some(second)) = (head.next(), head.next()) else {
            return Ok(None);
        };
        let (last, opcode) = (first & 0x80 != 0, first & 0x0f);
        self.check_opcode(first, last, second)?;
        let size = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let have = usize::from(self.head_length);
        if have < 2 + size + 4 {
            return Ok(None);
        }
        let long = head
            .by_ref()
            .take(size)
            .fold(0_u64, |n, byte| n << 8 | u64::from(byte));
        let length = match size {
            0 => u64::from(second & 0x7f),
            2 if long > 125 => long,
            8 if long > 0xffff && long < 1 << 63 => long,
            _ => return Err(Violation::Length),
        };
        if !is_control(opcode) {
            let before = self.message.unwrap_or(0);
            if length > self.max_message - before {
                return Err(Violation::TooLarge(self.max_message));
            }
        }
        let mut mask = [0; 4];
        for (to, byte) in mask.iter_mut().zip(head) {
            *to = byte;
        }
        Ok(Some(Frame {
            opcode,
            last,
            mask,
            come: 0,
            length,
        }))
    }

    /// What the first two bytes say that must not be.
    fn check_opcode(&self, first: u8, last: bool, second: u8) -> Result<(), Violation> {
        if first & 0x70 != 0 {
            return Err(Violation::ReservedBits);
        }
        let opcode = first & 0x0f;
        match opcode {
            CONTINUATION if self.message.is_none() => return Err(Violation::Fragments),
            TEXT => return Err(Violation::Text),
            BINARY if self.message.is_some() => return Err(Violation::Fragments),
            CLOSE | PING | PONG if !last || u64::from(second & 0x7f) > MAX_CONTROL => {
                return Err(Violation::Control);
            }
            CONTINUATION | BINARY | CLOSE | PING | PONG => {}
            other => return Err(Violation::Opcode(other)),
        }
        if second & 0x80 == 0 {
            return Err(Violation::NotMasked);
        }
        Ok(())
    }

    /// Does what a frame says, when it has come whole.
    fn finish(&mut self) {
        let Some(frame) = self.frame.filter(|frame| frame.come == frame.length) else {
            return;
        };
        self.frame = None;
        if !is_control(frame.opcode) {
            let whole = self.message.unwrap_or(0) + frame.length;
            self.message = (!frame.last).then_some(whole);
            return;
        }
        let control = std::mem::take(&mut self.control);
        match frame.opcode {
            PING => self.pong = Some(control),
            CLOSE => {
                self.end = Some(match close_code(&control) {
                    Ok(code) => End::Closed(code),
                    Err(violation) => End::Violated(violation),
                });
            }
            _ => {}
        }
    }
}

fn is_control(opcode: u8) -> bool {
    opcode & 0x08 != 0
}

fn close_code(payload: &[u8]) -> Result<Option<u16>, Violation> {
    let (code, reason) = match payload {
        [] => return Ok(None),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
        [_] => return Err(Violation::CloseCode),
    };
    // 1004 to 1006 and 1015 are never sent; below 1000 and from 5000 on there are none (7.4).
    let sendable = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
    if !sendable {
        return Err(Violation::CloseCode);
    }
    if std::str::from_utf8(reason).is_err() {
        return Err(Violation::CloseReason);
    }
    Ok(Some(code))
}

/// Takes the mask off bytes of which `come` came before (5.3).
fn unmask(bytes: &mut [u8], mut mask: [u8; 4], come: u64) {
    mask.rotate_left((come % 4) as usize);
    let [a, b, c, d] = mask;
    let eight = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut chunks = bytes.chunks_exact_mut(8);
    for chunk in &mut chunks {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        chunk.copy_from_slice(&(u64::from_ne_bytes(word) ^ eight).to_ne_bytes());
    }
    for (byte, mask) in chunks.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// The head of a server's frame: one binary message, not masked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Head {
    bytes: [u8; 10],
    length: u8,
}

impl Head {
    /// For a payload of so many bytes.
    pub fn binary(length: usize) -> Self {
        Self::new(BINARY, length)
    }

    fn new(opcode: u8, length: usize) -> Self {
        let mut bytes = [0; 10];
        bytes[0] = 0x80 | opcode;
        let long = (length as u64).to_be_bytes();
        let length = match length {
            0..=125 => {
                bytes[1] = long[7];
                2
            }
            126..=0xffff => {
                bytes[1] = 126;
                bytes[2..4].copy_from_slice(&long[6..]);
                4
            }
            _ => {
                bytes[1] = 127;
                bytes[2..].copy_from_slice(&long);
                10
            }
        };
        Self { bytes, length }
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// The answer to a ping.
pub fn pong(payload: &[u8]) -> Vec<u8> {
    control(PONG, payload)
}

/// A close frame.
pub fn close(code: u16) -> Vec<u8> {
    control(CLOSE, &code.to_be_bytes())
}

fn control(opcode: u8, payload: &[u8]) -> Vec<u8> {
    [Head::new(opcode, payload.len()).as_bytes(), payload].concat()
}

#[cfg(test)]
mod tests;
