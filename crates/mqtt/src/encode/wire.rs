//! The pieces that packets are written of.

use bytes::{BufMut, BytesMut};
use iotedge_model::Topic;

use crate::{EncodeError, Field, MAX_REMAINING_LENGTH, PacketType};

pub(super) fn check_topic(field: Field, topic: &str) -> Result<(), EncodeError> {
    Topic::check(topic).map_err(|reason| EncodeError::InvalidTopic { field, reason })
}

pub(super) fn filter_len(packet: PacketType, filter: &str) -> Result<usize, EncodeError> {
    if filter.is_empty() {
        return Err(EncodeError::EmptyFilter(packet));
    }
    field_len(Field::TopicFilter, filter.as_bytes())
}

/// Bytes of a field with its length in front.
pub(super) fn field_len(field: Field, bytes: &[u8]) -> Result<usize, EncodeError> {
    let len = bytes.len();
    if len > usize::from(u16::MAX) {
        return Err(EncodeError::FieldTooLong { field, len });
    }
    Ok(2 + len)
}

/// Writes a field whose length [`field_len`] has checked.
pub(super) fn put_field(out: &mut BytesMut, bytes: &[u8]) {
    // Checked before anything was written: never more than 65,535.
    out.put_u16(u16::try_from(bytes.len()).unwrap_or(u16::MAX));
    out.put_slice(bytes);
}

/// Writes the fixed header and makes room for all of the packet.
#[inline]
pub(super) fn put_header(
    out: &mut BytesMut,
    packet: PacketType,
    flags: u8,
    remaining: usize,
) -> Result<(), EncodeError> {
    put_header_reserving(out, packet, flags, remaining, remaining)
}

/// Writes the fixed header and makes room for `reserve` bytes behind it.
#[inline]
pub(super) fn put_header_reserving(
    out: &mut BytesMut,
    packet: PacketType,
    flags: u8,
    remaining: usize,
    reserve: usize,
) -> Result<(), EncodeError> {
    if remaining > MAX_REMAINING_LENGTH {
        return Err(EncodeError::PacketTooLarge(remaining));
    }
    out.reserve(5 + reserve);
    out.put_u8((packet as u8) << 4 | flags);
    put_variable_byte_integer(out, remaining);
    Ok(())
}

/// Writes a value of at most [`MAX_REMAINING_LENGTH`] (3.1.1: 2.2.3, 5: 1.5.5).
#[inline]
pub(super) fn put_variable_byte_integer(out: &mut BytesMut, value: usize) {
    let mut rest = value;
    while rest > 0x7f {
        out.put_u8((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

/// Bytes that [`put_variable_byte_integer`] writes.
#[inline]
pub(super) fn variable_byte_integer_len(value: usize) -> usize {
    match value {
        0..=0x7f => 1,
        0x80..=0x3fff => 2,
        0x4000..=0x1f_ffff => 3,
        _ => 4,
    }
}
