//! Numbers as text, quickly: a billing policy writes one for each interval that it prices.

use alloc::string::String;

use crate::Decimal;

/// Nine digits are the most of which any number fits 32 bits.
const STEP: u64 = 1_000_000_000;
const STEP_DIGITS: usize = 9;
/// 96 bits have up to 29 digits, and a decimal up to 28 after its point.
const DIGITS: usize = 4 * STEP_DIGITS;

/// The decimal as `Decimal::to_string` writes it. The machine that a component runs on has no division of 96 bits: nine digits at a
/// time take three of 64.
pub(crate) fn decimal(value: Decimal) -> String {
    let [low, middle, high] = limbs(value.mantissa().unsigned_abs());
    let mut limbs = [high, middle, low];
    let mut digits = [b'0'; DIGITS];
    let mut first = DIGITS;
    while limbs != [0; 3] {
        let mut nine = 0_u64;
        for limb in &mut limbs {
            let part = nine << 32 | *limb;
            *limb = part / STEP;
            nine = part % STEP;
        }
        first -= STEP_DIGITS;
        for digit in digits[first..first + STEP_DIGITS].iter_mut().rev() {
            // Below ten.
            *digit = b'0' + u8::try_from(nine % 10).unwrap_or_default();
            nine /= 10;
        }
    }
    let decimals = usize::try_from(value.scale()).unwrap_or_default();
    let point = DIGITS - decimals;
    while first < point - 1 && digits[first] == b'0' {
        first += 1;
    }
    let mut text = String::with_capacity(DIGITS);
    if value.is_sign_negative() && !value.is_zero() {
        text.push('-');
    }
    let push = |text: &mut String, digits: &[u8]| {
        text.extend(digits.iter().map(|digit| char::from(*digit)));
    };
    push(&mut text, &digits[first.min(point - 1)..point]);
    if decimals > 0 {
        text.push('.');
        push(&mut text, &digits[point..]);
    }
    text
}

/// 96 bits in pieces of 32, the lowest first.
fn limbs(bits: u128) -> [u64; 3] {
    [0, 32, 64].map(|shift| u64::try_from(bits >> shift & u128::from(u32::MAX)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn decimals_are_written_as_their_type_writes_them() {
        let mut random = 0x9E37_79B9_7F4A_7C15_u64;
        let mut next = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random
        };
        let edges = [
            0,
            1,
            9,
            10,
            999_999_999,
            1_000_000_000,
            i128::from(u64::MAX),
            (1 << 96) - 1,
        ];
        let mut check = |mantissa: i128, scale: u32| {
            for mantissa in [mantissa, -mantissa] {
                let value = Decimal::from_i128_with_scale(mantissa, scale);
                assert_eq!(decimal(value), value.to_string(), "{mantissa} {scale}");
            }
        };
        for scale in 0..=28 {
            edges.map(|mantissa| check(mantissa, scale));
            for _ in 0..200 {
                let bits = i128::from(next()) << 32 | i128::from(next() >> 32);
                check(bits >> (next() % 96), scale);
            }
        }
    }
}
