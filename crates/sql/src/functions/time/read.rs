//! Text to a moment, as `java.time` reads it: strictly as the pattern says, in English, days beyond
//! the end of a month held at its end.
//!
//! Java makes no moment of a time without a date, nor of a year alone. Here what is missing is the
//! first of its kind: month 1, day 1, 00:00; without a year it is 1970, or 2000 if there is a month
//! or day.

use super::calendar::{DAY, MONTHS, WEEKDAYS, days, days_of_month, weekday};
use super::java::{Element, FIELDS, Field, Length, Part, Sign};
use super::zone::{Zone, by_name};

/// What was found.
#[derive(Clone, Default)]
struct Found {
    fields: [Option<i64>; FIELDS],
    zone: Option<Zone>,
}

/// Reads the whole text; `None` if it is not as the pattern says.
pub(super) fn read(elements: &[Element], text: &str) -> Option<i64> {
    let mut found = Found::default();
    let rest = found.sequence(elements, text)?;
    if rest.is_empty() {
        found.moment()
    } else {
        None
    }
}

/// The ASCII digits that a text begins with.
fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// Exactly two digits, and what follows.
fn two(text: &str) -> Option<(i64, &str)> {
    let (part, rest) = text.split_at_checked(2)?;
    let number = (digits(part) == 2).then(|| part.parse().ok()).flatten()?;
    Some((number, rest))
}

/// `+01:30` and the like, in seconds.
fn offset(text: &str, minutes: Part, with_seconds: bool, colon: bool) -> Option<(i64, &str)> {
    let (sign, rest) = match text.strip_prefix('+') {
        Some(rest) => (1, rest),
        None => (-1, text.strip_prefix('-')?),
    };
    let next = |text| match colon {
        true => str::strip_prefix(text, ':').and_then(two),
        false => two(text),
    };
    let (hours, rest) = two(rest)?;
    let (minutes, rest) = match (next(rest), minutes) {
        (Some(found), _) => found,
        (None, Part::Optional) => (0, rest),
        (None, Part::Required) => return None,
    };
    let (seconds, rest) = next(rest).filter(|_| with_seconds).unwrap_or((0, rest));
    let sum = hours * 3600 + minutes * 60 + seconds;
    (minutes < 60 && seconds < 60 && sum <= 18 * 3600).then_some((sign * sum, rest))
}

/// A zone's id: an offset, `UTC` and the like with an offset, or the longest known name.
fn zone_id(text: &str) -> Option<(Zone, &str)> {
    if let Some(rest) = text.strip_prefix('Z') {
        if !rest.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return Some((Zone::Utc, rest));
        }
    }
    if text.starts_with(['+', '-']) {
        let (seconds, rest) = offset(text, Part::Required, true, true)?;
        return Some((Zone::Fixed(seconds), rest));
    }
    for prefix in ["UTC", "GMT", "UT"] {
        let behind = text.strip_prefix(prefix);
        if let Some((seconds, rest)) = behind.and_then(|t| offset(t, Part::Required, true, true)) {
            return Some((Zone::Fixed(seconds), rest));
        }
    }
    longest(text, Zone::find_exactly).or_else(|| Some((Zone::Utc, text.strip_prefix("UT")?)))
}

/// The longest beginning that is known.
fn longest(text: &str, find: impl Fn(&str) -> Option<Zone>) -> Option<(Zone, &str)> {
    let part = |c: char| c.is_ascii_alphanumeric() || "/_+-".contains(c);
    let end = text.find(|c| !part(c)).unwrap_or(text.len());
    // No name is longer than America/Argentina/ComodRivadavia.
    (1..=end.min(40)).rev().find_map(|end| {
        let (name, rest) = text.split_at_checked(end)?;
        Some((find(name)?, rest))
    })
}

impl Found {
    fn sequence<'t>(&mut self, elements: &[Element], text: &'t str) -> Option<&'t str> {
        let mut rest = text;
        for (at, element) in elements.iter().enumerate() {
            rest = match element {
                Element::Literal(literal) => rest.strip_prefix(literal.as_str())?,
                Element::Optional(inner) => {
                    let mut with = self.clone();
                    match with.sequence(inner, rest) {
                        Some(after) => {
                            *self = with;
                            after
                        }
                        None => rest,
                    }
                }
                Element::Number {
                    field,
                    min,
                    max,
                    sign,
                } => {
                    // Digits that belong to the numbers of fixed width right behind.
                    let reserved: usize = elements
                        .iter()
                        .skip(at + 1)
                        .map_while(Element::fixed_digits)
                        .sum();
                    let (value, after) = number(rest, *min, *max, *sign, reserved)?;
                    self.set(*field, value)?;
                    after
                }
                Element::TwoDigitYear(field) => {
                    let (value, after) = two(rest)?;
                    self.set(*field, 2000 + value)?;
                    after
                }
                Element::Fraction(count) => {
                    let (part, after) = rest.split_at_checked(*count)?;
                    let nanos = (digits(part) == *count).then(|| format!("{part:0<9}"))?;
                    self.set(Field::Nano, nanos.parse().ok()?)?;
                    after
                }
                Element::Text(field, length) => self.text(*field, *length, rest)?,
                Element::Offset {
                    minutes,
                    seconds,
                    colon,
                    z,
                } => match rest.strip_prefix('Z').filter(|_| *z) {
                    Some(after) => {
                        self.zone = Some(Zone::Utc);
                        after
                    }
                    None => {
                        let (seconds, after) = offset(rest, *minutes, *seconds, *colon)?;
                        self.zone = Some(Zone::Fixed(seconds));
                        after
                    }
                },
                Element::LocalizedOffset(length) => {
                    let behind = rest.strip_prefix("GMT")?;
                    let (seconds, after) = localized(behind, *length).unwrap_or((0, behind));
                    self.zone = Some(Zone::Fixed(seconds));
                    after
                }
                Element::ZoneId => {
                    let (zone, after) = zone_id(rest)?;
                    self.zone = Some(zone);
                    after
                }
                Element::ZoneName => {
                    // Whichever is longer; a name before an id.
                    let found = [by_name(rest), zone_id(rest)].into_iter().flatten();
                    let (zone, after) = found.min_by_key(|(_, after)| after.len())?;
                    self.zone = Some(zone);
                    after
                }
            };
        }
        Some(rest)
    }

    fn get(&self, field: Field) -> Option<i64> {
        self.fields.get(field as usize).copied().flatten()
    }

    /// A field that stands twice must say the same.
    fn set(&mut self, field: Field, value: i64) -> Option<()> {
        let place = self.fields.get_mut(field as usize)?;
        match place {
            Some(before) if *before != value => None,
            _ => {
                *place = Some(value);
                Some(())
            }
        }
    }

    fn text<'t>(&mut self, field: Field, length: Length, rest: &'t str) -> Option<&'t str> {
        let names: &[&str] = match field {
            Field::Month => &MONTHS,
            Field::Weekday => &WEEKDAYS,
            Field::AmPm => &["AM", "PM"],
            _ => match length {
                Length::Short => &["BC", "AD"],
                Length::Full => &["Before Christ", "Anno Domini"],
                Length::Narrow => &["B", "A"],
            },
        };
        let cut = match (field, length) {
            (Field::Month | Field::Weekday, Length::Short) => 3,
            (Field::Month | Field::Weekday, Length::Narrow) => 1,
            _ => usize::MAX,
        };
        let (n, after) = (0i64..).zip(names).find_map(|(n, name)| {
            let name = name.get(..cut.min(name.len()))?;
            Some((n, rest.strip_prefix(name)?))
        })?;
        let first = match field {
            Field::Month | Field::Weekday => 1,
            _ => 0,
        };
        self.set(field, first + n)?;
        Some(after)
    }

    /// The field, if it is within its range.
    fn within(&self, field: Field, low: i64, high: i64) -> Option<Option<i64>> {
        match self.get(field) {
            Some(value) if !(low..=high).contains(&value) => None,
            value => Some(value),
        }
    }

    fn year(&self) -> Option<Option<i64>> {
        let year = self.within(Field::Year, -999_999, 999_999)?;
        let of_era = self.within(Field::YearOfEra, 1, 999_999)?;
        let of_era = of_era.map(|y| match self.get(Field::Era) {
            Some(0) => 1 - y,
            _ => y,
        });
        match (year, of_era) {
            (Some(a), Some(b)) if a != b => None,
            _ => Some(year.or(of_era)),
        }
    }

    /// The day since 1970.
    fn day(&self) -> Option<i64> {
        let month = self.within(Field::Month, 1, 12)?;
        let day = self.within(Field::Day, 1, 31)?;
        let of_year = self.within(Field::DayOfYear, 1, 366)?;
        let dated = month.is_some() || day.is_some() || of_year.is_some();
        let year = self.year()?.unwrap_or(if dated { 2000 } else { 1970 });
        let found = match of_year {
            Some(n) if month.is_none() => {
                let found = days(year, 1, 1) + n - 1;
                (found < days(year + 1, 1, 1)).then_some(found)?
            }
            _ => {
                let month = month.unwrap_or(1);
                let day = day.unwrap_or(1).min(days_of_month(year, month));
                days(year, month, day)
            }
        };
        let wanted = self.get(Field::Weekday);
        (wanted.is_none_or(|wanted| wanted == weekday(found))).then_some(found)
    }

    /// Milliseconds of the day, and days more: 24:00 is the next day's 00:00.
    fn time(&self) -> Option<(i64, i64)> {
        if let Some(milli) = self.within(Field::MilliOfDay, 0, DAY - 1)? {
            return Some((milli, 0));
        }
        if let Some(nano) = self.within(Field::NanoOfDay, 0, DAY * 1_000_000 - 1)? {
            return Some((nano / 1_000_000, 0));
        }
        let minute = self.within(Field::Minute, 0, 59)?.unwrap_or(0);
        let second = self.within(Field::Second, 0, 59)?.unwrap_or(0);
        let nano = self.within(Field::Nano, 0, 999_999_999)?.unwrap_or(0);
        let below = (minute * 60 + second) * 1000 + nano / 1_000_000;
        let half = self.within(Field::ClockHourOfHalf, 1, 12)?.map(|h| h % 12);
        let half = half.or(self.within(Field::HourOfHalf, 0, 11)?);
        let clock = self.within(Field::ClockHour, 1, 24)?.map(|h| h % 24);
        let hour = self.within(Field::Hour, 0, 24)?.or(clock);
        let afternoon = self.get(Field::AmPm);
        let hour = match (hour, half) {
            (Some(24), _) => return (below == 0 && nano == 0).then_some((0, 1)),
            (Some(hour), _) => {
                let agrees = afternoon.is_none_or(|half| half == hour / 12);
                agrees.then_some(hour)?
            }
            (None, Some(half)) => half + afternoon.unwrap_or(0) * 12,
            (None, None) => 0,
        };
        Some((hour * 3_600_000 + below, 0))
    }

    fn moment(self) -> Option<i64> {
        let (time, more) = self.time()?;
        let local = (self.day()? + more) * DAY + time;
        self.zone.unwrap_or(Zone::Utc).moment(local)
    }
}

/// A number with at least `min` and at most `max` digits, `reserved` ones left for what follows.
fn number(text: &str, min: usize, max: usize, sign: Sign, reserved: usize) -> Option<(i64, &str)> {
    let (negative, plus, rest) = match (text.strip_prefix('-'), text.strip_prefix('+')) {
        (Some(rest), _) if sign != Sign::None => (true, false, rest),
        (_, Some(rest)) if sign == Sign::ExceedsPad => (false, true, rest),
        _ => (false, false, text),
    };
    let there = digits(rest).min(max + reserved);
    let count = match min == max {
        true => min,
        false => there.saturating_sub(reserved).clamp(min, max),
    };
    if there < count || count > 18 {
        return None;
    }
    // More digits than letters are announced by a plus, and fewer are not.
    if sign == Sign::ExceedsPad && !negative && plus != (count > min) {
        return None;
    }
    let (part, rest) = rest.split_at_checked(count)?;
    let value: i64 = part.parse().ok()?;
    if negative && value == 0 {
        return None;
    }
    Some((if negative { -value } else { value }, rest))
}

/// `+1`, `+1:30` or, in full, `+01:30` behind `GMT`.
fn localized(text: &str, length: Length) -> Option<(i64, &str)> {
    if length == Length::Full {
        return offset(text, Part::Required, true, true);
    }
    let (sign, rest) = match text.strip_prefix('+') {
        Some(rest) => (1, rest),
        None => (-1, text.strip_prefix('-')?),
    };
    let count = digits(rest).min(2);
    let (hours, rest) = rest.split_at_checked(count)?;
    let hours: i64 = hours.parse().ok()?;
    let (minutes, rest) = rest.strip_prefix(':').and_then(two).unwrap_or((0, rest));
    let sum = hours * 3600 + minutes * 60;
    (minutes < 60 && sum <= 18 * 3600).then_some((sign * sum, rest))
}
