//! `jsmn.h` and `aws_iot_json_utils.h`: tokens of JSON, and values of tokens.

use std::ffi::{c_char, c_int};

use super::codes::{FAILURE, JSON_PARSE_ERROR, NULL_VALUE_ERROR, SHADOW_JSON_ERROR, SUCCESS};
use crate::boundary::{c_bytes, write_text};
use crate::json::{Parser, Token, kind, tokenize};

/// Begins at the text's first byte.
///
/// # Safety
/// `parser` is NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jsmn_init(parser: *mut Parser) {
    if !parser.is_null() {
        // SAFETY: valid for writing as the caller says.
        unsafe { parser.write(Parser::START) };
    }
}

/// Splits a text into tokens; how many, or a negative `enum jsmnerr`. Without `tokens` they are
/// counted only.
///
/// # Safety
/// `parser` is valid, `json` is as long as `len` says or ends with NUL before, `tokens` is NULL or
/// has room for `num_tokens`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jsmn_parse(
    parser: *mut Parser,
    json: *const c_char,
    len: usize,
    tokens: *mut Token,
    num_tokens: u32,
) -> c_int {
    const INVALID: c_int = -2;
    boundary!(INVALID, {
        // SAFETY: valid as the caller says.
        let Some(parser) = (unsafe { parser.as_mut() }) else {
            return INVALID;
        };
        if json.is_null() {
            return INVALID;
        }
        // SAFETY: readable up to `len` or a NUL byte before, as the caller says.
        let json = unsafe { up_to_nul(json, len) };
        let room = if tokens.is_null() {
            None
        } else {
            // Only what is used is made into a slice: the rest may never have been written.
            // SAFETY: there is room for so many as the caller says.
            unsafe {
                for index in parser.next..num_tokens {
                    tokens.add(index as usize).write(Token::EMPTY);
                }
                Some(std::slice::from_raw_parts_mut(tokens, num_tokens as usize))
            }
        };
        match tokenize(parser, json, room) {
            Ok(count) => c_int::try_from(count).unwrap_or(INVALID),
            Err(fault) => fault as c_int,
        }
    })
}

/// The bytes before the first NUL, `len` at most.
///
/// # Safety
/// `text` is readable up to there.
unsafe fn up_to_nul<'a>(text: *const c_char, len: usize) -> &'a [u8] {
    // SAFETY: strnlen reads no further than `len` or the NUL byte.
    let len = unsafe { libc::strnlen(text, len) };
    // SAFETY: so many bytes are readable.
    unsafe { std::slice::from_raw_parts(text.cast(), len) }
}

/// The text of a token.
///
/// # Safety
/// `json` is NULL or readable up to the token's end, `token` is NULL or valid.
unsafe fn value<'a>(json: *const c_char, token: *const Token) -> Option<(Token, &'a [u8])> {
    // SAFETY: valid as the caller says.
    let token = *unsafe { token.as_ref() }?;
    let start = usize::try_from(token.start).ok()?;
    let len = usize::try_from(token.end).ok()?.checked_sub(start)?;
    if json.is_null() {
        return None;
    }
    // SAFETY: readable up to the token's end as the caller says.
    let bytes = unsafe { std::slice::from_raw_parts(json.cast::<u8>().add(start), len) };
    Some((token, bytes))
}

/// Whether a token is the string `text`: 0, otherwise -1.
///
/// # Safety
/// As for the others here; `text` is NULL or ends with NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jsoneq(
    json: *const c_char,
    token: *const Token,
    text: *const c_char,
) -> i8 {
    boundary!(-1, {
        // SAFETY: as the caller says.
        let (value, text) = unsafe { (value(json, token), c_bytes(text)) };
        match (value, text) {
            (Some((token, value)), Some(text)) if token.kind == kind::STRING && value == text => 0,
            _ => -1,
        }
    })
}

/// A number or boolean of JSON as one of C.
pub(super) trait Primitive: Sized {
    /// From a token's text; `None` if it is none of this kind or does not fit.
    fn read(text: &str) -> Option<Self>;
}

/// Like `scanf`: the digits at the beginning count, a fraction is cut off.
fn leading_integer(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let len = digits.bytes().take_while(u8::is_ascii_digit).count();
    if len == 0 {
        return None;
    }
    text.get(..text.len() - digits.len() + len)?.parse().ok()
}

macro_rules! integers {
    ($($type:ty)*) => {$(
        impl Primitive for $type {
            fn read(text: &str) -> Option<Self> {
                Self::try_from(leading_integer(text)?).ok()
            }
        }
    )*};
}
integers!(i32 i16 i8 u32 u16 u8);

impl Primitive for f32 {
    fn read(text: &str) -> Option<Self> {
        // Rounded once: by way of a double it would be twice.
        number(text)?.parse().ok().filter(|n: &Self| n.is_finite())
    }
}

impl Primitive for f64 {
    fn read(text: &str) -> Option<Self> {
        number(text)?.parse().ok().filter(|n: &Self| n.is_finite())
    }
}

/// Rust also reads "inf", "nan" and the like.
fn number(text: &str) -> Option<&str> {
    let first = text.bytes().next()?;
    (first == b'-' || first.is_ascii_digit()).then_some(text)
}

impl Primitive for bool {
    fn read(text: &str) -> Option<Self> {
        match text {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }
}

/// Writes the value of a token.
///
/// # Safety
/// `out` is NULL or valid for writing; the rest as for [`value`].
pub(super) unsafe fn store<T: Primitive>(
    out: *mut T,
    json: *const c_char,
    token: *const Token,
) -> c_int {
    boundary!(FAILURE, {
        // SAFETY: as the caller says.
        let Some((token, text)) = (unsafe { value(json, token) }) else {
            return NULL_VALUE_ERROR;
        };
        if out.is_null() {
            return NULL_VALUE_ERROR;
        }
        let text = std::str::from_utf8(text).ok();
        match text
            .filter(|_| token.kind == kind::PRIMITIVE)
            .and_then(T::read)
        {
            Some(value) => {
                // SAFETY: valid for writing as the caller says.
                unsafe { out.write_unaligned(value) };
                SUCCESS
            }
            None => JSON_PARSE_ERROR,
        }
    })
}

macro_rules! parse_functions {
    ($($name:ident $type:ty),*) => {$(
        /// The value of a token; `JSON_PARSE_ERROR` if it is of another kind or does not fit.
        ///
        /// # Safety
        /// `out` is NULL or valid for writing, `json` is NULL or readable up to the token's end,
        /// `token` is NULL or valid.
        #[unsafe(no_mangle)]
        #[allow(non_snake_case)] // the SDK's name
        pub unsafe extern "C" fn $name(
            out: *mut $type,
            json: *const c_char,
            token: *const Token,
        ) -> c_int {
            // SAFETY: as the caller says.
            unsafe { store(out, json, token) }
        }
    )*};
}
parse_functions!(
    parseInteger32Value i32, parseInteger16Value i16, parseInteger8Value i8,
    parseUnsignedInteger32Value u32, parseUnsignedInteger16Value u16,
    parseUnsignedInteger8Value u8,
    parseFloatValue f32, parseDoubleValue f64, parseBooleanValue bool
);

/// The value of a string token with a NUL byte behind it; escapes stay as they are.
///
/// # Safety
/// `buf` is NULL or has room for `size` bytes; the rest as for the others.
#[unsafe(no_mangle)]
#[allow(non_snake_case)] // the SDK's name
pub unsafe extern "C" fn parseStringValue(
    buf: *mut c_char,
    size: usize,
    json: *const c_char,
    token: *const Token,
) -> c_int {
    boundary!(FAILURE, {
        // SAFETY: as the caller says.
        let Some((token, text)) = (unsafe { value(json, token) }) else {
            return NULL_VALUE_ERROR;
        };
        if buf.is_null() {
            return NULL_VALUE_ERROR;
        }
        if token.kind != kind::STRING {
            return JSON_PARSE_ERROR;
        }
        if text.len() >= size {
            return SHADOW_JSON_ERROR;
        }
        // SAFETY: there is room for `size` bytes, and these are fewer.
        unsafe { write_text(buf, text) };
        SUCCESS
    })
}

/// The value of a key among the direct members of an object; NULL if there is none.
///
/// # Safety
/// `key` is NULL or ends with NUL, `json` is NULL or readable up to the object's end, `object` is
/// NULL or one of the tokens that [`jsmn_parse`] has made, followed by those of its members.
#[unsafe(no_mangle)]
#[allow(non_snake_case)] // the SDK's name
pub unsafe extern "C" fn findToken(
    key: *const c_char,
    json: *const c_char,
    object: *mut Token,
) -> *mut Token {
    boundary!(std::ptr::null_mut(), {
        // SAFETY: as the caller says.
        let (Some((head, _)), Some(key)) = (unsafe { (value(json, object), c_bytes(key)) }) else {
            return std::ptr::null_mut();
        };
        if head.kind != kind::OBJECT {
            return std::ptr::null_mut();
        }
        let mut at = 1;
        for _ in 0..head.size {
            // SAFETY: the tokens of the object's members follow it as the caller says.
            let Some((token, name)) = (unsafe { value(json, object.add(at)) }) else {
                break;
            };
            if token.kind == kind::STRING && token.size == 1 && name == key {
                // SAFETY: a key's token is followed by its value's.
                return unsafe { object.add(at + 1) };
            }
            // SAFETY: as above.
            at += unsafe { taken(object.add(at)) };
        }
        std::ptr::null_mut()
    })
}

/// How many tokens a value takes, itself included.
///
/// # Safety
/// The tokens of all that is in it follow.
unsafe fn taken(first: *const Token) -> usize {
    let mut left = 1_usize;
    let mut taken = 0;
    while left > 0 {
        // SAFETY: as the caller says.
        let size = unsafe { (*first.add(taken)).size };
        left = left - 1 + usize::try_from(size).unwrap_or(0);
        taken += 1;
    }
    taken
}
