//! Curves of accuracy and loss against epoch.

mod axis;
mod chart;
mod draw;

use std::path::Path;

use crate::run::history::EpochRecord;
use crate::show::raster::{self, OVERSAMPLING, PictureError};
use crate::system::files;
use chart::Chart;
pub use chart::has_moving_rate;
use draw::{draw, size};

/// Width of a plot in pixels, and its height for up to eight runs; each further one makes it higher by a line of the legend.
pub const SIZE: (u32, u32) = (960, 600);

/// What a plot shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    Accuracy,
    Loss,
}

impl Quantity {
    fn title(self) -> &'static str {
        match self {
            Self::Accuracy => "Accuracy",
            Self::Loss => "Loss",
        }
    }

    fn training(self, record: &EpochRecord) -> Option<f64> {
        Some(match self {
            Self::Accuracy => record.acc,
            Self::Loss => record.loss,
        })
    }

    fn validation(self, record: &EpochRecord) -> Option<f64> {
        match self {
            Self::Accuracy => record.val_acc,
            Self::Loss => record.val_loss,
        }
    }
}

/// The curves of one run.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    pub name: &'a str,
    pub records: &'a [EpochRecord],
}

/// Draws `quantity` against epoch as `stem`.png and `stem`.svg: training and validation of one run, or
/// several runs in the same axes, each in its own colour, training thin and validation thick.
///
/// # Errors
///
/// A picture that cannot be drawn or written.
pub fn save(stem: &Path, quantity: Quantity, runs: &[Run]) -> Result<(), PictureError> {
    let chart = chart(quantity, runs);
    let png = raster::png(size(&chart), |area| draw(area, OVERSAMPLING, &chart))?;
    files::write_bytes(&stem.with_extension("png"), &png)?;
    Ok(files::write_text(
        &stem.with_extension("svg"),
        &svg(quantity, runs)?,
    )?)
}

/// What [`save`] writes as SVG.
///
/// # Errors
///
/// A picture that cannot be drawn.
pub fn svg(quantity: Quantity, runs: &[Run]) -> Result<String, PictureError> {
    let chart = chart(quantity, runs);
    raster::svg(size(&chart), |area| draw(area, 1, &chart))
}

fn chart(quantity: Quantity, runs: &[Run]) -> Chart {
    match runs {
        [run] => Chart::of_run(quantity, run.records),
        _ => Chart::of_runs(quantity, runs),
    }
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};
    use plotters::style::RGBColor;

    use super::chart::{RUN_COLOURS, Rate, Rates, TRAIN, VALIDATION, rates};
    use super::*;

    pub fn record(epoch: usize, acc: f64, val_acc: Option<f64>, lr: f64) -> EpochRecord {
        EpochRecord {
            epoch,
            loss: 1.0,
            acc,
            val_loss: val_acc.map(|_| 1.5),
            val_acc,
            lr,
            seconds: 1.0,
            images_per_sec: 1.0,
            input_wait_frac: 0.0,
        }
    }

    fn accuracy_plot(records: &[EpochRecord]) -> RgbImage {
        let folder = tempfile::tempdir().unwrap();
        let stem = folder.path().join("accuracy");
        let name = "run";
        save(&stem, Quantity::Accuracy, &[Run { name, records }]).unwrap();
        image::open(stem.with_extension("png")).unwrap().to_rgb8()
    }

    fn pixels_of(picture: &RgbImage, colour: RGBColor) -> usize {
        let wanted = Rgb([colour.0, colour.1, colour.2]);
        picture.pixels().filter(|pixel| **pixel == wanted).count()
    }

    #[test]
    fn one_epoch_shows_as_two_dots_where_its_values_are() {
        let picture = accuracy_plot(&[record(0, 0.475, Some(0.425), 0.1)]);
        assert_eq!(picture.dimensions(), (960, 600));
        // The plotting area is 80..932 x 68..540, the y axis 0.42..0.48: the middle, and 55/60 and 5/60 of the height.
        assert_eq!(picture[(506, 107)], Rgb([0, 114, 178]));
        assert_eq!(picture[(506, 501)], Rgb([213, 94, 0]));
    }

    #[test]
    fn a_rising_accuracy_is_drawn_from_the_lower_left_to_the_upper_right() {
        let records: Vec<_> = (0..=50)
            .map(|epoch| record(epoch, 0.01 * epoch as f64, None, 0.1))
            .collect();
        let picture = accuracy_plot(&records);
        let blue: Vec<(u32, u32)> = picture
            .enumerate_pixels()
            .filter(|(_, y, pixel)| *y > 68 && **pixel == Rgb([0, 114, 178]))
            .map(|(x, y, _)| (x, y))
            .collect();
        assert!(!blue.is_empty());
        // A straight line across the area, inset by 2 % of its width on each side.
        for (x, y) in blue {
            let along = (f64::from(x) - 96.4) / 819.2;
            let expected = 540.0 - 472.0 * along;
            assert!((f64::from(y) - expected).abs() < 3.0, "({x}, {y})");
        }
    }

    #[test]
    fn a_run_without_evaluation_has_no_validation_colour_anywhere() {
        let with = accuracy_plot(&[record(0, 0.5, Some(0.4), 0.1)]);
        let without = accuracy_plot(&[record(0, 0.5, None, 0.1)]);
        assert!(pixels_of(&with, VALIDATION) > 50);
        assert_eq!(pixels_of(&without, VALIDATION), 0);
    }

    #[test]
    fn a_rate_drop_is_a_line_at_the_end_of_the_last_epoch_of_the_old_rate() {
        let drops: Vec<_> = (0..5)
            .map(|epoch| record(epoch, 0.1, None, if epoch < 2 { 0.1 } else { 0.01 }))
            .collect();
        let expected = [(0.0, 0.1), (2.0, 0.01)].map(|(after, learning_rate)| Rate {
            after,
            learning_rate,
        });
        assert_eq!(rates(&drops), Rates::Drops(expected.into()));
        let steady: Vec<_> = (0..5).map(|epoch| record(epoch, 0.1, None, 0.1)).collect();
        let dashes = |records: &[EpochRecord]| {
            let picture = accuracy_plot(records);
            // Epoch 2 of 1..5 with a margin of 0.1: 1.1 / 4.2 of the 852 pixels from 80 on.
            (302..=304)
                .map(|x| (70..538).filter(|&y| picture[(x, y)].0[0] < 200).count())
                .max()
        };
        assert!(dashes(&drops) > Some(200));
        assert!(dashes(&steady) < Some(20));
    }

    #[test]
    fn a_moving_rate_is_a_grey_curve_from_0_to_its_highest() {
        let folder = tempfile::tempdir().unwrap();
        let stem = folder.path().join("accuracy");
        let records: Vec<_> = (0..=50)
            .map(|epoch| record(epoch, 0.1, None, 0.002 * (50 - epoch) as f64))
            .collect();
        save(
            &stem,
            Quantity::Accuracy,
            &[Run {
                name: "run",
                records: &records,
            }],
        )
        .unwrap();
        let svg = std::fs::read_to_string(stem.with_extension("svg")).unwrap();
        assert!(
            svg.contains("grey: lr at the end of each epoch, 0 to 0.1"),
            "{svg}"
        );
        let picture = image::open(stem.with_extension("png")).unwrap().to_rgb8();
        // A straight line from the upper left to the lower right of the area, 2 % of its width in from either side.
        for (along, x) in [(0.25, 301), (0.5, 506), (0.75, 711)] {
            let expected = 68.0 + 472.0 * along;
            let grey = (70..538).filter(|&y| (picture[(x, y)].0[0]) < 200);
            let nearest = grey
                .map(|y| (f64::from(y) - expected).abs())
                .fold(f64::MAX, f64::min);
            assert!(nearest < 3.0, "{along}: {nearest}");
        }
    }

    #[test]
    fn several_runs_have_a_colour_and_a_line_of_the_legend_each() {
        let folder = tempfile::tempdir().unwrap();
        let stem = folder.path().join("accuracy");
        let first: Vec<_> = (0..3)
            .map(|epoch| record(epoch, 0.5, Some(0.4), 0.1))
            .collect();
        let second: Vec<_> = (0..5)
            .map(|epoch| record(epoch, 0.7, Some(0.6), 0.1))
            .collect();
        let runs =
            [("runs/a", &first), ("runs/b", &second)].map(|(name, records)| Run { name, records });
        save(&stem, Quantity::Accuracy, &runs).unwrap();
        let picture = image::open(stem.with_extension("png")).unwrap().to_rgb8();
        // The second run continues where the first one ended.
        let right_half = |colour: RGBColor| {
            let wanted = Rgb([colour.0, colour.1, colour.2]);
            picture
                .enumerate_pixels()
                .any(|(x, y, pixel)| x > 600 && y > 120 && *pixel == wanted)
        };
        assert!(!right_half(RUN_COLOURS[0]));
        assert!(right_half(RUN_COLOURS[1]));
        let svg = std::fs::read_to_string(stem.with_extension("svg")).unwrap();
        for text in [
            "runs/a  train 0.5000  validation 0.4000",
            "runs/b  train 0.7000  validation 0.6000",
            "#0072B2",
            "#D55E00",
        ] {
            assert!(svg.contains(text), "no {text} in {svg}");
        }
    }

    #[test]
    fn many_runs_have_a_higher_picture_and_the_same_room_for_curves() {
        let folder = tempfile::tempdir().unwrap();
        let stem = folder.path().join("accuracy");
        let records = [record(0, 0.475, Some(0.425), 0.1)];
        let run = Run {
            name: "run",
            records: &records,
        };
        for (runs, top) in [(8, 232), (30, 716)] {
            save(&stem, Quantity::Accuracy, &vec![run; runs]).unwrap();
            let picture = image::open(stem.with_extension("png")).unwrap().to_rgb8();
            assert_eq!(picture.dimensions(), (960, top + 368));
            // 308 rows for 0.42 to 0.48, in which the last run's colour is on top.
            let last = RUN_COLOURS[(runs - 1) % RUN_COLOURS.len()];
            for from_top in [5.0, 55.0] {
                let row = top + (308.0 * from_top / 60.0) as u32;
                assert_eq!(picture[(506, row)], Rgb([last.0, last.1, last.2]), "{row}");
            }
        }
    }

    #[test]
    fn an_empty_history_is_an_empty_plot() {
        let picture = accuracy_plot(&[]);
        assert_eq!(pixels_of(&picture, TRAIN), 0);
        assert_eq!(picture.dimensions(), (960, 600));
    }
}
