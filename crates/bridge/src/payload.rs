//! What becomes of payloads on their way: compressed, decompressed, given a key.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use serde::de::IgnoredAny;

/// The user property of MQTT 5 that names a payload's encoding, as HTTP's header does.
pub(crate) const ENCODING: &str = "content-encoding";
/// Its value.
pub(crate) const GZIP: &str = "gzip";

/// The beginning of each gzip file (RFC 1952, 2.3.1): the two magic bytes, and deflate.
const MAGIC: &[u8] = &[0x1f, 0x8b, 8];

fn is_gzip(payload: &[u8]) -> bool {
    payload.starts_with(MAGIC)
}

/// The payload as a gzip file, where that is smaller. What looks like one already is wrapped in any
/// case, so that what is taken out on the other side is what was put in here.
pub(crate) fn compress(payload: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    // Into memory: it does not fail.
    encoder.write_all(payload).ok()?;
    let packed = encoder.finish().ok()?;
    (packed.len() < payload.len() || is_gzip(payload)).then_some(packed)
}

/// What [`decompress`] made of a payload.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unpacked {
    /// It is no gzip file, or not a whole one: it stays as it is.
    Plain,
    /// This was in it.
    Payload(Vec<u8>),
    /// More than the limit is in it.
    TooLarge,
}

/// What is in a gzip file, at most `most` bytes.
pub(crate) fn decompress(payload: &[u8], most: usize) -> Unpacked {
    if !is_gzip(payload) {
        return Unpacked::Plain;
    }
    let mut found = Vec::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    // Its checksum is compared at its end.
    let read = MultiGzDecoder::new(payload)
        .take(limit)
        .read_to_end(&mut found);
    match read {
        Err(_) => Unpacked::Plain,
        Ok(_) if found.len() > most => Unpacked::TooLarge,
        Ok(_) => Unpacked::Payload(found),
    }
}

/// A JSON object with one member more in front, everything else byte for byte as it was. `None`:
/// it is no JSON object, or has a member of that name.
pub(crate) fn with_member(payload: &[u8], name: &str, value: &str) -> Option<Vec<u8>> {
    // What is passed over is not looked at as text: JSON is UTF-8 (RFC 8259, 8.1).
    let text = std::str::from_utf8(payload).ok()?;
    let object: BTreeMap<String, IgnoredAny> = serde_json::from_str(text).ok()?;
    if object.contains_key(name) {
        return None;
    }
    let open = payload.iter().position(|b| *b == b'{')?;
    let (before, rest) = payload.split_at_checked(open + 1)?;
    let mut out = Vec::with_capacity(payload.len() + name.len() + value.len() + 8);
    out.extend_from_slice(before);
    serde_json::to_writer(&mut out, name).ok()?;
    out.push(b':');
    serde_json::to_writer(&mut out, value).ok()?;
    if !object.is_empty() {
        out.push(b',');
    }
    out.extend_from_slice(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_out_again() {
        let text = "temperature ".repeat(100);
        let packed = compress(text.as_bytes()).unwrap();
        assert!(packed.len() < 100);
        assert_eq!(
            decompress(&packed, 2000),
            Unpacked::Payload(text.clone().into())
        );
        assert_eq!(
            decompress(&packed, text.len()),
            Unpacked::Payload(text.into())
        );
        assert_eq!(decompress(&packed, 1199), Unpacked::TooLarge);
        assert_eq!(compress(b"x"), None, "it would grow");
    }

    #[test]
    fn a_gzip_file_is_wrapped_so_that_it_arrives_as_one() {
        let file = compress("a".repeat(500).as_bytes()).unwrap();
        let wrapped = compress(&file).unwrap();
        assert_eq!(decompress(&wrapped, 1000), Unpacked::Payload(file));
    }

    #[test]
    fn what_is_no_whole_gzip_file_stays_as_it_is() {
        let packed = compress("b".repeat(500).as_bytes()).unwrap();
        let mut torn = packed.clone();
        torn.truncate(packed.len() - 1);
        let mut wrong = packed.clone();
        *wrong.last_mut().unwrap() ^= 1;
        let mut long = packed;
        long.push(0);
        for payload in [
            &b""[..],
            b"\x1f\x8b",
            b"\x1f\x8b\x08",
            b"{}",
            &torn,
            &wrong,
            &long,
        ] {
            assert_eq!(decompress(payload, 1000), Unpacked::Plain, "{payload:?}");
        }
    }

    #[test]
    fn a_member_is_put_in_front_of_an_object() {
        let ok = |json: &str| {
            with_member(json.as_bytes(), "id", "g-1").map(|v| String::from_utf8(v).unwrap())
        };
        assert_eq!(ok("{}").as_deref(), Some(r#"{"id":"g-1"}"#));
        assert_eq!(
            ok(r#" { "a" : 1.50 }"#).as_deref(),
            Some(r#" {"id":"g-1", "a" : 1.50 }"#)
        );
        for same in [
            r#"{"id":7}"#,
            "[]",
            "1",
            "",
            "{",
            "{\"a\":1",
            "null",
            "\u{1}",
        ] {
            assert_eq!(ok(same), None, "{same}");
        }
    }

    /// What comes from upstream is anybody's: each byte of a gzip file changed in each bit, and cut
    /// everywhere.
    #[test]
    fn no_bytes_make_it_fail_or_give_something_else() {
        let text =
            b"{\"temperature\": 21.5, \"unit\": \"C\", \"n\": [1, 2, 3, 4, 5, 6, 7, 8]} ".repeat(3);
        let packed = compress(&text).unwrap();
        for at in 0..packed.len() {
            assert_eq!(decompress(&packed[..at], 10_000), Unpacked::Plain);
            for bit in 0..8 {
                let mut changed = packed.clone();
                changed[at] ^= 1 << bit;
                match decompress(&changed, 10_000) {
                    Unpacked::Payload(found) => assert_eq!(found, text, "byte {at}, bit {bit}"),
                    Unpacked::Plain | Unpacked::TooLarge => {}
                }
                if let Some(with) = with_member(&changed, "id", "x") {
                    assert!(serde_json::from_slice::<serde_json::Value>(&with).is_ok());
                }
            }
        }
        for at in 0..text.len() {
            for byte in [b'"', b'{', b'}', b'\\', 0, 0xff] {
                let mut changed = text.clone();
                changed[at] = byte;
                if let Some(with) = with_member(&changed[..changed.len() / 3], "id", "x") {
                    assert!(serde_json::from_slice::<serde_json::Value>(&with).is_ok());
                }
            }
        }
    }
}
