//! Choices that follow from a seed.
//!
//! SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): small, fast, and good enough to choose faults. Nothing here is secret.

use std::{ops::RangeInclusive, time::Duration};

/// A source of choices: the same seed gives the same choices.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The choices of `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The choices of `seed` for one purpose: other labels and numbers give others, whoever chooses first. That keeps a
    /// run the same where two purposes draw in an order that nobody fixes.
    #[must_use]
    pub fn labelled(seed: u64, label: &str, number: u64) -> Self {
        let mut random = Self(seed);
        for byte in label.bytes() {
            random.0 = random.next() ^ u64::from(byte);
        }
        random.0 = random.next() ^ number;
        Self(random.next())
    }

    /// 64 bits.
    #[expect(clippy::should_implement_trait, reason = "it never ends, so it is no iterator")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 where `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The bias of the remainder is below 2^-32 for the bounds of a test.
        self.next().checked_rem(bound).unwrap_or(0)
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        const PARTS: u64 = 1 << 32;
        (self.below(PARTS) as f64) < probability * PARTS as f64
    }

    /// A whole number of milliseconds within `range`.
    pub fn duration(&mut self, range: &RangeInclusive<Duration>) -> Duration {
        let (first, last) = (range.start().as_millis() as u64, range.end().as_millis() as u64);
        Duration::from_millis(first + self.below(last.saturating_sub(first) + 1))
    }

    /// One of these, or nothing where there are none.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len() as u64) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_follow_from_the_seed_and_the_purpose() {
        let draw = |mut random: Random| [random.next(), random.next(), random.next()];
        assert_eq!(draw(Random::new(7)), draw(Random::new(7)));
        assert_ne!(draw(Random::new(7)), draw(Random::new(8)));
        assert_ne!(draw(Random::labelled(7, "a", 0)), draw(Random::labelled(7, "b", 0)));
        assert_ne!(draw(Random::labelled(7, "a", 0)), draw(Random::labelled(7, "a", 1)));
    }

    #[test]
    fn a_probability_is_what_it_says() {
        let mut random = Random::new(1);
        let hits = (0..10_000).filter(|_| random.chance(0.3)).count();
        assert!((2_800..3_200).contains(&hits), "{hits}");
        assert!((0..1_000).all(|_| !random.chance(0.0) && random.chance(1.0)));
    }
}
