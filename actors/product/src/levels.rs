//! The numbers of one SKU and the law that they obey. Pure.

use serde::{Deserialize, Serialize};

/// The most units of one SKU on hand: more than any warehouse holds, and far from overflow.
pub const ON_HAND_MAX: i64 = 1_000_000_000;

/// How many units of one SKU are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Levels {
    /// Units that came in.
    pub received: i64,
    /// Corrections since, in sum.
    pub adjusted: i64,
    /// Held for orders that are not paid.
    pub reserved: i64,
    /// Sold.
    pub committed: i64,
}

impl Levels {
    /// Units in the house, sold ones included until they leave it.
    pub const fn on_hand(&self) -> i64 {
        self.received + self.adjusted
    }

    /// What can still be promised.
    pub const fn available(&self) -> i64 {
        self.on_hand() - self.reserved - self.committed
    }

    /// The law: nothing is negative, least of all what is available.
    pub const fn are_sound(&self) -> bool {
        self.reserved >= 0 && self.committed >= 0 && self.available() >= 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_sound_until_more_is_promised_than_is_there() {
        let levels = |reserved, committed| Levels { received: 7, adjusted: -2, reserved, committed };
        assert_eq!((levels(1, 2).on_hand(), levels(1, 2).available()), (5, 2));
        for (reserved, committed, is_sound) in
            [(0, 0, true), (5, 0, true), (2, 3, true), (3, 3, false), (-1, 0, false), (0, -1, false)]
        {
            assert_eq!(levels(reserved, committed).are_sound(), is_sound, "{reserved} reserved, {committed} committed");
        }
    }
}
