//! How far from f64 the result of a kernel may be on numbers that it rounds.

use super::Stored;

/// `values` with as many digits as the format holds.
pub fn exact_in<F: Stored>(values: &[f32]) -> Vec<f32> {
    let lanes = F::lanes(values);
    lanes.iter().flat_map(F::values).collect()
}

/// How far a result may be from f64.
#[derive(Clone, Copy)]
pub struct Bound {
    /// Of a term to f32.
    roundings: usize,
    /// Of a product's two factors, those that are rounded to the format.
    factors: i32,
    /// What that moves a value by at most, as a share of it.
    share: f64,
    is_stored: bool,
}

impl Bound {
    /// For a sum of terms that go through so many roundings, of products with so many rounded `factors`.
    pub fn new<F: Stored>(roundings: usize, factors: i32) -> Self {
        Self {
            roundings,
            factors,
            share: if F::VALUES > 1 { 2f64.powi(-8) } else { 0.0 },
            is_stored: false,
        }
    }

    /// The same for a sum that is stored as images are.
    pub fn stored(self) -> Self {
        Self {
            is_stored: true,
            ..self
        }
    }

    /// Around `exact`, whose terms without their signs have the sum `terms`.
    fn around(self, exact: f64, terms: f64) -> f64 {
        let unit = self.roundings as f64 * 2f64.powi(-24);
        let of_sum = ((1.0 + self.share).powi(self.factors) / (1.0 - unit) - 1.0) * terms;
        match self.is_stored {
            true => of_sum * (1.0 + self.share) + self.share * exact.abs(),
            false => of_sum,
        }
    }

    /// Whether all of `got` are within it, and how near to it the farthest is.
    pub fn check(self, name: &str, got: &[f64], exact: &[f64], terms: &[f64]) {
        assert_eq!(got.len(), exact.len(), "{name}");
        let mut most = 0f64;
        for ((got, exact), terms) in got.iter().zip(exact).zip(terms) {
            let (apart, bound) = ((got - exact).abs(), self.around(*exact, *terms));
            assert!(
                apart <= bound,
                "{name}: {got} for {exact} is off by {apart:e}, not {bound:e}"
            );
            most = most.max(apart / bound.max(f64::MIN_POSITIVE));
        }
        println!("{name}: at most {most:.3} of the bound");
    }
}
