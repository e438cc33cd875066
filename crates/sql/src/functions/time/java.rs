//! Patterns of `java.time.format.DateTimeFormatter` (JDK 11), which today's guide names for
//! `time_to_epoch()`.

/// A field of a date or time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Era,
    /// Proleptic: 0 is 1 BC.
    Year,
    YearOfEra,
    DayOfYear,
    Month,
    Day,
    Weekday,
    AmPm,
    /// 1 to 12.
    ClockHourOfHalf,
    /// 0 to 11.
    HourOfHalf,
    /// 1 to 24.
    ClockHour,
    Hour,
    Minute,
    Second,
    Nano,
    MilliOfDay,
    NanoOfDay,
}

/// Fields in all.
pub(super) const FIELDS: usize = 17;

/// Which signs a number may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    None,
    /// `-`.
    Negative,
    /// `-`, and `+` before more digits than the pattern has letters, which then must be there.
    ExceedsPad,
}

/// How long a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    Short,
    Full,
    Narrow,
}

/// One element of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Element {
    Literal(String),
    Number {
        field: Field,
        min: usize,
        max: usize,
        sign: Sign,
    },
    /// A year of two digits, 2000 to 2099.
    TwoDigitYear(Field),
    /// So many digits behind the second's point.
    Fraction(usize),
    Text(Field, Length),
    /// `+01`, `+0130` or `+01:30`.
    Offset {
        minutes: Part,
        seconds: bool,
        colon: bool,
        /// `Z` for zero.
        z: bool,
    },
    /// `GMT`, `GMT+1`, `GMT+01:00`.
    LocalizedOffset(Length),
    /// `Europe/Berlin`, `UTC+01:00`, `+01:00`, `Z`.
    ZoneId,
    /// A zone's name, or what [`Element::ZoneId`] takes.
    ZoneName,
    /// `[…]`.
    Optional(Vec<Element>),
}

/// Whether a part of an offset must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Optional,
    Required,
}

/// Why a pattern cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Bad {
    /// Java does not know it either.
    Invalid,
    /// Java knows it, this gateway does not.
    Unsupported(String),
}

impl Element {
    /// How many digits it always has, if it is a number of fixed width.
    pub(super) fn fixed_digits(&self) -> Option<usize> {
        match self {
            Self::Number {
                min,
                max,
                sign: Sign::None,
                ..
            } if min == max => Some(*min),
            Self::TwoDigitYear(_) => Some(2),
            Self::Fraction(count) => Some(*count),
            _ => None,
        }
    }
}

/// Takes a pattern apart.
pub(super) fn parse(text: &str) -> Result<Vec<Element>, Bad> {
    // One list for each bracket that is open.
    let mut open: Vec<Vec<Element>> = vec![Vec::new()];
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let Some(top) = open.last_mut() else {
            return Err(Bad::Invalid);
        };
        match c {
            '\'' if rest.next_if_eq(&'\'').is_some() => literal(top, '\''),
            '\'' => loop {
                match rest.next() {
                    None => return Err(Bad::Invalid),
                    Some('\'') if rest.next_if_eq(&'\'').is_none() => break,
                    Some(c) => literal(top, c),
                }
            },
            '[' => open.push(Vec::new()),
            ']' => {
                let inner = open.pop().unwrap_or_default();
                open.last_mut()
                    .ok_or(Bad::Invalid)?
                    .push(Element::Optional(inner));
            }
            '{' | '}' | '#' => return Err(Bad::Invalid),
            letter if letter.is_ascii_alphabetic() => {
                let mut count = 1;
                while rest.next_if_eq(&letter).is_some() {
                    count += 1;
                }
                top.push(field(letter, count)?);
            }
            other => literal(top, other),
        }
    }
    // A bracket that is never closed is closed by the end.
    while open.len() > 1 {
        let inner = open.pop().unwrap_or_default();
        if let Some(outer) = open.last_mut() {
            outer.push(Element::Optional(inner));
        }
    }
    open.pop().ok_or(Bad::Invalid)
}

fn literal(out: &mut Vec<Element>, c: char) {
    match out.last_mut() {
        Some(Element::Literal(text)) => text.push(c),
        _ => out.push(Element::Literal(c.to_string())),
    }
}

/// A letter that stands so often.
fn field(letter: char, count: usize) -> Result<Element, Bad> {
    let number = |field, min, max, sign| {
        Ok(Element::Number {
            field,
            min,
            max,
            sign,
        })
    };
    // One letter: as many digits as there are. Two: two digits.
    let one_or_two = |field| match count {
        1 => number(field, 1, 19, Sign::Negative),
        2 => number(field, 2, 2, Sign::None),
        _ => Err(Bad::Invalid),
    };
    let year = |field| match count {
        2 => Ok(Element::TwoDigitYear(field)),
        1 | 3 => number(field, count, 19, Sign::Negative),
        4..=19 => number(field, count, 19, Sign::ExceedsPad),
        _ => Err(Bad::Invalid),
    };
    let text = |field| match count {
        1..=3 => Ok(Element::Text(field, Length::Short)),
        4 => Ok(Element::Text(field, Length::Full)),
        5 => Ok(Element::Text(field, Length::Narrow)),
        _ => Err(Bad::Invalid),
    };
    let offset = |minutes, seconds, colon, z| {
        Ok(Element::Offset {
            minutes,
            seconds,
            colon,
            z,
        })
    };
    let day_part = |field| match count {
        1..=19 => number(field, count, 19, Sign::None),
        _ => Err(Bad::Invalid),
    };
    match letter {
        'G' => text(Field::Era),
        'u' => year(Field::Year),
        'y' => year(Field::YearOfEra),
        'M' | 'L' if count <= 2 => one_or_two(Field::Month),
        'M' | 'L' => text(Field::Month),
        'd' => one_or_two(Field::Day),
        'D' => match count {
            1 => number(Field::DayOfYear, 1, 19, Sign::Negative),
            2 => number(Field::DayOfYear, 2, 3, Sign::None),
            3 => number(Field::DayOfYear, 3, 3, Sign::None),
            _ => Err(Bad::Invalid),
        },
        'E' => text(Field::Weekday),
        'a' if count == 1 => text(Field::AmPm),
        'h' => one_or_two(Field::ClockHourOfHalf),
        'K' => one_or_two(Field::HourOfHalf),
        'k' => one_or_two(Field::ClockHour),
        'H' => one_or_two(Field::Hour),
        'm' => one_or_two(Field::Minute),
        's' => one_or_two(Field::Second),
        'S' if count <= 9 => Ok(Element::Fraction(count)),
        'n' => day_part(Field::Nano),
        'A' => day_part(Field::MilliOfDay),
        'N' => day_part(Field::NanoOfDay),
        'V' if count == 2 => Ok(Element::ZoneId),
        'z' if count <= 4 => Ok(Element::ZoneName),
        'X' | 'x' => match count {
            1 => offset(Part::Optional, false, false, letter == 'X'),
            2 => offset(Part::Required, false, false, letter == 'X'),
            3 => offset(Part::Required, false, true, letter == 'X'),
            4 => offset(Part::Required, true, false, letter == 'X'),
            5 => offset(Part::Required, true, true, letter == 'X'),
            _ => Err(Bad::Invalid),
        },
        'Z' => match count {
            1..=3 => offset(Part::Required, false, false, false),
            4 => Ok(Element::LocalizedOffset(Length::Full)),
            5 => offset(Part::Required, true, true, true),
            _ => Err(Bad::Invalid),
        },
        'O' if count == 1 => Ok(Element::LocalizedOffset(Length::Short)),
        'O' if count == 4 => Ok(Element::LocalizedOffset(Length::Full)),
        // Weeks, quarters, generic zone names, padding.
        'Y' | 'w' | 'W' | 'e' | 'c' | 'F' | 'Q' | 'q' | 'v' | 'p' => {
            Err(Bad::Unsupported(letter.to_string().repeat(count)))
        }
        _ => Err(Bad::Invalid),
    }
}
