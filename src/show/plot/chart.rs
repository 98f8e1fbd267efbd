//! The content of a plot: curves, legend and learning rates.

use plotters::style::RGBColor;

use super::{Quantity, Run};
use crate::run::history::EpochRecord;

// Blue and vermillion of the Okabe-Ito palette: distinguishable with every kind of colour blindness, and in grey.
pub const TRAIN: RGBColor = RGBColor(0, 114, 178);
pub const VALIDATION: RGBColor = RGBColor(213, 94, 0);
/// For several runs: Okabe and Ito's colours, ordered so that neighbours differ clearly.
pub const RUN_COLOURS: [RGBColor; 7] = [
    TRAIN,
    VALIDATION,
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(0, 0, 0),
];

/// Width of a curve, and of the training curves if several runs share a plot.
pub const THICK: u32 = 2;
const THIN: u32 = 1;

/// More drops of the learning rate than this are too many to be marked.
const MOST_RATES: usize = 12;
/// A value this large means that the run diverged; it is left out to keep the rest readable.
const LARGEST_VALUE: f64 = 1e9;

/// The content of a plot. Epochs are counted from 1 here, as on the terminal.
pub struct Chart {
    pub title: &'static str,
    pub curves: Vec<Curve>,
    pub legend: Legend,
    pub rates: Rates,
}

pub enum Legend {
    /// Beside the title: each curve's name and last value.
    Inline,
    /// Below the title, a line for each run: colour, name and last values.
    Lines(Vec<(RGBColor, String)>),
}

pub struct Curve {
    pub label: &'static str,
    pub colour: RGBColor,
    pub width: u32,
    /// (epoch, value), finite and in order.
    pub points: Vec<(f64, f64)>,
}

impl Chart {
    pub fn of_run(quantity: Quantity, records: &[EpochRecord]) -> Self {
        let training = |record: &EpochRecord| quantity.training(record);
        let validation = |record: &EpochRecord| quantity.validation(record);
        Self {
            title: quantity.title(),
            curves: vec![
                curve("train", TRAIN, THICK, records, training),
                curve("validation", VALIDATION, THICK, records, validation),
            ],
            legend: Legend::Inline,
            rates: rates(records),
        }
    }

    pub fn of_runs(quantity: Quantity, runs: &[Run]) -> Self {
        let (mut curves, mut lines) = (Vec::new(), Vec::new());
        for (run, colour) in runs.iter().zip(RUN_COLOURS.into_iter().cycle()) {
            let records = run.records;
            let training = curve("train", colour, THIN, records, |r| quantity.training(r));
            let validation = curve("validation", colour, THICK, records, |r| {
                quantity.validation(r)
            });
            let values: Vec<_> = [&training, &validation]
                .into_iter()
                .filter_map(|c| Some(format!("{} {:.4}", c.label, c.points.last()?.1)))
                .collect();
            lines.push((colour, format!("{}  {}", run.name, values.join("  "))));
            curves.extend([training, validation]);
        }
        Self {
            title: quantity.title(),
            curves,
            legend: Legend::Lines(lines),
            rates: Rates::Drops(Vec::new()),
        }
    }
}

/// How the learning rate of a run is shown.
#[derive(Debug, PartialEq)]
pub enum Rates {
    /// It holds for whole epochs: the rates in order; none when it is the same all along.
    Drops(Vec<Rate>),
    /// It moves with every step: the epochs, and the rate at the end of each.
    Curve(Vec<(f64, f64)>),
}

/// A learning rate and the epoch after which it took effect.
#[derive(Debug, PartialEq)]
pub struct Rate {
    pub after: f64,
    pub learning_rate: f64,
}

pub fn curve(
    label: &'static str,
    colour: RGBColor,
    width: u32,
    records: &[EpochRecord],
    value: impl Fn(&EpochRecord) -> Option<f64>,
) -> Curve {
    let points = records
        .iter()
        .filter_map(|record| Some(((record.epoch + 1) as f64, value(record)?)))
        .filter(|(_, value)| value.abs() < LARGEST_VALUE)
        .collect();
    Curve {
        label,
        colour,
        width,
        points,
    }
}

/// Whether the learning rate moves with every step, as far as the rows tell: it changed in most epochs.
pub fn has_moving_rate(records: &[EpochRecord]) -> bool {
    let pairs = records.windows(2);
    let changes = pairs.filter(|pair| pair[0].lr != pair[1].lr).count();
    // A single change may be a drop in a run of two epochs.
    changes > 1 && 2 * changes > records.len() - 1
}

/// The learning rates of a run, as a curve if they move with every step.
pub fn rates(records: &[EpochRecord]) -> Rates {
    match has_moving_rate(records) {
        true => Rates::Curve(
            records
                .iter()
                .map(|record| ((record.epoch + 1) as f64, record.lr))
                .collect(),
        ),
        false => Rates::Drops(drops(records)),
    }
}

/// The learning rates in order; none when it is the same all along or there are too many.
fn drops(records: &[EpochRecord]) -> Vec<Rate> {
    let mut rates: Vec<Rate> = Vec::new();
    for record in records {
        if rates
            .last()
            .is_none_or(|last| last.learning_rate != record.lr)
        {
            rates.push(Rate {
                after: record.epoch as f64,
                learning_rate: record.lr,
            });
        }
    }
    if rates.len() < 2 || rates.len() > MOST_RATES {
        rates.clear();
    }
    rates
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::plot::tests::record;

    #[test]
    fn a_steady_rate_is_not_shown_and_an_ever_changing_one_is_a_curve() {
        let with_rate = |lr: fn(usize) -> f64| -> Vec<EpochRecord> {
            (0..100)
                .map(|epoch| record(epoch, 0.1, None, lr(epoch)))
                .collect()
        };
        assert_eq!(rates(&with_rate(|_| 0.1)), Rates::Drops(Vec::new()));
        let Rates::Curve(points) = rates(&with_rate(|epoch| 0.1 / (epoch + 1) as f64)) else {
            panic!("no curve");
        };
        assert_eq!(points.len(), 100);
        assert_eq!(points[..2], [(1.0, 0.1), (2.0, 0.05)]);
    }

    #[test]
    fn drops_are_told_from_a_moving_rate_in_short_runs_too() {
        let moves = |rates: &[f64]| {
            let rows = rates.iter().enumerate();
            let rows: Vec<_> = rows
                .map(|(epoch, &lr)| record(epoch, 0.1, None, lr))
                .collect();
            has_moving_rate(&rows)
        };
        for drops in [
            &[][..],
            &[0.1],
            &[0.1, 0.01],
            &[0.1, 0.1, 0.01],
            &[0.1, 0.1, 0.01, 0.01, 0.001],
        ] {
            assert!(!moves(drops), "{drops:?}");
        }
        for moving in [&[0.1, 0.07, 0.02][..], &[0.05, 0.1, 0.1, 0.05, 0.01]] {
            assert!(moves(moving), "{moving:?}");
        }
    }

    #[test]
    fn values_that_are_not_numbers_or_ran_away_are_left_out() {
        let losses = [1.0, f64::NAN, f64::INFINITY, 1e30, 2.0];
        let records: Vec<_> = (0..5)
            .map(|epoch| EpochRecord {
                loss: losses[epoch],
                ..record(epoch, 0.1, None, 0.1)
            })
            .collect();
        let curve = curve("train", TRAIN, THICK, &records, |record| Some(record.loss));
        assert_eq!(curve.points, [(1.0, 1.0), (5.0, 2.0)]);
    }
}
