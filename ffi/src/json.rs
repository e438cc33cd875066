//! JSON in place: a tokenizer that allocates nothing and points into the text, as `jsmn.h`
//! promises it to C programs, and searches on its tokens.
//!
//! 1. Tokens come in the order in which their values begin. An object is followed by key, value,
//!    key, value; its size is the number of its keys, a key's size is 1.
//! 2. It is lenient, as small devices' programs expect: a value is whatever stands between the
//!    separators. Only broken strings, wrong brackets and bytes outside ASCII between values are
//!    errors.
//! 3. Nothing recurses: nesting costs no stack.

use std::ffi::c_int;

/// What a token is: `jsmntype_t`, as a number since C code may leave any value in it.
pub(crate) mod kind {
    use std::ffi::c_int;

    pub(crate) const UNDEFINED: c_int = 0;
    pub(crate) const OBJECT: c_int = 1;
    pub(crate) const ARRAY: c_int = 2;
    pub(crate) const STRING: c_int = 3;
    pub(crate) const PRIMITIVE: c_int = 4;
}

/// `jsmntok_t`: a value and where it stands. A string's place is without its quotes.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// `jsmntype_t`.
    pub kind: c_int,
    /// The first byte.
    pub start: c_int,
    /// The byte behind the last; -1 while it is open.
    pub end: c_int,
    /// Keys of an object, values of an array, 1 of a key, otherwise 0.
    pub size: c_int,
}

impl Token {
    pub(crate) const EMPTY: Self = Self {
        kind: kind::UNDEFINED,
        start: -1,
        end: -1,
        size: 0,
    };

    fn is_open(&self) -> bool {
        self.start != -1 && self.end == -1
    }

    /// The bytes that it stands for, if it is a token of this text.
    pub(crate) fn bytes<'a>(&self, json: &'a [u8]) -> Option<&'a [u8]> {
        let start = usize::try_from(self.start).ok()?;
        let end = usize::try_from(self.end).ok()?;
        json.get(start..end)
    }
}

/// `jsmn_parser`: where the last call stopped.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Parser {
    /// The next byte.
    pub pos: u32,
    /// The next token.
    pub next: u32,
    /// The token that the next value belongs to; -1 for none.
    pub parent: c_int,
}

impl Parser {
    pub(crate) const START: Self = Self {
        pos: 0,
        next: 0,
        parent: -1,
    };
}

/// Why a text has no tokens: `enum jsmnerr`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Fault {
    /// There are more than fit.
    NoRoom = -1,
    /// A byte that can't stand where it stands.
    Invalid = -2,
    /// The text ends too early.
    Partial = -3,
}

/// Where tokens go: nowhere when they are only counted.
struct Sink<'a> {
    tokens: Option<&'a mut [Token]>,
}

impl Sink<'_> {
    fn get(&mut self, index: c_int) -> Option<&mut Token> {
        let index = usize::try_from(index).ok()?;
        self.tokens.as_deref_mut()?.get_mut(index)
    }

    /// A new token that belongs to the parent.
    fn push(&mut self, parser: &mut Parser, new: Token) -> Result<(), Fault> {
        if self.tokens.is_none() {
            return Ok(());
        }
        let index = c_int::try_from(parser.next).map_err(|_| Fault::NoRoom)?;
        *self.get(index).ok_or(Fault::NoRoom)? = new;
        parser.next += 1;
        if let Some(parent) = self.get(parser.parent) {
            parent.size = parent.size.saturating_add(1);
        }
        Ok(())
    }

    /// The innermost object or array that is still open.
    fn innermost_open(&mut self, parser: &Parser) -> Option<c_int> {
        let count = usize::try_from(parser.next).ok()?;
        let tokens = self.tokens.as_deref()?.get(..count)?;
        let index = tokens.iter().rposition(Token::is_open)?;
        c_int::try_from(index).ok()
    }
}

/// Splits `json` into tokens from where `parser` stands, and says how many values were passed.
/// Without room for tokens they are counted only. Stops at a NUL byte. After [`Fault::NoRoom`] a
/// call with more room goes on where this one stopped.
pub(crate) fn tokenize(
    parser: &mut Parser,
    json: &[u8],
    tokens: Option<&mut [Token]>,
) -> Result<usize, Fault> {
    let mut sink = Sink { tokens };
    let mut passed = usize::try_from(parser.next).unwrap_or(usize::MAX);
    while let Some(byte) = at(json, parser.pos) {
        match byte {
            b'{' | b'[' => {
                passed += 1;
                open(parser, &mut sink, byte)?;
            }
            b'}' | b']' => close(parser, &mut sink, byte)?,
            b'"' => {
                string(parser, json, &mut sink)?;
                passed += 1;
            }
            b' ' | b'\t' | b'\r' | b'\n' => {}
            b':' => {
                if let Ok(next) = c_int::try_from(parser.next) {
                    parser.parent = next - 1;
                }
            }
            b',' => comma(parser, &mut sink),
            _ => {
                primitive(parser, json, &mut sink)?;
                passed += 1;
                // It ended before the separator.
                continue;
            }
        }
        parser.pos += 1;
    }
    if sink.innermost_open(parser).is_some() {
        return Err(Fault::Partial);
    }
    Ok(passed)
}

fn at(json: &[u8], pos: u32) -> Option<u8> {
    let byte = *json.get(usize::try_from(pos).ok()?)?;
    (byte != 0).then_some(byte)
}

fn place(pos: u32) -> Result<c_int, Fault> {
    c_int::try_from(pos).map_err(|_| Fault::Invalid)
}

fn open(parser: &mut Parser, sink: &mut Sink<'_>, byte: u8) -> Result<(), Fault> {
    let kind = if byte == b'{' {
        kind::OBJECT
    } else {
        kind::ARRAY
    };
    let start = place(parser.pos)?;
    let new = Token {
        kind,
        start,
        ..Token::EMPTY
    };
    sink.push(parser, new)?;
    if sink.tokens.is_some() {
        parser.parent = c_int::try_from(parser.next).map_err(|_| Fault::NoRoom)? - 1;
    }
    Ok(())
}

fn close(parser: &mut Parser, sink: &mut Sink<'_>, byte: u8) -> Result<(), Fault> {
    if sink.tokens.is_none() {
        return Ok(());
    }
    let wanted = if byte == b'}' {
        kind::OBJECT
    } else {
        kind::ARRAY
    };
    let end = place(parser.pos)? + 1;
    let innermost = sink.innermost_open(parser).ok_or(Fault::Invalid)?;
    let token = sink.get(innermost).ok_or(Fault::Invalid)?;
    if token.kind != wanted {
        return Err(Fault::Invalid);
    }
    token.end = end;
    parser.parent = sink.innermost_open(parser).unwrap_or(-1);
    Ok(())
}

/// Behind a comma the next value belongs to the object or array, no longer to a key.
fn comma(parser: &mut Parser, sink: &mut Sink<'_>) {
    let is_key = match sink.get(parser.parent) {
        Some(parent) => parent.kind != kind::ARRAY && parent.kind != kind::OBJECT,
        None => false,
    };
    if is_key {
        if let Some(container) = sink.innermost_open(parser) {
            parser.parent = container;
        }
    }
}

fn string(parser: &mut Parser, json: &[u8], sink: &mut Sink<'_>) -> Result<(), Fault> {
    let quote = parser.pos;
    let end = end_of_string(json, quote)?;
    let new = Token {
        kind: kind::STRING,
        start: place(quote)? + 1,
        end: place(end)?,
        size: 0,
    };
    sink.push(parser, new)?;
    parser.pos = end;
    Ok(())
}

/// Where the closing quote stands.
fn end_of_string(json: &[u8], quote: u32) -> Result<u32, Fault> {
    let mut pos = quote + 1;
    loop {
        match at(json, pos).ok_or(Fault::Partial)? {
            b'"' => return Ok(pos),
            b'\\' => {
                pos += 1;
                match at(json, pos).ok_or(Fault::Partial)? {
                    b'"' | b'/' | b'\\' | b'b' | b'f' | b'r' | b'n' | b't' => {}
                    b'u' => {
                        for _ in 0..4 {
                            pos += 1;
                            if !at(json, pos).ok_or(Fault::Partial)?.is_ascii_hexdigit() {
                                return Err(Fault::Invalid);
                            }
                        }
                    }
                    _ => return Err(Fault::Invalid),
                }
            }
            _ => {}
        }
        pos += 1;
    }
}

fn primitive(parser: &mut Parser, json: &[u8], sink: &mut Sink<'_>) -> Result<(), Fault> {
    let start = parser.pos;
    let mut end = start;
    while let Some(byte) = at(json, end) {
        match byte {
            b'\t' | b'\r' | b'\n' | b' ' | b',' | b']' | b'}' | b':' => break,
            0x21..=0x7e => end += 1,
            _ => return Err(Fault::Invalid),
        }
    }
    let new = Token {
        kind: kind::PRIMITIVE,
        start: place(start)?,
        end: place(end)?,
        size: 0,
    };
    sink.push(parser, new)?;
    parser.pos = end;
    Ok(())
}

/// All tokens of a whole text.
pub(crate) fn tokens(json: &[u8]) -> Result<Vec<Token>, Fault> {
    let count = {
        let mut parser = Parser::START;
        tokenize(&mut parser, json, None)?
    };
    let mut tokens = vec![Token::EMPTY; count];
    let mut parser = Parser::START;
    let found = tokenize(&mut parser, json, Some(&mut tokens))?;
    tokens.truncate(found);
    Ok(tokens)
}

/// How many tokens the value at `index` takes, itself included.
pub(crate) fn extent(tokens: &[Token], index: usize) -> usize {
    let mut left = 1_usize;
    let mut taken = 0;
    while left > 0 {
        let Some(token) = tokens.get(index + taken) else {
            break;
        };
        left = left - 1 + usize::try_from(token.size).unwrap_or(0);
        taken += 1;
    }
    taken
}

/// The value of a key among the direct members of the object at `index`.
pub(crate) fn member(json: &[u8], tokens: &[Token], index: usize, key: &[u8]) -> Option<usize> {
    let object = tokens.get(index)?;
    if object.kind != kind::OBJECT {
        return None;
    }
    let mut at = index + 1;
    for _ in 0..object.size {
        let token = tokens.get(at)?;
        if token.kind == kind::STRING && token.size == 1 && token.bytes(json)? == key {
            return Some(at + 1);
        }
        at += extent(tokens, at);
    }
    None
}

/// The value of the first key of this name at any depth, in the order of the text. What stands
/// under the key `skip` is not looked at.
pub(crate) fn anywhere(
    json: &[u8],
    tokens: &[Token],
    key: &[u8],
    skip: Option<&[u8]>,
) -> Option<usize> {
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        // Only keys have a size and are strings.
        if token.kind == kind::STRING && token.size == 1 {
            let name = token.bytes(json)?;
            if name == key {
                return Some(at + 1);
            }
            if Some(name) == skip {
                at += extent(tokens, at);
                continue;
            }
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(json: &str) -> Vec<(c_int, &str, c_int)> {
        let tokens = tokens(json.as_bytes()).unwrap();
        let place = |t: &Token| &json[t.start as usize..t.end as usize];
        tokens.iter().map(|t| (t.kind, place(t), t.size)).collect()
    }

    #[test]
    fn tokens_come_in_order_with_their_sizes() {
        let json = r#"{"a": {"b":[1, "x"]}, "c" :true}"#;
        assert_eq!(
            kinds(json),
            [
                (kind::OBJECT, json, 2),
                (kind::STRING, "a", 1),
                (kind::OBJECT, r#"{"b":[1, "x"]}"#, 1),
                (kind::STRING, "b", 1),
                (kind::ARRAY, r#"[1, "x"]"#, 2),
                (kind::PRIMITIVE, "1", 0),
                (kind::STRING, "x", 0),
                (kind::STRING, "c", 1),
                (kind::PRIMITIVE, "true", 0),
            ]
        );
    }

    #[test]
    fn a_nul_byte_ends_the_text() {
        assert_eq!(kinds("{\"a\":1}\0{").len(), 3);
        assert_eq!(tokens(b"").unwrap(), []);
    }

    #[test]
    fn broken_texts_are_told_apart() {
        for (json, fault) in [
            ("{\"a\":1", Fault::Partial),
            ("\"abc", Fault::Partial),
            ("\"ab\\", Fault::Partial),
            ("\"\\u12", Fault::Partial),
            ("\"\\u12G4\"", Fault::Invalid),
            ("\"\\x\"", Fault::Invalid),
            ("{]", Fault::Invalid),
            ("}", Fault::Invalid),
            ("{\"a\":\u{e9}}", Fault::Invalid),
        ] {
            assert_eq!(tokens(json.as_bytes()), Err(fault), "{json}");
        }
    }

    #[test]
    fn with_more_room_it_goes_on_where_it_stopped() {
        let json = br#"{"a":[1,2],"b":3}"#;
        let whole = tokens(json).unwrap();
        for room in 0..whole.len() {
            let mut parser = Parser::START;
            let mut found = vec![Token::EMPTY; room];
            let first = tokenize(&mut parser, json, Some(&mut found));
            assert_eq!(first, Err(Fault::NoRoom), "{room}");
            found.resize(whole.len(), Token::EMPTY);
            assert_eq!(
                tokenize(&mut parser, json, Some(&mut found)),
                Ok(whole.len())
            );
            assert_eq!(found, whole, "{room}");
        }
    }

    #[test]
    fn keys_are_found_and_values_of_the_same_text_are_not() {
        let json = br#"{"x":"t","metadata":{"t":{"timestamp":1}},"state":{"t":21.5}}"#;
        let tokens = tokens(json).unwrap();
        let found = anywhere(json, &tokens, b"t", Some(b"metadata")).unwrap();
        assert_eq!(tokens[found].bytes(json), Some(&b"21.5"[..]));
        assert!(member(json, &tokens, 0, b"t").is_none());
        let state = member(json, &tokens, 0, b"state").unwrap();
        let inner = member(json, &tokens, state, b"t").unwrap();
        assert_eq!(inner, found);
    }

    #[test]
    fn deep_nesting_costs_no_stack() {
        let deep = [b"[".repeat(200_000), b"]".repeat(200_000)].concat();
        // Each closing bracket looks for its opening one: keep the test quick.
        assert_eq!(tokens(&deep[..1000]), Err(Fault::Partial));
        let even = [b"[".repeat(500), b"]".repeat(500)].concat();
        assert_eq!(tokens(&even).unwrap().len(), 500);
    }
}
