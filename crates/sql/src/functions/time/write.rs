//! A moment to text.

use super::calendar::{DAY, MONTHS, WEEKDAYS, date, days, week, weekday};
use super::pattern::Element;
use super::zone::{Offset, Zone, write_offset};

/// A moment in a zone, taken apart.
struct Local {
    days: i64,
    year: i64,
    month: i64,
    day: i64,
    /// Milliseconds of the day.
    time: i64,
    offset: Offset,
    zone_id: String,
}

/// Writes a moment (milliseconds since 1970); `None` outside of what a zone covers.
pub(super) fn write(elements: &[Element], moment: i64, zone: &Zone) -> Option<String> {
    let offset = zone.at(moment)?;
    let local = moment.checked_add(offset.seconds * 1000)?;
    let days = local.div_euclid(DAY);
    let (year, month, day) = date(days);
    let local = Local {
        days,
        year,
        month,
        day,
        time: local.rem_euclid(DAY),
        offset,
        zone_id: zone.id(),
    };
    let mut out = String::new();
    for element in elements {
        match element {
            Element::Literal(text) => out.push_str(text),
            Element::Field(letter, count) => local.field(*letter, *count, &mut out),
        }
    }
    Some(out)
}

/// At least `width` digits.
fn number(value: i64, width: usize, out: &mut String) {
    if value < 0 {
        out.push('-');
    }
    out.push_str(&format!("{:0width$}", value.unsigned_abs()));
}

/// A name in full from four letters on, else its first three.
fn name(names: &[&str], from_one: i64, count: usize, out: &mut String) {
    let name = usize::try_from(from_one - 1)
        .ok()
        .and_then(|n| names.get(n));
    let name = name.copied().unwrap_or("");
    out.push_str(if count >= 4 {
        name
    } else {
        name.get(..3).unwrap_or(name)
    });
}

/// Two letters write the last two digits.
fn year(value: i64, count: usize, out: &mut String) {
    if count == 2 {
        number(value.rem_euclid(100), 2, out);
    } else {
        number(value, count, out);
    }
}

impl Local {
    fn field(&self, letter: char, count: usize, out: &mut String) {
        let hour = self.time / 3_600_000;
        let year_of_era = if self.year > 0 {
            self.year
        } else {
            1 - self.year
        };
        match letter {
            'G' => out.push_str(if self.year > 0 { "AD" } else { "BC" }),
            'C' => number(year_of_era / 100, count, out),
            'Y' => year(year_of_era, count, out),
            'y' => year(self.year, count, out),
            'x' => year(week(self.days).0, count, out),
            'w' => number(week(self.days).1, count, out),
            'e' => number(weekday(self.days), count, out),
            'E' => name(&WEEKDAYS, weekday(self.days), count, out),
            'D' => number(self.days - days(self.year, 1, 1) + 1, count, out),
            'M' if count >= 3 => name(&MONTHS, self.month, count, out),
            'M' => number(self.month, count, out),
            'd' => number(self.day, count, out),
            'a' => out.push_str(if hour < 12 { "AM" } else { "PM" }),
            'K' => number(hour % 12, count, out),
            'h' => number((hour + 11) % 12 + 1, count, out),
            'H' => number(hour, count, out),
            'k' => number((hour + 23) % 24 + 1, count, out),
            'm' => number(self.time / 60_000 % 60, count, out),
            's' => number(self.time / 1000 % 60, count, out),
            'S' => {
                // A fraction of a second: digits from the left, zeros behind the third.
                let digits = format!("{:03}", self.time % 1000);
                out.push_str(digits.get(..count).unwrap_or(&digits));
                out.extend(std::iter::repeat_n('0', count.saturating_sub(3)));
            }
            'z' => out.push_str(&self.offset.short_name),
            'Z' => out.push_str(&match count {
                1 => write_offset(self.offset.seconds, ""),
                2 => write_offset(self.offset.seconds, ":"),
                _ => self.zone_id.clone(),
            }),
            _ => {}
        }
    }
}
