//! Time zones: UTC, fixed offsets, and the IANA database, built in so that nothing is read.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A time zone.
#[derive(Debug, Clone)]
pub(super) enum Zone {
    Utc,
    /// Seconds east of UTC.
    Fixed(i64),
    Named(String, TimeZone),
}

/// A zone at one moment.
pub(super) struct Offset {
    /// Seconds east of UTC.
    pub(super) seconds: i64,
    /// `EST`, `UTC`, `+02:00`.
    pub(super) short_name: String,
}

impl Zone {
    /// By its id (`America/New_York`, `UTC`) or offset (`+02:00`).
    pub(super) fn find(name: &str) -> Option<Self> {
        if name.eq_ignore_ascii_case("UTC") || name == "Z" {
            return Some(Self::Utc);
        }
        if name.starts_with(['+', '-']) {
            let (seconds, rest) = read_offset(name)?;
            return rest.is_empty().then_some(Self::Fixed(seconds));
        }
        let zone = TimeZone::get(name).ok()?;
        Some(Self::Named(name.to_owned(), zone))
    }

    /// What `ZZZ` writes.
    pub(super) fn id(&self) -> String {
        match self {
            Self::Utc => "UTC".into(),
            Self::Fixed(seconds) => write_offset(*seconds, ":"),
            Self::Named(name, _) => name.clone(),
        }
    }

    /// The offset at a moment, milliseconds since 1970; `None` outside the years -9999 to 9999.
    pub(super) fn at(&self, moment: i64) -> Option<Offset> {
        Some(match self {
            Self::Utc => Offset {
                seconds: 0,
                short_name: "UTC".into(),
            },
            Self::Fixed(seconds) => Offset {
                seconds: *seconds,
                short_name: write_offset(*seconds, ":"),
            },
            Self::Named(_, zone) => {
                let info = zone.to_offset_info(Timestamp::from_millisecond(moment).ok()?);
                Offset {
                    seconds: i64::from(info.offset().seconds()),
                    short_name: info.abbreviation().to_owned(),
                }
            }
        })
    }

    /// The moment of a local time, in milliseconds.
    pub(super) fn moment(&self, local: i64) -> Option<i64> {
        let guess = local.checked_sub(self.at(local)?.seconds * 1000)?;
        local.checked_sub(self.at(guess)?.seconds * 1000)
    }
}

/// `+0100` or, with `:` between, `+01:00`.
pub(super) fn write_offset(seconds: i64, between: &str) -> String {
    let sign = if seconds < 0 { '-' } else { '+' };
    let minutes = seconds.abs() / 60;
    format!("{sign}{:02}{between}{:02}", minutes / 60, minutes % 60)
}

/// `+01:00`, `+0100` or `+01` at the beginning of a text, in seconds, and what follows.
pub(super) fn read_offset(text: &str) -> Option<(i64, &str)> {
    let (sign, rest) = if let Some(rest) = text.strip_prefix('+') {
        (1, rest)
    } else {
        (-1, text.strip_prefix('-')?)
    };
    let two = |text: &str| -> Option<i64> {
        let digits = text.get(..2)?;
        let ok = digits.bytes().all(|b| b.is_ascii_digit());
        ok.then(|| digits.parse().ok()).flatten()
    };
    let hours = two(rest)?;
    let rest = rest.get(2..)?;
    let after = rest.strip_prefix(':').unwrap_or(rest);
    let (minutes, rest) = match two(after) {
        Some(minutes) => (minutes, after.get(2..)?),
        None => (0, rest),
    };
    (hours <= 23 && minutes <= 59).then_some((sign * (hours * 3600 + minutes * 60), rest))
}
