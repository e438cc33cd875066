//! Reading and writing numbers.

use std::fmt;

use super::{Decimal, PRECISION, digits};

/// The largest coefficient while reading: 37 digits, so that three digits decide the rounding.
const READ_DIGITS: u32 = PRECISION + 3;

impl Decimal {
    /// Reads a JSON number (RFC 8259, section 6). More than 34 digits are rounded; `None` for what
    /// is no number or beyond the magnitude.
    pub fn parse_json(text: &str) -> Option<Self> {
        Self::parse(text, true)
    }

    /// Reads a String as the guide's "To decimal" says:
    /// `-?\d+(\.\d+)?((?i)E-?\d+)?`, nothing before or after.
    pub fn parse_string(text: &str) -> Option<Self> {
        Self::parse(text, false)
    }

    fn parse(text: &str, plus_in_exponent: bool) -> Option<Self> {
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let mut reader = Reader::default();
        let rest = reader.digits(text, false)?;
        let rest = match rest.strip_prefix('.') {
            Some(fraction) => reader.digits(fraction, true)?,
            None => rest,
        };
        let written = match rest.strip_prefix(['e', 'E']) {
            Some(exponent) => {
                let exponent = match exponent.strip_prefix('+') {
                    Some(_) if !plus_in_exponent => return None,
                    Some(rest) => rest,
                    None => exponent,
                };
                read_exponent(exponent)?
            }
            None if rest.is_empty() => 0,
            None => return None,
        };
        let exponent = reader.exponent.checked_add(written)?;
        Self::new(negative, reader.coefficient, exponent, reader.sticky)
    }
}

/// An exponent's digits with their sign; clamped far outside of what numbers may have.
fn read_exponent(text: &str) -> Option<i64> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    if unsigned.is_empty() || !unsigned.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let value = unsigned.bytes().fold(0i64, |value, b| {
        (value * 10 + i64::from(b - b'0')).min(1_000_000_000)
    });
    Some(if unsigned.len() < text.len() {
        -value
    } else {
        value
    })
}

#[derive(Default)]
struct Reader {
    coefficient: u128,
    exponent: i64,
    sticky: bool,
}

impl Reader {
    /// Takes one or more digits; `None` if there are none.
    fn digits<'t>(&mut self, text: &'t str, fraction: bool) -> Option<&'t str> {
        let end = text
            .bytes()
            .position(|b| !b.is_ascii_digit())
            .unwrap_or(text.len());
        if end == 0 {
            return None;
        }
        let (taken, rest) = text.split_at_checked(end)?;
        for digit in taken.bytes().map(|b| u128::from(b - b'0')) {
            let full = digits(self.coefficient) >= READ_DIGITS;
            if full {
                self.sticky |= digit != 0;
            } else {
                self.coefficient = self.coefficient * 10 + digit;
            }
            match (full, fraction) {
                (true, false) => self.exponent += 1,
                (false, true) => self.exponent -= 1,
                _ => {}
            }
        }
        Some(rest)
    }
}

impl fmt::Display for Decimal {
    /// Plain where that is short, as Java's `BigDecimal.toString` does, else with `E`. Always a
    /// valid JSON number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.negative {
            f.write_str("-")?;
        }
        let text = self.coefficient.to_string();
        let magnitude = i64::from(self.exponent) + text.len() as i64 - 1;
        if self.exponent == 0 {
            return f.write_str(&text);
        }
        if self.exponent < 0 && magnitude >= -6 {
            let fraction = self.exponent.unsigned_abs() as usize;
            return match text.len().checked_sub(fraction) {
                Some(whole) if whole > 0 => {
                    let (whole, fraction) = text.split_at(whole);
                    write!(f, "{whole}.{fraction}")
                }
                _ => write!(f, "0.{text:0>fraction$}"),
            };
        }
        let (first, rest) = text.split_at(1);
        let dot = if rest.is_empty() { "" } else { "." };
        let plus = if magnitude >= 0 { "+" } else { "" };
        write!(f, "{first}{dot}{rest}E{plus}{magnitude}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        Decimal::parse_json(text).unwrap().to_string()
    }

    #[test]
    fn a_number_keeps_its_spelling() {
        for text in [
            "0",
            "10.0",
            "-3.25",
            "0.05",
            "1234567890123456789012345678901234",
            "0.0",
        ] {
            assert_eq!(shown(text), text);
        }
        assert_eq!(shown("1e3"), "1E+3");
        assert_eq!(shown("12e-20"), "1.2E-19");
        assert_eq!(shown("-0"), "0");
    }

    #[test]
    fn more_than_34_digits_are_rounded_half_even() {
        assert_eq!(
            shown("12345678901234567890123456789012345"),
            "1.234567890123456789012345678901234E+34"
        );
        assert_eq!(
            shown("12345678901234567890123456789012355"),
            "1.234567890123456789012345678901236E+34"
        );
        assert_eq!(
            shown("123456789012345678901234567890123450000000001"),
            "1.234567890123456789012345678901235E+44"
        );
        assert_eq!(
            shown("99999999999999999999999999999999999"),
            "1.000000000000000000000000000000000E+35"
        );
    }

    #[test]
    fn the_magnitude_is_bounded() {
        assert!(Decimal::parse_json("1e999").is_some());
        assert!(Decimal::parse_json("1e1000").is_none());
        assert!(Decimal::parse_json("1e99999999999999999999").is_none());
        assert!(
            Decimal::parse_json("1e-99999999999999999999")
                .unwrap()
                .is_zero()
        );
        assert!(Decimal::parse_json(&"9".repeat(2000)).is_none());
    }

    #[test]
    fn strings_are_numbers_only_as_the_guide_writes_them() {
        for text in ["5", "-1.2", "5E-12", "1e3", "007"] {
            assert!(Decimal::parse_string(text).is_some(), "{text}");
        }
        for text in [
            "", "+5", "5.", ".5", "1E+3", " 5", "5 ", "Infinity", "--5", "1.2.3", "1e", "0x1",
        ] {
            assert!(Decimal::parse_string(text).is_none(), "{text}");
        }
    }
}
