//! What one subscriber has seen of each publisher.

/// A publisher's numbers as they arrive: 0, 1, 2, ... where nothing is lost.
#[derive(Debug, Default, Clone)]
struct Seen {
    /// One bit a number.
    bits: Vec<u64>,
    distinct: u64,
    last: Option<u64>,
}

/// One subscriber's account.
#[derive(Debug, Clone)]
pub struct Account {
    publishers: Vec<Seen>,
    distinct: u64,
    /// Messages that came again.
    pub duplicates: u64,
    /// Messages that came for the first time after a later one of their publisher.
    pub disordered: u64,
    /// Messages with a publisher that is none of ours.
    pub strange: u64,
}

impl Account {
    /// For publishers 0 to `publishers - 1`.
    pub fn new(publishers: usize) -> Self {
        Self {
            publishers: vec![Seen::default(); publishers],
            distinct: 0,
            duplicates: 0,
            disordered: 0,
            strange: 0,
        }
    }

    /// Takes one message in.
    pub fn add(&mut self, publisher: u32, number: u64) {
        let Some(seen) = self.publishers.get_mut(publisher as usize) else {
            self.strange += 1;
            return;
        };
        let (word, bit) = ((number / 64) as usize, 1u64 << (number % 64));
        if word >= seen.bits.len() {
            // A number that no publisher reaches in a run would only take all memory.
            if word > 1 << 28 {
                self.strange += 1;
                return;
            }
            seen.bits.resize((word + 1).next_power_of_two(), 0);
        }
        if seen.bits[word] & bit != 0 {
            self.duplicates += 1;
            return;
        }
        seen.bits[word] |= bit;
        seen.distinct += 1;
        self.distinct += 1;
        if seen.last.is_some_and(|last| number < last) {
            self.disordered += 1;
        } else {
            seen.last = Some(number);
        }
    }

    /// How many different messages came.
    pub fn distinct(&self) -> u64 {
        self.distinct
    }

    /// How many are missing, where publisher `i` has sent the numbers below `sent[i]`. Numbers that
    /// were never sent count as strange.
    pub fn lost(&mut self, sent: &[u64]) -> u64 {
        let mut lost = 0;
        for (seen, &sent) in self.publishers.iter().zip(sent) {
            lost += sent.saturating_sub(seen.distinct);
            if seen.last.is_some_and(|last| last >= sent) {
                self.strange += 1;
            }
        }
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_duplicates_and_disorder_are_told_apart() {
        let mut account = Account::new(2);
        for number in [0, 1, 3, 2, 3, 5] {
            account.add(0, number);
        }
        account.add(1, 0);
        account.add(9, 0);
        assert_eq!(account.distinct(), 6);
        assert_eq!(account.duplicates, 1);
        assert_eq!(account.disordered, 1);
        assert_eq!(account.strange, 1);
        assert_eq!(account.lost(&[7, 1]), 2);
        assert_eq!(account.strange, 1);
        assert_eq!(account.lost(&[5, 1]), 0);
        assert_eq!(account.strange, 2, "number 5 was never sent");
    }
}
