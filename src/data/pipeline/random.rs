//! Random numbers that depend on their purpose, and not on earlier calls.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rand_distr::{Beta, Distribution};

/// Keeps the random numbers for different uses independent.
#[derive(Clone, Copy, Debug)]
pub(in crate::data) enum Purpose {
    Order = 1,
    Augment = 2,
    Flip = 3,
    Cutout = 4,
    Mix = 5,
    HoldOut = 6,
}

/// A stream of random numbers that depends only on its arguments and is the same on every machine.
///
/// ChaCha with 8 rounds; its key consists of the run's seed, the epoch and the purpose, its stream number is `index`.
pub(in crate::data) struct Random(ChaCha8Rng);

impl Random {
    pub(in crate::data) fn new(purpose: Purpose, seed: u64, epoch: u64, index: u64) -> Random {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&epoch.to_le_bytes());
        key[16] = purpose as u8;
        let mut generator = ChaCha8Rng::from_seed(key);
        generator.set_stream(index);
        Random(generator)
    }

    pub(in crate::data) fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform in [0, 1), a multiple of 2⁻²⁴.
    pub(super) fn unit(&mut self) -> f32 {
        (self.0.next_u32() >> 8) as f32 * 2f32.powi(-24)
    }

    /// Uniform in 0, 1, …, `n` - 1.
    pub(super) fn below(&mut self, n: u32) -> u32 {
        ((u64::from(self.0.next_u32()) * u64::from(n)) >> 32) as u32
    }

    /// From the beta distribution Beta(alpha, alpha), 0 to 1; 1 if `alpha` is not above 0. The last bit depends on the C
    /// library's logarithms.
    pub(super) fn beta(&mut self, alpha: f64) -> f64 {
        Beta::new(alpha, alpha).map_or(1.0, |beta| beta.sample(&mut self.0))
    }

    /// True with probability one half.
    pub(super) fn coin(&mut self) -> bool {
        self.0.next_u32() >> 31 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_zeros_gives_the_published_chacha8_key_stream() {
        // draft-strombergson-chacha-test-vectors, TC1 (all-zero key and IV), 8 rounds, 256-bit key: 3e 00 ef 2f 89 5f 40 d6 …
        let mut generator = ChaCha8Rng::from_seed([0; 32]);
        assert_eq!(generator.next_u64(), 0xd640_5f89_2fef_003e);
    }
}
