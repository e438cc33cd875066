//! Which pairs of neighbouring bytes a text has: what a pattern spells out must stand in every text
//! that it matches, so most patterns of a document are told apart from a topic by one comparison.

/// A set of pairs, as bits. Two pairs may share a bit: what is not in it is certain, what is in it
/// is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pairs(u128);

impl Pairs {
    /// None.
    pub(crate) const NONE: Self = Self(0);

    /// Those of a text.
    pub(crate) fn of(text: &str) -> Self {
        let bytes = text.as_bytes();
        let behind = bytes.get(1..).unwrap_or_default();
        let bits = bytes.iter().zip(behind).map(|(a, b)| bit(*a, *b));
        Self(bits.fold(0, |all, bit| all | bit))
    }

    /// Those of both together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those that both have.
    pub(crate) fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether all of them may be in `text`.
    pub(crate) fn are_in(self, text: Self) -> bool {
        self.0 & !text.0 == 0
    }
}

/// The upper seven bits of a multiplicative hash.
fn bit(a: u8, b: u8) -> u128 {
    let pair = u32::from(u16::from_le_bytes([a, b]));
    1 << (pair.wrapping_mul(0x9e37_79b1) >> 25)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_part_of_a_text_has_no_pair_that_the_text_has_not(
            before in ".{0,20}", part in ".{0,20}", after in ".{0,20}",
        ) {
            let text = format!("{before}{part}{after}");
            prop_assert!(Pairs::of(&part).are_in(Pairs::of(&text)));
        }
    }

    #[test]
    fn most_other_parts_have_one() {
        let text = Pairs::of("topic/client1/9/19/temperature");
        let others = (0..200).map(|n| format!("/{}/{}/", n / 20, n % 20));
        let near = others.filter(|part| Pairs::of(part).are_in(text)).count();
        assert!(near < 20, "{near} of 200");
        assert!(Pairs::of("/9/19/").are_in(text));
        assert!(Pairs::of("x").are_in(text), "one byte is no pair");
    }
}
