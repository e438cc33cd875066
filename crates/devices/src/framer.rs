//! Bytes to lines.

/// What came out of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'b> {
    /// A line without its delimiter.
    Line(&'b [u8]),
    /// A line longer than the limit; its bytes are gone.
    TooLong,
}

/// Cuts a stream of bytes at a delimiter, wherever the reads cut it.
///
/// Holds at most one line: what is longer than the limit is skipped up to the next delimiter.
#[derive(Debug, Clone)]
pub struct Framer {
    delimiter: Vec<u8>,
    max_line: usize,
    buffer: Vec<u8>,
    /// Inside a line that is too long: the buffer holds only what may begin a delimiter.
    skipping: bool,
}

impl Framer {
    /// Lines of at most `max_line` bytes that end with `delimiter`; with the delimiter `\n` a `\r`
    /// before it belongs to it.
    ///
    /// An empty delimiter would never end a line and is taken as `\n`.
    pub fn new(delimiter: &[u8], max_line: usize) -> Self {
        Self {
            delimiter: if delimiter.is_empty() {
                b"\n".to_vec()
            } else {
                delimiter.to_vec()
            },
            max_line,
            buffer: Vec::new(),
            skipping: false,
        }
    }

    /// Takes bytes and gives each line that they complete.
    pub fn push(&mut self, bytes: &[u8], mut take: impl FnMut(Frame<'_>)) {
        for &byte in bytes {
            self.buffer.push(byte);
            if self.buffer.ends_with(&self.delimiter) {
                let line = self.buffer.len() - self.delimiter.len();
                let line = self.buffer.get(..line).unwrap_or(&[]);
                let line = match line.strip_suffix(b"\r") {
                    Some(shorter) if self.delimiter == b"\n" => shorter,
                    _ => line,
                };
                take(if self.skipping || line.len() > self.max_line {
                    Frame::TooLong
                } else {
                    Frame::Line(line)
                });
                self.buffer.clear();
                self.skipping = false;
            } else if self.buffer.len() > self.max_line + self.delimiter.len() {
                self.skipping = true;
                let keep = self.delimiter.len() - 1;
                let drop = self.buffer.len() - keep;
                self.buffer.drain(..drop);
            }
        }
    }

    /// Bytes of the line that has begun.
    pub fn partial(&self) -> usize {
        self.buffer.len()
    }

    /// Forgets the line that has begun; says whether there was one.
    pub fn reset(&mut self) -> bool {
        let cut = !self.buffer.is_empty() || self.skipping;
        self.buffer.clear();
        self.skipping = false;
        cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(framer: &mut Framer, reads: &[&[u8]]) -> Vec<Option<Vec<u8>>> {
        let mut out = Vec::new();
        for read in reads {
            framer.push(read, |frame| {
                out.push(match frame {
                    Frame::Line(line) => Some(line.to_vec()),
                    Frame::TooLong => None,
                });
            });
        }
        out
    }

    fn line(text: &str) -> Option<Vec<u8>> {
        Some(text.as_bytes().to_vec())
    }

    #[test]
    fn lines_survive_split_reads_and_carriage_returns() {
        let mut framer = Framer::new(b"\n", 10);
        assert_eq!(
            frames(&mut framer, &[b"a\r", b"\nb", b"c\n\nd\r\r\n"]),
            [line("a"), line("bc"), line(""), line("d\r")]
        );
        assert_eq!(framer.partial(), 0);
    }

    #[test]
    fn a_delimiter_of_several_bytes_may_be_split() {
        let mut framer = Framer::new(b"\r\n--", 10);
        assert_eq!(
            frames(&mut framer, &[b"a\r\n-", b"-b\r", b"\n-x\r\n--"]),
            [line("a"), line("b\r\n-x")]
        );
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped_to_its_end_and_no_further() {
        let mut framer = Framer::new(b"\n", 4);
        assert_eq!(
            frames(
                &mut framer,
                &[b"1234\n12345\n", b"123456789", b"0123\nab\r\n1234\r\n"]
            ),
            [line("1234"), None, None, line("ab"), line("1234")]
        );
        let mut framer = Framer::new(b"END", 4);
        assert_eq!(
            frames(&mut framer, &[b"123456789E", b"N", b"DabEND"]),
            [None, line("ab")]
        );
    }

    #[test]
    fn a_reset_forgets_the_begun_line() {
        let mut framer = Framer::new(b"\n", 4);
        assert!(frames(&mut framer, &[b"ab"]).is_empty());
        assert!(framer.reset());
        assert!(!framer.reset());
        assert_eq!(frames(&mut framer, &[b"c\n"]), [line("c")]);
    }

    proptest::proptest! {
        #[test]
        fn reads_may_be_cut_anywhere(bytes in proptest::collection::vec(0u8..4, 0..200), cuts in proptest::collection::vec(1usize..9, 1..50)) {
            let whole = frames(&mut Framer::new(&[0, 1], 5), &[&bytes]);
            let mut framer = Framer::new(&[0, 1], 5);
            let mut pieces = Vec::new();
            let mut rest = bytes.as_slice();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (piece, after) = rest.split_at(rest.len().min(*cut));
                pieces.push(piece);
                rest = after;
            }
            proptest::prop_assert_eq!(whole, frames(&mut framer, &pieces));
            proptest::prop_assert!(framer.partial() <= 5 + 2);
        }
    }
}
