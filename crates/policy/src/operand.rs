//! The values that conditions compare with.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use iotedge_model::UnixMillis;

use crate::Problem;
use crate::arn::{ArnPattern, Target};
use crate::context::Context;
use crate::pattern::{Match, Pattern, Wildcards};

/// How two values are compared; negation is the operator's affair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equals,
    EqualsIgnoreCase,
    Like,
    Arn,
    Number(Order),
    Date(Order),
    Bool,
    Ip,
    Binary,
    /// `Null`: whether the key is missing.
    Null,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Order {
    fn holds<T: PartialOrd>(self, left: &T, right: &T) -> bool {
        match self {
            Self::Equal => left == right,
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
            Self::Greater => left > right,
            Self::GreaterOrEqual => left >= right,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Operand {
    Text(Pattern),
    TextIgnoreCase(Pattern),
    Arn(ArnPattern),
    Number(Order, f64),
    /// Seconds since 1970.
    Date(Order, f64),
    Bool(bool),
    Net(IpAddr, u32),
    Bytes(Box<[u8]>),
}

impl Operand {
    pub(crate) fn parse(comparison: Comparison, text: &str) -> Result<Self, Problem> {
        let wrong = |expected| Problem::Value {
            found: text.to_owned(),
            expected,
        };
        Ok(match comparison {
            Comparison::Equals => Self::Text(Pattern::parse(text, Wildcards::No)?),
            Comparison::EqualsIgnoreCase => {
                Self::TextIgnoreCase(Pattern::parse(text, Wildcards::No)?)
            }
            Comparison::Like => Self::Text(Pattern::parse(text, Wildcards::Yes)?),
            Comparison::Arn => Self::Arn(ArnPattern::parse(text)?),
            Comparison::Number(order) => {
                Self::Number(order, number(text).ok_or_else(|| wrong("number"))?)
            }
            Comparison::Date(order) => {
                let date = date(text)
                    .ok_or_else(|| wrong("date like 2026-01-31T12:00:00Z or seconds since 1970"))?;
                Self::Date(order, date)
            }
            Comparison::Bool | Comparison::Null => {
                Self::Bool(boolean(text).ok_or_else(|| wrong("boolean: true or false"))?)
            }
            Comparison::Binary => {
                let bytes = STANDARD
                    .decode(text)
                    .map_err(|_| wrong("base64 text of the bytes to compare with"))?;
                Self::Bytes(bytes.into())
            }
            Comparison::Ip => {
                let (address, bits) = net(text).ok_or_else(|| {
                    wrong("address or network like 192.0.2.0/24 or 2001:db8::/32")
                })?;
                Self::Net(address, bits)
            }
        })
    }

    pub(crate) fn matches(&self, value: &str, context: &Context<'_>) -> Match {
        let yes = match self {
            Self::Text(pattern) => return pattern.matches(value, context),
            Self::TextIgnoreCase(pattern) => match pattern.fill(context) {
                Some(text) => text.to_lowercase() == value.to_lowercase(),
                None => return Match::Unresolved,
            },
            Self::Arn(pattern) => {
                return Target::cut(value).map_or(Match::No, |t| pattern.matches(&t, context));
            }
            Self::Number(order, right) => number(value).is_some_and(|l| order.holds(&l, right)),
            Self::Date(order, right) => date(value).is_some_and(|l| order.holds(&l, right)),
            Self::Bytes(right) => value.as_bytes() == &**right,
            Self::Bool(right) => boolean(value) == Some(*right),
            Self::Net(network, bits) => value
                .parse()
                .is_ok_and(|address| contains(*network, *bits, address)),
        };
        if yes { Match::Yes } else { Match::No }
    }
}

fn boolean(text: &str) -> Option<bool> {
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

fn number(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|n: &f64| n.is_finite())
}

fn net(text: &str) -> Option<(IpAddr, u32)> {
    match text.split_once('/') {
        None => {
            let address: IpAddr = text.parse().ok()?;
            Some((address, if address.is_ipv4() { 32 } else { 128 }))
        }
        Some((address, bits)) => {
            let address: IpAddr = address.parse().ok()?;
            let max = if address.is_ipv4() { 32 } else { 128 };
            let digits = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit());
            let bits: u32 = bits.parse().ok().filter(|b| digits && *b <= max)?;
            Some((address, bits))
        }
    }
}

fn contains(network: IpAddr, bits: u32, address: IpAddr) -> bool {
    // `bits` is at most the width, checked in `net`; 0 would shift by the whole width.
    match (network, address) {
        (IpAddr::V4(n), IpAddr::V4(a)) => {
            let shift = 32u32.saturating_sub(bits);
            n.to_bits().checked_shr(shift).unwrap_or(0)
                == a.to_bits().checked_shr(shift).unwrap_or(0)
        }
        (IpAddr::V6(n), IpAddr::V6(a)) => {
            let shift = 128u32.saturating_sub(bits);
            n.to_bits().checked_shr(shift).unwrap_or(0)
                == a.to_bits().checked_shr(shift).unwrap_or(0)
        }
        _ => false,
    }
}

/// A time of [`date`]'s forms that is not before 1970.
pub(crate) fn moment(text: &str) -> Option<UnixMillis> {
    let seconds = date(text).filter(|s| (0.0..=1e15).contains(s))?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is between 0 and 10^15"
    )]
    Some(UnixMillis((seconds * 1000.0) as u64))
}

/// ISO 8601 as IAM takes it (`2026-01`, `2026-01-31`, `2026-01-31T12:00:00Z`, `…+01:00`), or seconds.
fn date(text: &str) -> Option<f64> {
    if let Some(seconds) = number(text) {
        return Some(seconds);
    }
    let (day, time) = match text.split_once('T') {
        Some((day, time)) => (day, Some(time)),
        None => (text, None),
    };
    let mut parts = day.splitn(3, '-');
    let (y, m) = (digits(parts.next()?, 4)?, digits(parts.next()?, 2)?);
    let d = match (parts.next(), time) {
        (Some(day), _) => digits(day, 2)?,
        (None, None) => 1,
        (None, Some(_)) => return None,
    };
    if !(1..=12).contains(&m) || !(1..=31).contains(&d) {
        return None;
    }
    let midnight = days_since_1970(y, m, d) * 86_400;
    let seconds = match time {
        None => 0.0,
        Some(time) => time_of_day(time)?,
    };
    #[expect(
        clippy::cast_precision_loss,
        reason = "four-digit years are far below 2^53 seconds"
    )]
    Some(midnight as f64 + seconds)
}

fn digits(text: &str, width: usize) -> Option<i64> {
    (text.len() == width && text.bytes().all(|b| b.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

/// `HH:MM:SS[.fff]` and `Z` or an offset, in seconds of UTC.
fn time_of_day(text: &str) -> Option<f64> {
    let at = text.find(['Z', '+', '-'])?;
    let (clock, zone) = text.split_at_checked(at)?;
    let mut parts = clock.splitn(3, ':');
    let (h, m) = (digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    let s: f64 = match parts.next() {
        None => 0.0,
        Some(s) => {
            digits(s.get(..2)?, 2)?;
            number(s)?
        }
    };
    if h > 24 || m > 59 || s >= 61.0 {
        return None;
    }
    let offset = match zone {
        "Z" => 0,
        _ => {
            let sign = if zone.starts_with('-') { -1 } else { 1 };
            let (oh, om) = zone.get(1..)?.split_once(':')?;
            sign * (digits(oh, 2)? * 3600 + digits(om, 2)? * 60)
        }
    };
    #[expect(clippy::cast_precision_loss, reason = "at most two days of seconds")]
    Some((h * 3600 + m * 60 - offset) as f64 + s)
}

/// `2026-01-31T12:00:00Z`.
pub(crate) fn date_text(at: UnixMillis) -> String {
    let seconds = at.seconds();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // The inverse of `days_since_1970`.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let of_year = of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096;
    let years = of_year / 365;
    let day = of_era - (365 * years + years / 4 - years / 100);
    let month = (5 * day + 2) / 153;
    let (year, month_of_year) = match month {
        0..=9 => (years + era * 400, month + 3),
        _ => (years + era * 400 + 1, month - 9),
    };
    format!(
        "{year:04}-{month_of_year:02}-{:02}T{:02}:{:02}:{:02}Z",
        day - (153 * month + 2) / 5 + 1,
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

/// Days of the Gregorian calendar, counted in eras of 400 years from 1 March.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_seconds_since_1970() {
        assert_eq!(date("1970-01-01"), Some(0.0));
        assert_eq!(date("1970-02"), Some(2_678_400.0));
        assert_eq!(moment("1970-01-01T00:00:01.5Z"), Some(UnixMillis(1_500)));
        assert_eq!(moment("1969-12-31"), None);
        assert_eq!(date("2000-03-01T00:00:00Z"), Some(951_868_800.0));
        assert_eq!(date("2026-01-31T12:00:00+01:00"), Some(1_769_857_200.0));
        assert_eq!(date("1769857200"), Some(1_769_857_200.0));
        for seconds in [
            0,
            68_169_599,
            951_782_400,
            951_868_799,
            1_769_857_200,
            4_107_542_400,
        ] {
            let text = date_text(UnixMillis(seconds * 1000));
            assert_eq!(date(&text), Some(seconds as f64), "{text}");
        }
        assert_eq!(
            date_text(UnixMillis(951_782_400_000)),
            "2000-02-29T00:00:00Z"
        );
        for wrong in [
            "2026-13-01",
            "2026-01-01T25:00:00Z",
            "now",
            "2026-1-1",
            "2026-01T00:00:00Z",
            "",
        ] {
            assert_eq!(date(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn networks_hold_their_addresses_and_no_others() {
        let holds = |n: &str, a: &str| {
            let (network, bits) = net(n).unwrap();
            contains(network, bits, a.parse().unwrap())
        };
        assert!(holds("0.0.0.0/0", "255.1.2.3"));
        assert!(holds("::/0", "2001:db8::1"));
        assert!(!holds("::/0", "1.2.3.4"));
        assert!(holds("192.0.2.128/25", "192.0.2.129"));
        assert!(!holds("192.0.2.128/25", "192.0.2.127"));
        for wrong in ["1.2.3.4/33", "1.2.3/8", "::/129", "1.2.3.4/", "1.2.3.4/+8"] {
            assert!(net(wrong).is_none(), "{wrong}");
        }
    }
}
