//! Histograms of tensors.

use super::messages::Histogram;

const BUCKETS: usize = 30;

/// A histogram of the finite `values` in buckets of equal width, as in TensorBoard's own writer.
pub fn histogram(values: &[f32]) -> Histogram {
    let finite = || {
        values
            .iter()
            .map(|v| f64::from(*v))
            .filter(|v| v.is_finite())
    };
    let min = finite().fold(f64::INFINITY, f64::min);
    let max = finite().fold(f64::NEG_INFINITY, f64::max);
    if min > max {
        return Histogram::default();
    }
    // Buckets need a width even if all values are equal.
    let width = match (max - min) / BUCKETS as f64 {
        0.0 => 1.0 / BUCKETS as f64,
        width => width,
    };
    let mut bucket = vec![0.0; BUCKETS];
    for value in finite() {
        // The largest value belongs in the last bucket.
        bucket[(((value - min) / width) as usize).min(BUCKETS - 1)] += 1.0;
    }
    Histogram {
        min,
        max,
        num: finite().count() as f64,
        sum: finite().sum(),
        sum_squares: finite().map(|v| v * v).sum(),
        bucket_limit: (1..=BUCKETS).map(|i| min + i as f64 * width).collect(),
        bucket,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_in_buckets_between_the_smallest_and_the_largest() {
        // 0, 1, ..., 30 and values that are not finite.
        let mut values: Vec<f32> = (0..=30).map(|i| i as f32).collect();
        values.extend([f32::NAN, f32::INFINITY]);
        let histogram = histogram(&values);
        assert_eq!(
            (histogram.min, histogram.max, histogram.num),
            (0.0, 30.0, 31.0)
        );
        // 30 * 31 / 2 and 30 * 31 * 61 / 6
        assert_eq!((histogram.sum, histogram.sum_squares), (465.0, 9455.0));
        assert_eq!(histogram.bucket_limit[29], 30.0);
        assert_eq!(histogram.bucket[..29], [1.0; 29]);
        assert_eq!(histogram.bucket[29], 2.0);
    }

    #[test]
    fn equal_values_and_no_values_have_a_histogram_too() {
        let equal = histogram(&[0.5; 7]);
        assert_eq!((equal.num, equal.bucket[0]), (7.0, 7.0));
        assert!(equal.bucket_limit[0] > 0.5);
        assert_eq!(histogram(&[]).num, 0.0);
    }
}
