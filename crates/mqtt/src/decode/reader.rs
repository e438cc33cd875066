//! Fields off the front of a packet's body.

use bytes::{Buf, Bytes};

use super::{is_minimal, variable_byte_integer};
use crate::{DecodeError, Field, PacketId, PacketType, ReasonCode, Str};

/// The rest of one packet's body.
pub(super) struct Reader {
    packet: PacketType,
    body: Bytes,
    /// Bytes that user properties may still have.
    user_bytes: usize,
}

/// What a user property counts at least: each costs memory, however short it is.
const LEAST_PAIR: usize = 16;

impl Reader {
    /// `user_bytes`: of the user properties in each of its sections.
    pub(super) fn new(packet: PacketType, body: Bytes, user_bytes: usize) -> Self {
        Self {
            packet,
            body,
            user_bytes,
        }
    }

    /// Notes a user property of `bytes`.
    pub(super) fn user_property(&mut self, bytes: usize) -> Result<(), DecodeError> {
        let left = self.user_bytes.checked_sub(bytes.max(LEAST_PAIR));
        self.user_bytes = left.ok_or(DecodeError::UserProperties(self.packet))?;
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.body.is_empty()
    }

    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.body
            .try_get_u8()
            .map_err(|_| DecodeError::Truncated(self.packet))
    }

    pub(super) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.body
            .try_get_u16()
            .map_err(|_| DecodeError::Truncated(self.packet))
    }

    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.body
            .try_get_u32()
            .map_err(|_| DecodeError::Truncated(self.packet))
    }

    /// A variable byte integer (5: 1.5.5).
    pub(super) fn variable_byte_integer(&mut self) -> Result<usize, DecodeError> {
        let too_long = DecodeError::VariableByteInteger(self.packet);
        let integer = variable_byte_integer(&self.body).ok_or(too_long)?;
        let (value, len) = integer.ok_or(DecodeError::Truncated(self.packet))?;
        if !is_minimal(value, len) {
            return Err(too_long);
        }
        self.body.advance(len);
        Ok(value)
    }

    /// The next `len` bytes by themselves.
    pub(super) fn section(&mut self, len: usize) -> Result<Self, DecodeError> {
        if len > self.body.len() {
            return Err(DecodeError::Truncated(self.packet));
        }
        let section = self.body.split_to(len);
        Ok(Self::new(self.packet, section, self.user_bytes))
    }

    /// All that is left.
    pub(super) fn rest(self) -> Bytes {
        self.body
    }

    /// A reason code that this packet may carry.
    pub(super) fn reason(&mut self) -> Result<ReasonCode, DecodeError> {
        let code = self.u8()?;
        ReasonCode::try_from(code)
            .ok()
            .filter(|reason| reason.allowed_in(self.packet))
            .ok_or(DecodeError::ReasonCode {
                packet: self.packet,
                code,
            })
    }

    pub(super) fn packet(&self) -> PacketType {
        self.packet
    }

    pub(super) fn packet_id(&mut self) -> Result<PacketId, DecodeError> {
        PacketId::new(self.u16()?).ok_or(DecodeError::PacketIdZero(self.packet))
    }

    /// Bytes behind a length of two bytes.
    pub(super) fn binary(&mut self) -> Result<Bytes, DecodeError> {
        let len = usize::from(self.u16()?);
        if len > self.body.len() {
            return Err(DecodeError::Truncated(self.packet));
        }
        Ok(self.body.split_to(len))
    }

    pub(super) fn str(&mut self, field: Field) -> Result<Str, DecodeError> {
        Str::from_bytes(self.binary()?).map_err(|e| DecodeError::of_str(field, e))
    }

    /// A filter: a string that is not empty.
    pub(super) fn filter(&mut self) -> Result<Str, DecodeError> {
        let filter = self.str(Field::TopicFilter)?;
        if filter.as_str().is_empty() {
            return Err(DecodeError::EmptyFilter(self.packet));
        }
        Ok(filter)
    }

    /// Nothing may be left.
    pub(super) fn finish(self) -> Result<(), DecodeError> {
        match self.body.len() {
            0 => Ok(()),
            count => Err(DecodeError::TrailingBytes {
                packet: self.packet,
                count,
            }),
        }
    }
}
