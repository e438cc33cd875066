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

    /// By its id, letter case and all.
    pub(super) fn find_exactly(id: &str) -> Option<Self> {
        if id == "UTC" {
            return Some(Self::Utc);
        }
        let zone = TimeZone::get(id).ok()?;
        (zone.iana_name() == Some(id)).then(|| Self::Named(id.to_owned(), zone))
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

    /// The moment of a local time, in milliseconds. One that is there twice is the first; one that
    /// is left out is as much later as is left out (as java.time has it).
    pub(super) fn moment(&self, local: i64) -> Option<i64> {
        let zone = match self {
            Self::Utc => return Some(local),
            Self::Fixed(seconds) => return local.checked_sub(seconds * 1000),
            Self::Named(_, zone) => zone,
        };
        let local = Timestamp::from_millisecond(local).ok()?;
        let civil = TimeZone::UTC.to_datetime(local);
        let found = zone.to_ambiguous_timestamp(civil).compatible().ok()?;
        Some(found.as_millisecond())
    }
}

/// Names of zones in English and their abbreviations, as Java has them, of those that mean one zone
/// alone; all other zones go by id or offset.
const NAMES: [(&str, &[&str]); 19] = [
    (
        "America/Los_Angeles",
        &[
            "Pacific Standard Time",
            "Pacific Daylight Time",
            "PST",
            "PDT",
        ],
    ),
    (
        "America/Denver",
        &[
            "Mountain Standard Time",
            "Mountain Daylight Time",
            "MST",
            "MDT",
        ],
    ),
    (
        "America/Chicago",
        &[
            "Central Standard Time",
            "Central Daylight Time",
            "CST",
            "CDT",
        ],
    ),
    (
        "America/New_York",
        &[
            "Eastern Standard Time",
            "Eastern Daylight Time",
            "EST",
            "EDT",
        ],
    ),
    (
        "America/Juneau",
        &[
            "Alaska Standard Time",
            "Alaska Daylight Time",
            "AKST",
            "AKDT",
        ],
    ),
    (
        "America/Halifax",
        &[
            "Atlantic Standard Time",
            "Atlantic Daylight Time",
            "AST",
            "ADT",
        ],
    ),
    (
        "Pacific/Honolulu",
        &["Hawaii-Aleutian Standard Time", "HST"],
    ),
    (
        "Europe/Paris",
        &[
            "Central European Standard Time",
            "Central European Summer Time",
            "CET",
            "CEST",
        ],
    ),
    (
        "Europe/Bucharest",
        &[
            "Eastern European Standard Time",
            "Eastern European Summer Time",
            "EET",
            "EEST",
        ],
    ),
    (
        "Atlantic/Canary",
        &[
            "Western European Standard Time",
            "Western European Summer Time",
            "WET",
            "WEST",
        ],
    ),
    ("Europe/Moscow", &["Moscow Standard Time", "MSK"]),
    ("Asia/Tokyo", &["Japan Standard Time", "JST"]),
    ("Asia/Seoul", &["Korean Standard Time", "KST"]),
    ("Asia/Singapore", &["Singapore Standard Time", "SGT"]),
    ("Asia/Hong_Kong", &["Hong Kong Standard Time", "HKT"]),
    (
        "Australia/Sydney",
        &[
            "Australian Eastern Standard Time",
            "Australian Eastern Daylight Time",
            "AEST",
            "AEDT",
        ],
    ),
    (
        "Pacific/Auckland",
        &[
            "New Zealand Standard Time",
            "New Zealand Daylight Time",
            "NZST",
            "NZDT",
        ],
    ),
    ("Etc/GMT", &["Greenwich Mean Time", "GMT"]),
    ("UTC", &["Coordinated Universal Time", "UTC"]),
];

/// The zone whose name the text begins with, and what follows.
pub(super) fn by_name(text: &str) -> Option<(Zone, &str)> {
    let names = NAMES
        .iter()
        .flat_map(|(id, names)| names.iter().map(move |name| (id, name)));
    let (id, rest) = names
        .filter_map(|(id, name)| Some((id, text.strip_prefix(name)?)))
        .min_by_key(|(_, rest)| rest.len())?;
    Some((Zone::find_exactly(id)?, rest))
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
