//! Mathematics. Sums of digits stay exact decimals; what a double must compute has its precision
//! (guide: "some functions return Decimals with double precision").

use super::Arguments;
use crate::EvalError;
use crate::decimal::Decimal;
use crate::eval::Context;
use crate::value::Value;

type Out<'a> = Result<Value<'a>, EvalError>;

/// One number in, one number out, exact.
fn exact<'a>(arguments: Arguments<'a>, f: fn(Decimal) -> Option<Decimal>) -> Out<'a> {
    let number = arguments.exactly().and_then(|[v]| v.to_decimal());
    Ok(Value::number(number.and_then(f)))
}

/// One number in, one double out; Undefined for "imaginary results" and infinities
/// (amb-sql-003 to 006).
fn double<'a>(arguments: Arguments<'a>, f: fn(f64) -> f64) -> Out<'a> {
    let number = arguments.exactly().and_then(|[v]| v.to_decimal());
    Ok(number.map_or(Value::Undefined, |n| Value::double(f(n.to_f64()))))
}

fn two<'a>(arguments: Arguments<'a>) -> Option<(Decimal, Decimal)> {
    let [a, b] = arguments.exactly()?;
    Some((a.to_decimal()?, b.to_decimal()?))
}

fn double_of_two<'a>(arguments: Arguments<'a>, f: fn(f64, f64) -> f64) -> Out<'a> {
    Ok(two(arguments).map_or(Value::Undefined, |(a, b)| {
        Value::double(f(a.to_f64(), b.to_f64()))
    }))
}

/// Decimals are rounded down first (amb-sql-009).
fn bits<'a>(arguments: Arguments<'a>, f: fn(i64, i64) -> i64) -> Out<'a> {
    let integers = two(arguments).and_then(|(a, b)| Some((a.floor_i64()?, b.floor_i64()?)));
    Ok(integers.map_or(Value::Undefined, |(a, b)| Value::int(f(a, b))))
}

macro_rules! doubles {
    ($($name:ident = $f:expr),* $(,)?) => {
        $(pub(super) fn $name<'a>(_: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
            double(arguments, $f)
        })*
    };
}

doubles! {
    acos = f64::acos,
    asin = f64::asin,
    atan = f64::atan,
    cos = f64::cos,
    cosh = f64::cosh,
    exp = f64::exp,
    ln = f64::ln,
    sin = f64::sin,
    sinh = f64::sinh,
    sqrt = f64::sqrt,
    tan = f64::tan,
    tanh = f64::tanh,
}

macro_rules! exacts {
    ($($name:ident = $f:expr),* $(,)?) => {
        $(pub(super) fn $name<'a>(_: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
            exact(arguments, $f)
        })*
    };
}

exacts! {
    abs = |n| Some(n.abs()),
    ceil = Decimal::ceil,
    floor = Decimal::floor,
    sign = |n| Some(Decimal::from(i64::from(n.signum()))),
}

pub(super) fn atan2<'a>(_: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    double_of_two(arguments, f64::atan2)
}

pub(super) fn power<'a>(_: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    double_of_two(arguments, f64::powf)
}

pub(super) fn bitand<'a>(_: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    bits(arguments, |a, b| a & b)
}

pub(super) fn bitor<'a>(_: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    bits(arguments, |a, b| a | b)
}

pub(super) fn bitxor<'a>(_: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    bits(arguments, |a, b| a ^ b)
}

/// Two's complement (amb-sql-007).
pub(super) fn bitnot<'a>(_: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    let integer = arguments
        .exactly()
        .and_then(|[v]| v.to_decimal()?.floor_i64());
    Ok(integer.map_or(Value::Undefined, |n| Value::int(!n)))
}

/// `mod()` and `remainder()`: with the sign of the dividend (amb-sql-010).
pub(super) fn remainder<'a>(_: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    Ok(Value::number(
        two(arguments).and_then(|(a, b)| a.checked_rem(b)),
    ))
}

/// `log(n)` is base 10, `log(n, m)` base m (amb-sql-088).
pub(super) fn log<'a>(_: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    if arguments.values.len() == 2 {
        // log10() and log2() are exact where the quotient is not.
        return double_of_two(arguments, |n, base| match base {
            10.0 => n.log10(),
            2.0 => n.log2(),
            _ => n.ln() / base.ln(),
        });
    }
    double(arguments, f64::log10)
}

/// Half away from zero (amb-sql-001); a second argument is the number of places (amb-sql-089).
pub(super) fn round<'a>(_: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    if arguments.values.len() == 2 {
        return places(arguments, Decimal::round_to);
    }
    exact(arguments, |n| n.round_to(0))
}

pub(super) fn trunc<'a>(_: &Context<'a>, arguments: Arguments<'a>) -> Out<'a> {
    // "Trailing zeroes are stripped from the result."
    places(arguments, |n, places| {
        n.trunc_to(places).map(Decimal::normalized)
    })
}

/// The second argument is a number, not a string of one (amb-sql-012), rounded down; negative
/// places are none (amb-sql-013), and more than 34 are 34.
fn places<'a>(arguments: Arguments<'a>, f: fn(Decimal, u32) -> Option<Decimal>) -> Out<'a> {
    let Some([value, places @ Value::Number(_)]) = arguments.exactly() else {
        return Ok(Value::Undefined);
    };
    let places = places.to_index().unwrap_or(0).clamp(0, 34);
    let number = value.to_decimal();
    Ok(Value::number(
        number.and_then(|n| f(n, u32::try_from(places).unwrap_or(0))),
    ))
}
