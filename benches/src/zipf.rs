//! Zipf's law with exponent 1: the n-th most wanted of the keys is asked for in proportion to 1/n.

/// An endless row of key indexes, the same at every run.
pub struct Zipf {
    /// The sum of 1/n up to each key.
    sums: Vec<f64>,
    random: u64,
}

impl Zipf {
    /// Over `keys` keys, the first being the most wanted.
    #[must_use]
    pub fn new(keys: usize) -> Self {
        let mut sum = 0.0;
        let sums = (1..=keys)
            .map(|rank| {
                sum += 1.0 / rank as f64;
                sum
            })
            .collect();
        Self { sums, random: 0x9E37_79B9_7F4A_7C15 }
    }

    /// In 0..1 (xorshift64*, Vigna 2016).
    fn uniform(&mut self) -> f64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

impl Iterator for Zipf {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let wanted = self.uniform() * self.sums.last()?;
        Some(self.sums.partition_point(|sum| *sum <= wanted).min(self.sums.len() - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_key_is_asked_for_half_as_often_as_the_first() {
        let (mut first, mut second) = (0_u32, 0_u32);
        for key in Zipf::new(1_000).take(100_000) {
            first += u32::from(key == 0);
            second += u32::from(key == 1);
        }
        let ratio = f64::from(first) / f64::from(second);
        assert!((1.8..2.2).contains(&ratio), "{first} and {second}");
    }
}
