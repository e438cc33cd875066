//! Text to a moment.

use super::calendar::{DAY, MONTHS, WEEKDAYS, date, days, days_of_month, weekday};
use super::pattern::Element;
use super::zone::{Zone, read_offset};

/// What was found.
#[derive(Default)]
struct Found {
    year: Option<i64>,
    before_christ: bool,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    weekday: Option<i64>,
    hour: Option<i64>,
    half_hour: Option<i64>,
    afternoon: Option<bool>,
    minute: i64,
    second: i64,
    millisecond: i64,
    zone: Option<Zone>,
}

/// Reads the whole text; `None` if it is not as the pattern says. `now` decides the century of a
/// year of two digits.
pub(super) fn read(elements: &[Element], text: &str, now: i64) -> Option<i64> {
    let mut found = Found::default();
    let mut rest = text;
    for (at, element) in elements.iter().enumerate() {
        rest = match element {
            Element::Literal(literal) => rest.strip_prefix(literal.as_str())?,
            Element::Field(letter, count) if element.is_number() => {
                // Where digits follow digits, the pattern says how many; else all there are.
                let adjacent = elements.get(at + 1).is_some_and(Element::is_number);
                let (digits, after) = take_digits(rest, adjacent.then_some(*count))?;
                found.number(*letter, *count, digits, now)?;
                after
            }
            Element::Field(letter, count) => found.text(*letter, *count, rest)?,
        };
    }
    if !rest.is_empty() {
        return None;
    }
    found.moment()
}

/// Digits with an optional sign, and what follows.
fn take_digits(text: &str, count: Option<usize>) -> Option<(&str, &str)> {
    let sign = usize::from(text.starts_with('-'));
    let digits = text
        .bytes()
        .skip(sign)
        .take(count.unwrap_or(18))
        .take_while(u8::is_ascii_digit)
        .count();
    if digits == 0 || digits > 18 {
        return None;
    }
    text.split_at_checked(sign + digits)
}

/// The name that the text begins with, in full or its first three letters, as a number from 1.
fn take_name<'t>(text: &'t str, names: &[&str]) -> Option<(i64, &'t str)> {
    let begins = |name: &str| {
        let part = text.get(..name.len())?;
        part.eq_ignore_ascii_case(name)
            .then(|| text.get(name.len()..))
            .flatten()
    };
    (1..).zip(names).find_map(|(n, name)| {
        let rest = begins(name).or_else(|| begins(name.get(..3)?))?;
        Some((n, rest))
    })
}

impl Found {
    fn number(&mut self, letter: char, count: usize, digits: &str, now: i64) -> Option<()> {
        let value: i64 = digits.parse().ok()?;
        let within = |low: i64, high: i64| (low..=high).contains(&value).then_some(value);
        match letter {
            'y' | 'Y' if count == 2 && digits.len() == 2 => {
                // The century that puts it from 80 years before now to 19 after, as Joda-Time's
                // pivot 30 years ago does.
                let pivot = date(now.div_euclid(DAY)).0 - 30;
                let low = pivot - 50;
                self.year = Some(low + (value - low).rem_euclid(100));
            }
            'y' | 'Y' => self.year = Some(within(-9999, 9999)?),
            'D' => self.day_of_year = Some(within(1, 366)?),
            'M' => self.month = Some(within(1, 12)?),
            'd' => self.day = Some(within(1, 31)?),
            'e' => self.weekday = Some(within(1, 7)?),
            'K' => self.half_hour = Some(within(0, 11)?),
            'h' => self.half_hour = Some(within(1, 12)? % 12),
            'H' => self.hour = Some(within(0, 23)?),
            'k' => self.hour = Some(within(1, 24)? % 24),
            'm' => self.minute = within(0, 59)?,
            's' => self.second = within(0, 59)?,
            'S' => {
                let padded = format!("{digits:0<3}");
                self.millisecond = padded.get(..3)?.parse().ok()?;
            }
            _ => return None,
        }
        Some(())
    }

    fn text<'t>(&mut self, letter: char, count: usize, rest: &'t str) -> Option<&'t str> {
        let pair = |a: &str, b: &str| {
            let part = rest.get(..2)?;
            let second = part.eq_ignore_ascii_case(b);
            (second || part.eq_ignore_ascii_case(a)).then_some((second, rest.get(2..)?))
        };
        match letter {
            'G' => {
                let (before, after) = pair("AD", "BC")?;
                self.before_christ = before;
                Some(after)
            }
            'a' => {
                let (afternoon, after) = pair("AM", "PM")?;
                self.afternoon = Some(afternoon);
                Some(after)
            }
            'M' => {
                let (month, after) = take_name(rest, &MONTHS)?;
                self.month = Some(month);
                Some(after)
            }
            'E' => {
                let (weekday, after) = take_name(rest, &WEEKDAYS)?;
                self.weekday = Some(weekday);
                Some(after)
            }
            'Z' if count < 3 => {
                let (seconds, after) = read_offset(rest)?;
                self.zone = Some(Zone::Fixed(seconds));
                Some(after)
            }
            // A zone by name: as far as a name's characters go.
            'z' | 'Z' => {
                let end = rest
                    .find(|c: char| !(c.is_ascii_alphanumeric() || "/_+-:".contains(c)))
                    .unwrap_or(rest.len());
                let (name, after) = rest.split_at_checked(end)?;
                self.zone = Some(Zone::find(name)?);
                Some(after)
            }
            _ => None,
        }
    }

    fn moment(self) -> Option<i64> {
        // Joda-Time's defaults: a day or month without a year is of 2000, a time of 1970.
        let dated = self.month.is_some() || self.day.is_some() || self.day_of_year.is_some();
        let year = match self.year {
            Some(year) if self.before_christ => 1 - year,
            Some(year) => year,
            None if dated => 2000,
            None => 1970,
        };
        let mut day = match self.day_of_year {
            Some(n) => {
                let first = days(year, 1, 1);
                (first + n <= days(year + 1, 1, 1)).then_some(first + n - 1)?
            }
            None => {
                let (month, day) = (self.month.unwrap_or(1), self.day.unwrap_or(1));
                (day <= days_of_month(year, month)).then_some(days(year, month, day))?
            }
        };
        if let Some(wanted) = self.weekday {
            day += wanted - weekday(day);
        }
        let hour = match (self.hour, self.half_hour) {
            (Some(hour), _) => hour,
            (None, Some(half)) => half + if self.afternoon == Some(true) { 12 } else { 0 },
            (None, None) => 0,
        };
        let time = ((hour * 60 + self.minute) * 60 + self.second) * 1000 + self.millisecond;
        self.zone.unwrap_or(Zone::Utc).moment(day * DAY + time)
    }
}
