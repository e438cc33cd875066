//! Joda-Time's `DateTimeFormat` patterns, taken apart.

use std::fmt;

/// One element of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Element {
    /// Text as it is.
    Literal(String),
    /// A letter and how often it stands.
    Field(char, usize),
}

/// The letters that Joda-Time knows.
const LETTERS: &str = "GCYxweEyDMdaKhHkmsSzZ";

impl Element {
    /// Whether this gateway can write it. Names of zones in words are not at hand.
    pub(super) fn is_supported(&self) -> bool {
        !matches!(self, Self::Field('z', count) if *count >= 4)
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(text) => write!(f, "{text:?}"),
            Self::Field(letter, count) => write!(f, "{:?}", letter.to_string().repeat(*count)),
        }
    }
}

/// Takes a pattern apart: letters are fields, `'…'` is text, `''` a quote. `None` for letters that
/// mean nothing.
pub(super) fn parse_pattern(text: &str) -> Option<Vec<Element>> {
    let mut out: Vec<Element> = Vec::new();
    let mut rest = text.chars().peekable();
    let literal = |out: &mut Vec<Element>, c: char| match out.last_mut() {
        Some(Element::Literal(text)) => text.push(c),
        _ => out.push(Element::Literal(c.to_string())),
    };
    while let Some(c) = rest.next() {
        if c == '\'' {
            if rest.next_if_eq(&'\'').is_some() {
                literal(&mut out, '\'');
                continue;
            }
            // An open quote at the end closes itself, as in Joda-Time.
            while let Some(c) = rest.next() {
                if c == '\'' && rest.next_if_eq(&'\'').is_none() {
                    break;
                }
                literal(&mut out, c);
            }
        } else if c.is_ascii_alphabetic() {
            if !LETTERS.contains(c) {
                return None;
            }
            let mut count = 1;
            while rest.next_if_eq(&c).is_some() {
                count += 1;
            }
            out.push(Element::Field(c, count));
        } else {
            literal(&mut out, c);
        }
    }
    (!out.is_empty()).then_some(out)
}
