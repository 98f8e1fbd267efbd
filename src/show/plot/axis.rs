//! The axes of a plot and their ticks.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

use super::chart::Curve;

/// The range of an axis and its ticks.
#[derive(Debug)]
pub struct Axis {
    range: Range<f64>,
    ticks: Vec<f64>,
    /// The digits after the point needed to distinguish the ticks.
    decimals: usize,
}

impl Axis {
    /// From the first epoch to the last with a small margin; ticks at whole epochs.
    pub fn of_epochs(curves: &[Curve]) -> Self {
        let (first, last) = extent(curves, |point| point.0).unwrap_or((1.0, 1.0));
        let room = (0.02 * (last - first)).max(0.1);
        let range = first - room..last + room;
        let step = nice_step((last - first) / 10.0).max(1.0);
        Self {
            ticks: multiples(step, &range),
            range,
            decimals: 0,
        }
    }

    /// A range that contains all values and begins and ends at a tick.
    pub fn of_values(curves: &[Curve]) -> Self {
        let (lowest, highest) = extent(curves, |point| point.1).unwrap_or((0.0, 1.0));
        // Values that are close together must not look far apart, and a single value needs a range too.
        let least_span = (0.1 * highest.abs()).max(1e-3);
        let step = nice_step((highest - lowest).max(least_span) / 8.0);
        let low = (lowest / step).floor();
        let high = (highest / step).ceil().max(low + 1.0);
        let range = low * step..high * step;
        Self {
            ticks: multiples(step, &range),
            range,
            decimals: (-step.log10().floor()).max(0.0) as usize,
        }
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (start, end): (i32, i32)) -> i32 {
        let fraction = (value - self.range.start) / (self.range.end - self.range.start);
        start + (fraction * f64::from(end - start)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        format!("{value:.*}", self.decimals)
    }
}

/// The smallest and the largest coordinate of all points, if there are any.
fn extent(curves: &[Curve], coordinate: impl Fn(&(f64, f64)) -> f64) -> Option<(f64, f64)> {
    curves
        .iter()
        .flat_map(|curve| &curve.points)
        .map(coordinate)
        .fold(None, |extent, value| {
            let (low, high) = extent.unwrap_or((value, value));
            Some((value.min(low), value.max(high)))
        })
}

/// The smallest number of the form 1, 2 or 5 times a power of ten that is at least `least`; 0 stays 0.
fn nice_step(least: f64) -> f64 {
    if least <= 0.0 {
        return 0.0;
    }
    let power = 10_f64.powf(least.log10().floor());
    let factor = [1.0, 2.0, 5.0]
        .into_iter()
        .find(|factor| factor * power >= least)
        .unwrap_or(10.0);
    factor * power
}

/// The multiples of `step` in `range`, both ends included.
fn multiples(step: f64, range: &Range<f64>) -> Vec<f64> {
    // A small tolerance keeps an end that is a multiple except for rounding.
    let first = (range.start / step - 1e-6).ceil() as i64;
    let last = (range.end / step + 1e-6).floor() as i64;
    (first..=last).map(|index| index as f64 * step).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::show::plot::chart::{THICK, TRAIN};

    fn points(values: &[(f64, f64)]) -> Vec<Curve> {
        vec![Curve {
            label: "train",
            colour: TRAIN,
            width: THICK,
            points: values.to_vec(),
        }]
    }

    #[test]
    fn ticks_are_round_numbers() {
        let steps = [
            (0.013, 0.02),
            (0.02, 0.02),
            (0.3, 0.5),
            (4.0, 5.0),
            (70.0, 100.0),
        ];
        for (least, step) in steps {
            assert!((nice_step(least) - step).abs() < 1e-12, "{least}");
        }
        let axis = Axis::of_epochs(&points(&[(1.0, 0.0), (100.0, 0.0)]));
        assert_eq!(
            axis.ticks,
            [
                0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 100.0
            ]
        );
        let axis = Axis::of_epochs(&points(&[(1.0, 0.0), (3.0, 0.0)]));
        assert_eq!(axis.ticks, [1.0, 2.0, 3.0]);
        let axis = Axis::of_values(&points(&[(1.0, 0.31), (3.0, 0.88)]));
        let labels: Vec<_> = axis
            .ticks
            .iter()
            .map(|tick| axis.format_ext(tick))
            .collect();
        assert_eq!(labels, ["0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9"]);
    }

    proptest! {
        #[test]
        fn every_axis_holds_all_values_and_labels_a_few_different_ticks(
            values in proptest::collection::vec(-1e9..1e9f64, 1..20),
            scale in -12i32..=0,
        ) {
            let values: Vec<_> = values
                .iter()
                .map(|value| (1.0, value * 10_f64.powi(scale)))
                .collect();
            let axis = Axis::of_values(&points(&values));
            for (_, value) in values {
                prop_assert!(axis.range.start <= value && value <= axis.range.end, "{axis:?}");
            }
            prop_assert!((2..=20).contains(&axis.ticks.len()), "{axis:?}");
            let mut labels: Vec<_> = axis.ticks.iter().map(|tick| axis.format_ext(tick)).collect();
            labels.dedup();
            prop_assert_eq!(labels.len(), axis.ticks.len());
        }
    }
}
