//! Arithmetic: every result is the exact one, rounded half-even to 34 digits.

use std::cmp::Ordering;

use super::{Decimal, LIMIT, PRECISION, digits, drop_digits};

/// 10^17: half of the coefficient's digits.
const HALF: u128 = 10u128.pow(PRECISION / 2);

/// An unsigned number of up to 68 digits: `high · 10^34 + low`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Wide {
    high: u128,
    low: u128,
}

impl Wide {
    fn product(a: u128, b: u128) -> Self {
        let (a1, a0, b1, b0) = (a / HALF, a % HALF, b / HALF, b % HALF);
        let middle = a1 * b0 + a0 * b1;
        let low = a0 * b0 + (middle % HALF) * HALF;
        Self {
            high: a1 * b1 + middle / HALF + low / LIMIT,
            low: low % LIMIT,
        }
    }

    fn plus(self, other: Self) -> Self {
        let low = self.low + other.low;
        Self {
            high: self.high + other.high + low / LIMIT,
            low: low % LIMIT,
        }
    }

    /// `self - other`, where `other` is not larger.
    fn minus(self, other: Self) -> Self {
        if self.low >= other.low {
            Self {
                high: self.high - other.high,
                low: self.low - other.low,
            }
        } else {
            Self {
                high: self.high - other.high - 1,
                low: self.low + LIMIT - other.low,
            }
        }
    }

    /// Rounds to 34 digits.
    fn round(self, negative: bool, exponent: i64) -> Option<Decimal> {
        if self.high == 0 {
            return Decimal::new(negative, self.low, exponent, false);
        }
        let extra = digits(self.high);
        if extra > PRECISION {
            return Decimal::new(
                negative,
                self.high,
                exponent + i64::from(PRECISION),
                self.low != 0,
            );
        }
        let unit = 10u128.pow(extra);
        let kept = self.high * 10u128.pow(PRECISION - extra) + self.low / unit;
        let rest = self.low % unit;
        let up = drop_digits(kept % 2 * unit + rest, extra, false) > kept % 2;
        Decimal::new(
            negative,
            kept + u128::from(up),
            exponent + i64::from(extra),
            false,
        )
    }
}

impl Decimal {
    /// `self + other`; `None` beyond the magnitude.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        let (high, low) = if self.exponent >= other.exponent {
            (self, other)
        } else {
            (other, self)
        };
        if high.coefficient == 0 {
            return Some(low);
        }
        // Fill `high` up with zeros as far as its 34 digits go.
        let gap = high.exponent.abs_diff(low.exponent);
        let fill = gap.min(PRECISION - digits(high.coefficient));
        let filled = high.coefficient * 10u128.pow(fill);
        let mut gap = gap - fill;
        let mut small = low.coefficient;
        let mut exponent = i64::from(low.exponent);
        if small == 0 {
            return Self::new(
                high.negative,
                filled,
                i64::from(high.exponent) - i64::from(fill),
                false,
            );
        }
        // What lies more than 34 digits below counts only for the direction of rounding.
        if gap > PRECISION {
            let excess = gap - PRECISION;
            exponent += i64::from(excess);
            let unit = 10u128.checked_pow(excess).unwrap_or(u128::MAX);
            let sticky = small % unit != 0;
            small /= unit;
            if sticky && small % 5 == 0 {
                small += 1;
            }
            gap = PRECISION;
        }
        let wide_high = Wide {
            high: if gap == 0 {
                0
            } else {
                filled / 10u128.pow(PRECISION - gap)
            },
            low: if gap == 0 {
                filled
            } else {
                filled % 10u128.pow(PRECISION - gap) * 10u128.pow(gap)
            },
        };
        let wide_low = Wide {
            high: 0,
            low: small,
        };
        let (negative, sum) = if high.negative == low.negative {
            (high.negative, wide_high.plus(wide_low))
        } else if wide_high >= wide_low {
            (high.negative, wide_high.minus(wide_low))
        } else {
            (low.negative, wide_low.minus(wide_high))
        };
        sum.round(negative, exponent)
    }

    /// `self - other`.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.checked_add(other.negated())
    }

    /// `-self`.
    pub fn negated(self) -> Self {
        Self {
            negative: !self.negative && self.coefficient != 0,
            ..self
        }
    }

    /// `self · other`.
    pub fn checked_mul(self, other: Self) -> Option<Self> {
        Wide::product(self.coefficient, other.coefficient).round(
            self.negative != other.negative,
            i64::from(self.exponent) + i64::from(other.exponent),
        )
    }

    /// `self / other` to 34 digits, without zeros at the end; `None` for division by zero.
    pub fn checked_div(self, other: Self) -> Option<Self> {
        if other.coefficient == 0 {
            return None;
        }
        let mut quotient = self.coefficient / other.coefficient;
        let mut rest = self.coefficient % other.coefficient;
        let mut exponent = i64::from(self.exponent) - i64::from(other.exponent);
        // Long division, to two digits more than are kept.
        while rest != 0 && digits(quotient) < PRECISION + 2 {
            rest *= 10;
            quotient = quotient * 10 + rest / other.coefficient;
            rest %= other.coefficient;
            exponent -= 1;
        }
        let out = Self::new(
            self.negative != other.negative,
            quotient,
            exponent,
            rest != 0,
        )?;
        Some(out.normalized())
    }

    /// The whole part of `self / other` (Int divided by Int); `None` for division by zero.
    pub fn div_int(self, other: Self) -> Option<Self> {
        let rest = self.checked_rem(other)?;
        self.checked_sub(rest)?.checked_div(other)?.trunc_to(0)
    }

    /// The remainder of the truncated division: it has the sign of `self`. `None` for division by
    /// zero.
    pub fn checked_rem(self, other: Self) -> Option<Self> {
        let divisor = other.coefficient;
        if divisor == 0 {
            return None;
        }
        let (rest, exponent) = if self.exponent >= other.exponent {
            let mut rest = self.coefficient % divisor;
            for _ in other.exponent..self.exponent {
                rest = rest * 10 % divisor;
            }
            (rest, other.exponent)
        } else {
            let gap = self.exponent.abs_diff(other.exponent);
            let scaled = 10u128
                .checked_pow(gap)
                .and_then(|unit| divisor.checked_mul(unit));
            match scaled {
                Some(scaled) => (self.coefficient % scaled, self.exponent),
                // The divisor is larger than any coefficient.
                None => (self.coefficient, self.exponent),
            }
        };
        Self::new(self.negative, rest, i64::from(exponent), false)
    }

    /// Cuts after `places` decimal places, toward zero.
    pub fn trunc_to(self, places: u32) -> Option<Self> {
        self.cut(places, |_, _| false)
    }

    /// The largest whole number not above.
    pub fn floor(self) -> Option<Self> {
        self.cut(0, |this, _| this.negative)
    }

    /// The smallest whole number not below.
    pub fn ceil(self) -> Option<Self> {
        self.cut(0, |this, _| !this.negative)
    }

    /// Rounds to `places` decimal places, half away from zero.
    pub fn round_to(self, places: u32) -> Option<Self> {
        self.cut(places, |_, half| half != Ordering::Less)
    }

    /// Drops the digits behind `places`; `up` says from the sign and from how the dropped part
    /// compares with a half whether the last kept digit grows. Asked only if something is lost.
    fn cut(self, places: u32, up: impl Fn(Self, Ordering) -> bool) -> Option<Self> {
        let have = if self.exponent < 0 {
            self.exponent.unsigned_abs()
        } else {
            0
        };
        if have <= places {
            return Some(self);
        }
        let drop = have - places;
        let (kept, rest_half, lost) = match 10u128.checked_pow(drop) {
            Some(unit) => {
                let rest = self.coefficient % unit;
                (self.coefficient / unit, rest.cmp(&(unit / 2)), rest != 0)
            }
            None => (0, Ordering::Less, self.coefficient != 0),
        };
        let grow = lost && up(self, rest_half);
        Self::new(
            self.negative,
            kept + u128::from(grow),
            -i64::from(places),
            false,
        )
    }
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Decimal {}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Decimal {
    /// By value: `10.0` equals `10`.
    fn cmp(&self, other: &Self) -> Ordering {
        self.signum().cmp(&other.signum()).then_with(|| {
            let magnitude = |d: &Self| i64::from(d.exponent) + i64::from(digits(d.coefficient));
            // With the same number of digits before the point, full coefficients compare.
            let full = |d: &Self| d.coefficient * 10u128.pow(PRECISION - digits(d.coefficient));
            let order = magnitude(self)
                .cmp(&magnitude(other))
                .then_with(|| full(self).cmp(&full(other)));
            match (self.signum(), self.negative) {
                (0, _) => Ordering::Equal,
                (_, true) => order.reverse(),
                (_, false) => order,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn d(text: &str) -> Decimal {
        Decimal::parse_json(text).unwrap()
    }

    fn shown(value: Option<Decimal>) -> String {
        value.map_or("none".into(), |v| v.to_string())
    }

    #[test]
    fn sums_are_exact_to_34_digits() {
        assert_eq!(shown(d("0.1").checked_add(d("0.2"))), "0.3");
        assert_eq!(shown(d("54.98").checked_add(d("1"))), "55.98");
        assert_eq!(
            shown(d("1e40").checked_add(d("1"))),
            "1.000000000000000000000000000000000E+40"
        );
        assert_eq!(shown(d("1").checked_sub(d("1.0"))), "0.0");
        assert_eq!(
            shown(d("1e33").checked_sub(d("0.1"))),
            "999999999999999999999999999999999.9"
        );
        assert_eq!(
            shown(d("9999999999999999999999999999999999").checked_add(d("1"))),
            "1.000000000000000000000000000000000E+34"
        );
        assert_eq!(
            shown(d("9999999999999999999999999999999999").checked_add(d("0.5"))),
            "1.000000000000000000000000000000000E+34"
        );
        assert_eq!(
            shown(d("1000000000000000000000000000000000e30").checked_sub(d("1e-900"))),
            "1.000000000000000000000000000000000E+63"
        );
    }

    #[test]
    fn products_are_rounded_once() {
        assert_eq!(
            shown(
                d("9999999999999999999999999999999999")
                    .checked_mul(d("9999999999999999999999999999999999"))
            ),
            "9.999999999999999999999999999999998E+67"
        );
        assert_eq!(shown(d("7.5").checked_mul(d("2"))), "15.0");
        assert_eq!(shown(d("9e999").checked_mul(d("10"))), "none");
    }

    #[test]
    fn quotients_and_remainders() {
        assert_eq!(shown(d("7.5").checked_div(d("2"))), "3.75");
        assert_eq!(
            shown(d("1").checked_div(d("3"))),
            "0.3333333333333333333333333333333333"
        );
        assert_eq!(
            shown(d("2").checked_div(d("3"))),
            "0.6666666666666666666666666666666667"
        );
        assert_eq!(shown(d("1").checked_div(d("0"))), "none");
        assert_eq!(shown(d("-7").div_int(d("2"))), "-3");
        assert_eq!(shown(d("-7").checked_rem(d("3"))), "-1");
        assert_eq!(shown(d("9.5").checked_rem(d("4"))), "1.5");
        assert_eq!(shown(d("1e999").checked_rem(d("7"))), "6");
        assert_eq!(shown(d("5").checked_rem(d("1e50"))), "5");
    }

    #[test]
    fn rounding_has_the_directions_of_the_guide() {
        assert_eq!(shown(d("-1.5").round_to(0)), "-2");
        assert_eq!(shown(d("2.346").round_to(2)), "2.35");
        assert_eq!(shown(d("-1.2").floor()), "-2");
        assert_eq!(shown(d("-1.2").ceil()), "-1");
        assert_eq!(shown(d("2.888").trunc_to(2)), "2.88");
        assert_eq!(shown(d("-1e-500").floor()), "-1");
    }

    #[test]
    fn order_is_by_value() {
        assert_eq!(d("10.0"), d("10"));
        assert_eq!(d("1e3"), d("1000"));
        assert!(d("-2") < d("-1.5"));
        assert!(d("0.001") < d("1e-2"));
        assert!(d("0.0") == d("0"));
    }

    proptest::proptest! {
        #[test]
        fn small_numbers_agree_with_integers(a in -1_000_000_000i64..1_000_000_000, b in -1_000_000_000i64..1_000_000_000) {
            let (x, y) = (Decimal::from(a), Decimal::from(b));
            assert_eq!(x.checked_add(y).unwrap(), Decimal::from(a + b));
            assert_eq!(x.checked_mul(y).unwrap(), Decimal::from(a * b));
            if b != 0 {
                assert_eq!(x.checked_rem(y).unwrap(), Decimal::from(a % b));
                assert_eq!(x.div_int(y).unwrap(), Decimal::from(a / b));
            }
            assert_eq!(x.cmp(&y), a.cmp(&b));
        }

        #[test]
        fn nothing_panics_and_sums_undo(a in "-?[0-9]{1,40}(\\.[0-9]{1,40})?(e-?[0-9]{1,4})?", b in "-?[0-9]{1,40}(\\.[0-9]{1,40})?(e-?[0-9]{1,4})?") {
            if let (Some(a), Some(b)) = (Decimal::parse_json(&a), Decimal::parse_json(&b)) {
                for value in [a.checked_add(b), a.checked_sub(b), a.checked_mul(b), a.checked_div(b), a.checked_rem(b), a.div_int(b), a.floor(), a.ceil(), a.round_to(3), a.trunc_to(1)].into_iter().flatten() {
                    let again = Decimal::parse_json(&value.to_string()).unwrap();
                    assert_eq!(again, value);
                    let _ = (value.normalized(), value.to_f64(), value.floor_i64());
                }
            }
        }
    }
}
