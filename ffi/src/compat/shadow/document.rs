//! Documents: written into the application's buffers, and read from messages.

use std::ffi::{CString, c_char, c_int, c_void};

use super::{Fault, Result, process};
use crate::boundary::{c_bytes, write_text};
use crate::json;

/// A part of a shadow's state.
#[derive(Debug, Clone, Copy)]
pub(in super::super) enum Section {
    Reported,
    Desired,
}

/// The application's buffer with the text that it holds so far.
pub(in super::super) struct Buffer {
    start: *mut c_char,
    size: usize,
    len: usize,
}

impl Buffer {
    /// For a text that begins.
    ///
    /// # Safety
    /// `start` is NULL or has room for `size` bytes.
    pub(in super::super) unsafe fn empty(start: *mut c_char, size: usize) -> Result<Self> {
        if start.is_null() {
            return Err(Fault::Missing);
        }
        Ok(Self {
            start,
            size,
            len: 0,
        })
    }

    /// For a text that goes on.
    ///
    /// # Safety
    /// As [`Buffer::empty`], and what is written in it ends with NUL.
    pub(in super::super) unsafe fn after_text(start: *mut c_char, size: usize) -> Result<Self> {
        // SAFETY: as the caller says.
        let buffer = unsafe { Self::empty(start, size) }?;
        // SAFETY: strnlen reads no further than the size or the NUL byte.
        let len = unsafe { libc::strnlen(start, size) };
        Ok(Self { len, ..buffer })
    }

    /// Appends; what does not fit is cut off.
    fn push(&mut self, text: &[u8]) -> Result<()> {
        // One byte more and the NUL byte.
        if self.size.saturating_sub(self.len) < 2 {
            return Err(Fault::Document);
        }
        let room = self.size - self.len - 1;
        let fits = text.get(..room).unwrap_or(text);
        // SAFETY: `fits` and a NUL byte are no more than the room behind the text.
        unsafe {
            write_text(self.start.add(self.len), fits);
        }
        self.len += fits.len();
        if fits.len() < text.len() {
            return Err(Fault::Truncated);
        }
        Ok(())
    }

    /// Takes a comma from the end, if there is one.
    fn drop_comma(&mut self) {
        let Some(last) = self.len.checked_sub(1) else {
            return;
        };
        // SAFETY: within the text.
        unsafe {
            let last = self.start.add(last);
            if *last == b',' as c_char {
                last.write(0);
                self.len -= 1;
            }
        }
    }

    /// Begins a document.
    pub(in super::super) fn begin(&mut self) -> Result<()> {
        self.push(b"{\"state\":{")
    }

    /// Adds a part of the state.
    ///
    /// # Safety
    /// Each member's key and value are as its type says.
    pub(in super::super) unsafe fn section(
        &mut self,
        section: Section,
        members: &[Member],
    ) -> Result<()> {
        self.push(match section {
            Section::Reported => b"\"reported\":{",
            Section::Desired => b"\"desired\":{",
        })?;
        for member in members {
            // SAFETY: as the caller says.
            let text = unsafe { member.text() }?;
            self.push(&text)?;
        }
        self.drop_comma();
        self.push(b"},")
    }

    /// Ends a document, with a new client token.
    pub(in super::super) fn finish(&mut self) -> Result<()> {
        self.drop_comma();
        let token = process::new_token();
        self.push(format!("}}, \"clientToken\":\"{token}\"}}").as_bytes())
    }

    /// Writes a new client token.
    pub(in super::super) fn token(&mut self) -> Result<()> {
        let token = process::new_token();
        self.push(token.as_bytes())
    }
}

/// A member of a document, of either generation's `jsonStruct_t`.
#[derive(Clone, Copy)]
pub(in super::super) struct Member {
    pub(in super::super) key: *const c_char,
    pub(in super::super) data: *const c_void,
    /// `JsonPrimitiveType`.
    pub(in super::super) kind: c_int,
}

impl Member {
    /// `"key":value,`.
    ///
    /// # Safety
    /// The key is NULL or ends with NUL; the data is NULL or of the kind.
    unsafe fn text(&self) -> Result<Vec<u8>> {
        // SAFETY: as the caller says.
        let key = unsafe { c_bytes(self.key) }.ok_or(Fault::Missing)?;
        if self.data.is_null() {
            return Err(Fault::Missing);
        }
        // SAFETY: as the caller says.
        let value = unsafe { self.value() }?;
        Ok([b"\"", key, b"\":", &value, b","].concat())
    }

    unsafe fn value(&self) -> Result<Vec<u8>> {
        let data = self.data;
        // SAFETY: as the caller says; a value in the application's memory may stand anywhere.
        unsafe {
            Ok(match self.kind {
                0 => data.cast::<i32>().read_unaligned().to_string().into(),
                1 => data.cast::<i16>().read_unaligned().to_string().into(),
                2 => data.cast::<i8>().read_unaligned().to_string().into(),
                3 => data.cast::<u32>().read_unaligned().to_string().into(),
                4 => data.cast::<u16>().read_unaligned().to_string().into(),
                5 => data.cast::<u8>().read_unaligned().to_string().into(),
                6 => decimal(data.cast::<f32>().read_unaligned().into())?,
                7 => decimal(data.cast::<f64>().read_unaligned())?,
                // Any byte may stand there.
                8 if data.cast::<u8>().read() != 0 => b"true".to_vec(),
                8 => b"false".to_vec(),
                9 => [b"\"", c_bytes(data.cast()).unwrap_or_default(), b"\""].concat(),
                10 => c_bytes(data.cast()).unwrap_or_default().to_vec(),
                _ => return Err(Fault::Document),
            })
        }
    }
}

/// As `%f`; JSON has neither infinity nor NaN.
fn decimal(number: f64) -> Result<Vec<u8>> {
    if number.is_finite() {
        Ok(format!("{number:.6}").into_bytes())
    } else {
        Err(Fault::Document)
    }
}

/// The value of the first key `clientToken`, if it is a string.
pub(super) fn client_token(document: &[u8]) -> Option<Vec<u8>> {
    let tokens = json::tokens(document).ok()?;
    let at = json::anywhere(document, &tokens, b"clientToken", None)?;
    let token = tokens.get(at)?;
    (token.kind == json::kind::STRING).then(|| token.bytes(document).map(<[u8]>::to_vec))?
}

/// The document's version.
pub(super) fn version(document: &[u8]) -> Option<u32> {
    let tokens = json::tokens(document).ok()?;
    let at = json::member(document, &tokens, 0, b"version")?;
    let text = tokens.get(at)?.bytes(document)?;
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A document as a C text; it ends where the first NUL byte stands.
pub(super) fn c_text(document: &[u8]) -> CString {
    let len = document.iter().position(|byte| *byte == 0);
    let text = document.get(..len.unwrap_or(document.len()));
    CString::new(text.unwrap_or_default()).unwrap_or_default()
}
