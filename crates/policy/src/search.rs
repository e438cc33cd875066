//! Looking for a part of a pattern in a text, without ever going back in the text.
//!
//! A part without `?` is one string, and `str::find` is linear; for a few bytes trying each place is
//! quicker, and linear too. A part with `?` inside is looked for
//! with one bit for each of its characters (the shift-and method): each character of the text is
//! looked at once, and costs a word operation for each 64 characters of the part.

/// A character of a part, or `None` for `?`: any one.
pub(crate) type Unit = Option<char>;

/// The text behind the first place of `part` in `text`.
pub(crate) fn after_first_str<'t>(part: &str, text: &'t str) -> Option<&'t str> {
    if part.len() <= SHORT {
        return after_first_short(part.as_bytes(), text);
    }
    let at = text.find(part)?;
    text.get(at + part.len()..)
}

/// Bytes of a part for which `str::find` takes longer to prepare than to look.
const SHORT: usize = 8;

fn after_first_short<'t>(part: &[u8], text: &'t str) -> Option<&'t str> {
    let Some((first, others)) = part.split_first() else {
        return Some(text);
    };
    let mut rest = text.as_bytes();
    loop {
        let at = rest.iter().position(|byte| byte == first)?;
        rest = rest.get(at + 1..)?;
        if let Some(behind) = rest.strip_prefix(others) {
            return text.get(text.len() - behind.len()..);
        }
    }
}

/// The text behind the first place of `part` in `text`.
pub(crate) fn after_first_units<'t>(part: &[Unit], text: &'t str) -> Option<&'t str> {
    // `?` at the ends stands for characters that only have to be there.
    let leading = part.iter().take_while(|u| u.is_none()).count();
    let text = behind(text, leading)?;
    let core = part.get(leading..).unwrap_or_default();
    let trailing = core.iter().rev().take_while(|u| u.is_none()).count();
    let core = core.get(..core.len() - trailing).unwrap_or_default();
    let rest = match core {
        [] => text,
        core => Bits::of(core).after_first(text)?,
    };
    behind(rest, trailing)
}

/// `text` without its first `n` characters.
pub(crate) fn behind(text: &str, n: usize) -> Option<&str> {
    let mut chars = text.chars();
    match n.checked_sub(1) {
        None => Some(text),
        Some(last) => chars.nth(last).map(|_| chars.as_str()),
    }
}

/// Which places of a part take which character.
struct Bits {
    words: usize,
    /// Where in a row the bit of the last place is.
    last: (usize, u64),
    /// The characters of the part, in order.
    chars: Vec<char>,
    /// A row of words for each of `chars`, and one for all others.
    rows: Vec<u64>,
}

const WORD: usize = 64;

impl Bits {
    /// `part` is not empty.
    fn of(part: &[Unit]) -> Self {
        let words = part.len().div_ceil(WORD);
        let mut chars: Vec<char> = part.iter().copied().flatten().collect();
        chars.sort_unstable();
        chars.dedup();
        let any = row(words, part.iter().map(Option::is_none));
        let mut rows = any.repeat(chars.len() + 1);
        for (place, unit) in part.iter().enumerate() {
            let at = unit.and_then(|c| chars.binary_search(&c).ok());
            if let Some(word) = at.and_then(|at| rows.get_mut(at * words + place / WORD)) {
                *word |= 1 << (place % WORD);
            }
        }
        let end = part.len() - 1;
        Self {
            words,
            last: (end / WORD, 1 << (end % WORD)),
            chars,
            rows,
        }
    }

    fn row(&self, c: char) -> &[u64] {
        let at = self.chars.binary_search(&c).unwrap_or(self.chars.len());
        let begin = at * self.words;
        self.rows.get(begin..begin + self.words).unwrap_or_default()
    }

    fn after_first<'t>(&self, text: &'t str) -> Option<&'t str> {
        // A bit is set where the part, up to there, ends with the character just read.
        let mut state = vec![0u64; self.words];
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            let mut carry = 1;
            for (word, takes) in state.iter_mut().zip(self.row(c)) {
                let next = *word >> (WORD - 1);
                *word = ((*word << 1) | carry) & takes;
                carry = next;
            }
            let (at, bit) = self.last;
            if state.get(at).is_some_and(|word| word & bit != 0) {
                return Some(chars.as_str());
            }
        }
        None
    }
}

/// The bits of one row.
fn row(words: usize, set: impl Iterator<Item = bool>) -> Vec<u64> {
    let mut row = vec![0u64; words];
    for (place, _) in set.enumerate().filter(|(_, set)| *set) {
        if let Some(word) = row.get_mut(place / WORD) {
            *word |= 1 << (place % WORD);
        }
    }
    row
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn units(text: &str) -> Vec<Unit> {
        text.chars().map(|c| (c != '?').then_some(c)).collect()
    }

    /// Each place tried, one after the other.
    fn reference<'t>(part: &[Unit], text: &'t str) -> Option<&'t str> {
        let begins = (0..=text.len()).filter(|at| text.is_char_boundary(*at));
        for begin in begins {
            let mut chars = text[begin..].chars();
            if part.iter().all(|u| {
                let c = chars.next();
                c.is_some() && (u.is_none() || *u == c)
            }) {
                return Some(chars.as_str());
            }
        }
        None
    }

    proptest! {
        #[test]
        fn it_finds_what_trying_each_place_finds(
            part in "[ab?é]{0,6}", text in "[abé]{0,20}",
        ) {
            let part = units(&part);
            prop_assert_eq!(after_first_units(&part, &text), reference(&part, &text));
        }

        #[test]
        fn a_string_is_found_where_the_library_finds_it(
            part in "[abé]{0,12}", text in "[abé]{0,30}",
        ) {
            let at = text.find(&part).and_then(|at| text.get(at + part.len()..));
            prop_assert_eq!(after_first_str(&part, &text), at);
        }

        #[test]
        fn parts_longer_than_a_word_are_found_too(
            part in "a[ab?]{60,140}b", before in "[ab]{0,80}", after in "[ab]{0,80}",
        ) {
            let text = format!("{before}{}{after}", part.replace('?', "c"));
            let part = units(&part);
            prop_assert_eq!(after_first_units(&part, &text), reference(&part, &text));
            prop_assert!(after_first_units(&part, &text).is_some());
        }
    }
}
