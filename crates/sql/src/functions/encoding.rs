//! Base64 and hashes.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use sha2::Digest;

use super::Arguments;
use crate::EvalError;
use crate::eval::Context;
use crate::input::read_json;
use crate::value::Value;

type Out<'a> = Result<Value<'a>, EvalError>;

/// Reads Base64 as Java does: with or without padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Whether the scheme is the one there is (amb-sql-029).
fn is_base64(scheme: &Value<'_>) -> bool {
    matches!(scheme, Value::Text(s) if s == "base64")
}

/// `encode(value, 'base64')`; `*` is the payload as received (amb-sql-031).
pub(super) fn encode<'a>(context: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    let payload = arguments.payload;
    let Some([value, scheme]) = arguments.exactly() else {
        return Ok(Value::Undefined);
    };
    if !is_base64(&scheme) {
        return Ok(Value::Undefined);
    }
    if payload {
        let bytes = context.input.payload.bytes();
        context.charge_bytes(bytes.len() / 3 * 4)?;
        return Ok(Value::text(STANDARD.encode(bytes)));
    }
    let Some(text) = value.to_text(context.version) else {
        return Ok(Value::Undefined);
    };
    context.charge_bytes(text.len() / 3 * 4)?;
    Ok(Value::text(STANDARD.encode(text.as_bytes())))
}

/// `decode(value, 'base64')`: the JSON or else the string that was encoded; Null for what cannot
/// be decoded (amb-sql-030). `decode(value, 'proto', bucket, key, file, type)` needs a descriptor
/// that lies in Amazon S3.
pub(super) fn decode<'a>(context: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    if let [_, Value::Text(scheme), _, _, _, _] = arguments.values.as_slice() {
        if scheme == "proto" {
            return Err(EvalError::NotBound(
                "decode",
                "Amazon S3 for the descriptor",
            ));
        }
    }
    let Some([value, scheme]) = arguments.exactly() else {
        return Ok(Value::Undefined);
    };
    if !is_base64(&scheme) {
        return Ok(Value::Undefined);
    }
    let Value::Text(encoded) = value else {
        return Ok(Value::Undefined);
    };
    context.charge_bytes(encoded.len())?;
    let decoded = LENIENT.decode(encoded.as_bytes()).ok();
    let Some(text) = decoded.and_then(|bytes| String::from_utf8(bytes).ok()) else {
        return Ok(Value::Null);
    };
    Ok(match read_json(text.as_bytes()) {
        Ok(json) => Value::owned(json),
        Err(_) => Value::text(text),
    })
}

/// The digest of a string's UTF-8, in lower-case hex.
fn hash<'a, D: Digest>(context: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    let Some([value]) = arguments.exactly() else {
        return Ok(Value::Undefined);
    };
    let Some(text) = value.to_text(context.version) else {
        return Ok(Value::Undefined);
    };
    context.charge_bytes(text.len())?;
    let digest = D::digest(text.as_bytes());
    let hex: String = digest.iter().map(|b| format!("{b:02x}")).collect();
    Ok(Value::text(hex))
}

macro_rules! hashes {
    ($($name:ident = $digest:ty),* $(,)?) => {
        $(pub(super) fn $name<'a>(context: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
            hash::<$digest>(context, arguments)
        })*
    };
}

hashes! {
    md2 = md2::Md2,
    md5 = md5::Md5,
    sha1 = sha1::Sha1,
    sha224 = sha2::Sha224,
    sha256 = sha2::Sha256,
    sha384 = sha2::Sha384,
    sha512 = sha2::Sha512,
}
