//! Sizes and durations as people write them.

use std::time::Duration;

const SIZES: [(&str, u64); 8] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

/// In milliseconds.
const DURATIONS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// Bytes: `256MiB`, `64 kB`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    scaled(text, &SIZES).ok_or_else(|| {
        format!("{text:?} is not a size; write it like \"256MiB\", \"64kB\" or 4096")
    })
}

/// `50ms`, `10s`, `1h`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    scaled(text, &DURATIONS)
        .map(Duration::from_millis)
        .ok_or_else(|| {
            format!("{text:?} is not a duration; write it like \"50ms\", \"10s\", \"5m\", \"1h\" or \"7d\"")
        })
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    let unit = unit.trim_start();
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// Bytes as [`size`] reads them, in the largest unit that loses nothing.
pub(super) fn size_text(bytes: u64) -> String {
    let whole = SIZES[..4]
        .iter()
        .rev()
        .find(|(_, factor)| bytes >= *factor && bytes % factor == 0);
    match whole {
        Some((unit, factor)) => format!("{}{unit}", bytes / factor),
        None => format!("{bytes}B"),
    }
}

/// A duration as [`duration`] reads it, in the largest unit that loses nothing.
pub(super) fn duration_text(duration: Duration) -> String {
    let millis = duration.as_millis();
    let whole = DURATIONS
        .iter()
        .rev()
        .find(|(_, factor)| millis >= u128::from(*factor) && millis % u128::from(*factor) == 0);
    match whole {
        Some((unit, factor)) => format!("{}{unit}", millis / u128::from(*factor)),
        None => format!("{millis}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_written() {
        for (text, bytes) in [
            ("256MiB", 256 << 20),
            ("1GiB", 1 << 30),
            ("64 kB", 64_000),
            ("0B", 0),
            ("17B", 17),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "MiB",
            "1 elephant",
            "1mib",
            "-1B",
            "1.5GiB",
            "12",
            "99999999999999TiB",
            "١B",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
        for bytes in [0, 1, 1024, 1 << 30, 1_000] {
            assert_eq!(size(&size_text(bytes)), Ok(bytes));
        }
    }

    #[test]
    fn durations_are_read_as_written() {
        for (text, millis) in [
            ("50ms", 50),
            ("10s", 10_000),
            ("1h", 3_600_000),
            ("7d", 604_800_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
            assert_eq!(duration_text(Duration::from_millis(millis)), text);
        }
        for text in [
            "",
            "sometimes",
            "50",
            "1.5s",
            "1 hour",
            "999999999999999999d",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
