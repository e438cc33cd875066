//! Numbers of AWS IoT SQL: decimals of 34 digits (the guide's "Data types"), which is Java's
//! `MathContext.DECIMAL128` with half-even rounding.
//!
//! A fixed coefficient of 34 digits fits an `i128`, so arithmetic needs no allocation and its cost
//! is bounded whatever the input says.

mod arithmetic;
mod text;

use std::cmp::Ordering;

/// Most significant digits a number keeps.
pub const PRECISION: u32 = 34;
/// Largest power of ten of a number's first digit; smaller than its negative is zero's neighbour.
pub const MAX_MAGNITUDE: i32 = 999;

/// 10^34, one more than the largest coefficient.
const LIMIT: u128 = 10u128.pow(PRECISION);

/// A decimal number: `sign · coefficient · 10^exponent`.
///
/// `10.0` and `10` are equal but spelled differently; the exponent keeps the spelling.
#[derive(Debug, Clone, Copy)]
pub struct Decimal {
    negative: bool,
    /// Below [`LIMIT`].
    coefficient: u128,
    exponent: i32,
}

fn digits(value: u128) -> u32 {
    value.checked_ilog10().map_or(1, |n| n + 1)
}

/// Drops the last `count` digits (1 to 38), rounding half to even; `sticky` says that something
/// other than zero was dropped before.
fn drop_digits(value: u128, count: u32, sticky: bool) -> u128 {
    let unit = 10u128.pow(count);
    let (quotient, rest) = (value / unit, value % unit);
    let up = match rest.cmp(&(unit / 2)) {
        Ordering::Greater => true,
        Ordering::Less => false,
        Ordering::Equal => sticky || quotient % 2 == 1,
    };
    quotient + u128::from(up)
}

impl Decimal {
    /// Zero.
    pub const ZERO: Self = Self {
        negative: false,
        coefficient: 0,
        exponent: 0,
    };

    /// Rounds `coefficient` (at most 38 digits) to 34 and checks the magnitude; `None` beyond
    /// 9.999…E999. Too small becomes zero.
    fn new(negative: bool, coefficient: u128, exponent: i64, sticky: bool) -> Option<Self> {
        let (mut coefficient, mut exponent) = (coefficient, exponent);
        if coefficient >= LIMIT {
            let extra = digits(coefficient) - PRECISION;
            coefficient = drop_digits(coefficient, extra, sticky);
            exponent += i64::from(extra);
            if coefficient >= LIMIT {
                coefficient /= 10;
                exponent += 1;
            }
        }
        if coefficient == 0 {
            let exponent = exponent.clamp(-i64::from(MAX_MAGNITUDE), 0);
            return Some(Self {
                negative: false,
                coefficient,
                exponent: i32::try_from(exponent).ok()?,
            });
        }
        let magnitude = exponent + i64::from(digits(coefficient)) - 1;
        if magnitude > i64::from(MAX_MAGNITUDE) {
            return None;
        }
        if magnitude < -i64::from(MAX_MAGNITUDE) {
            return Some(Self::ZERO);
        }
        Some(Self {
            negative,
            coefficient,
            exponent: i32::try_from(exponent).ok()?,
        })
    }

    /// From a double's shortest decimal text (`2.0` stays a Decimal in version 2015-10-08); `None`
    /// for NaN and the infinities.
    pub fn from_f64(value: f64) -> Option<Self> {
        if !value.is_finite() {
            return None;
        }
        Self::parse_json(&format!("{value:?}"))
    }

    /// The nearest double's shortest decimal; itself where that has the same value. `None` beyond
    /// what a double holds.
    pub fn with_double_precision(self) -> Option<Self> {
        let near = Self::from_f64(self.to_f64())?;
        Some(if near == self { self } else { near })
    }

    /// The nearest double.
    pub fn to_f64(self) -> f64 {
        // The text of a finite number always parses.
        self.to_string().parse().unwrap_or(f64::NAN)
    }

    /// Whether it is written without a fraction: an Int of version 2015-10-08.
    pub fn is_written_as_int(self) -> bool {
        self.exponent >= 0
    }

    /// Whether its value is a whole number: an Int of version 2016-03-23.
    pub fn is_whole(self) -> bool {
        self.exponent >= 0 || self.normalized().exponent >= 0
    }

    /// Whether it is zero.
    pub fn is_zero(self) -> bool {
        self.coefficient == 0
    }

    /// -1, 0 or 1.
    pub fn signum(self) -> i32 {
        match (self.coefficient, self.negative) {
            (0, _) => 0,
            (_, true) => -1,
            (_, false) => 1,
        }
    }

    /// Without its sign.
    pub fn abs(self) -> Self {
        Self {
            negative: false,
            ..self
        }
    }

    /// The shortest spelling of the same value: `10.0` and `1E1` become `10`. An Int that fits 34
    /// digits has exponent 0.
    pub fn normalized(self) -> Self {
        let mut out = self;
        if out.coefficient == 0 {
            return Self::ZERO;
        }
        while out.exponent < 0 && out.coefficient % 10 == 0 {
            out.coefficient /= 10;
            out.exponent += 1;
        }
        let room = PRECISION - digits(out.coefficient);
        if let Ok(exponent) = u32::try_from(out.exponent) {
            if exponent > 0 && exponent <= room {
                out.coefficient *= 10u128.pow(exponent);
                out.exponent = 0;
            }
        }
        out
    }

    /// As an integer of 64 bits, rounded toward negative infinity; `None` if it does not fit.
    pub fn floor_i64(self) -> Option<i64> {
        let whole = self.floor()?.normalized();
        if whole.exponent != 0 {
            return None;
        }
        let magnitude = i128::try_from(whole.coefficient).ok()?;
        i64::try_from(if whole.negative {
            -magnitude
        } else {
            magnitude
        })
        .ok()
    }
}

impl From<i64> for Decimal {
    fn from(value: i64) -> Self {
        Self {
            negative: value < 0,
            coefficient: u128::from(value.unsigned_abs()),
            exponent: 0,
        }
    }
}

impl From<u64> for Decimal {
    fn from(value: u64) -> Self {
        Self {
            negative: false,
            coefficient: u128::from(value),
            exponent: 0,
        }
    }
}
