//! Median and quartiles.

/// The median of some timings, and the range of their middle half.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub median: f64,
    /// A quarter of the values lies below it.
    pub q1: f64,
    /// A quarter of the values lies above it.
    pub q3: f64,
}

impl Spread {
    /// The spread of `values`; NaN if there are none.
    pub fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Self {
            median: quantile(&sorted, 0.5),
            q1: quantile(&sorted, 0.25),
            q3: quantile(&sorted, 0.75),
        }
    }
}

/// The value at `share` of the way through `sorted`, interpolated linearly, as NumPy's `quantile` does.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let place = share * last as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    sorted[below] + (place - place.floor()) * (sorted[above] - sorted[below])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_are_those_that_numpy_interpolates() {
        // np.quantile([7, 1, 3, 10], [0.25, 0.5, 0.75])
        let spread = Spread::of(&[7.0, 1.0, 3.0, 10.0]);
        assert_eq!((spread.q1, spread.median, spread.q3), (2.5, 5.0, 7.75));
    }

    #[test]
    fn one_value_is_its_own_spread_and_no_value_has_none() {
        let one = Spread::of(&[4.0]);
        assert_eq!((one.q1, one.median, one.q3), (4.0, 4.0, 4.0));
        assert!(Spread::of(&[]).median.is_nan());
    }
}
