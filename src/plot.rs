//! Curves of accuracy and loss against epoch.

use std::{ops::Range, path::Path};

use plotters::{
    coord::{
        Shift,
        ranged1d::{KeyPointHint, NoDefaultFormatting, ValueFormatter},
    },
    element::DashedPathElement,
    prelude::*,
};

use crate::{
    files,
    history::EpochRecord,
    raster::{self, FONT, OVERSAMPLING, PictureError},
};

/// Width and height of a plot in pixels.
pub const SIZE: (u32, u32) = (960, 600);
/// Height above the plotting area, for title, legend and learning rates.
const HEADER: u32 = 68;
/// Height of a legend's line when there are several runs.
const LEGEND_LINE: u32 = 22;
/// Width left of the plotting area, for the labels of the y axis and the margin.
const LEFT: u32 = 80;
/// Width right of the plotting area.
const RIGHT: u32 = 28;
const MARGIN: u32 = 12;

// Blue and vermillion of the Okabe-Ito palette: told apart with every kind of colour blindness, and in grey.
const TRAIN: RGBColor = RGBColor(0, 114, 178);
const VALIDATION: RGBColor = RGBColor(213, 94, 0);
/// For several runs: Okabe and Ito's colours in an order that keeps neighbours far apart.
const RUN_COLOURS: [RGBColor; 7] = [
    TRAIN,
    VALIDATION,
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(0, 0, 0),
];
const TEXT: RGBColor = RGBColor(38, 38, 38);
const FAINT_TEXT: RGBColor = RGBColor(110, 110, 110);
const AXIS: RGBColor = RGBColor(150, 150, 150);
const GRID: RGBColor = RGBColor(230, 230, 230);

/// Width of a curve, and of the training curves where several runs share a plot.
const THICK: u32 = 2;
const THIN: u32 = 1;

/// Up to this many epochs every point gets a dot of its own.
const DOTS_UP_TO: usize = 40;
/// More learning rates than this are a continuous schedule, not drops to be marked.
const MOST_RATES: usize = 12;
/// A value this large is a run that blew up: leaving it out keeps the rest readable.
const LARGEST_VALUE: f64 = 1e9;

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
/// several runs over each other, each in its own colour, training thin and validation thick.
///
/// # Errors
///
/// A picture that cannot be drawn or written.
pub fn save(stem: &Path, quantity: Quantity, runs: &[Run]) -> Result<(), PictureError> {
    let chart = match runs {
        [run] => Chart::of_run(quantity, run.records),
        _ => Chart::of_runs(quantity, runs),
    };
    let png = raster::png(SIZE, |area| draw(area, OVERSAMPLING, &chart))?;
    files::write_bytes(&stem.with_extension("png"), &png)?;
    let svg = raster::svg(SIZE, |area| draw(area, 1, &chart))?;
    Ok(files::write_text(&stem.with_extension("svg"), &svg)?)
}

/// What is drawn; epochs are counted from 1 here, as on the terminal.
struct Chart {
    title: &'static str,
    curves: Vec<Curve>,
    legend: Legend,
    rates: Vec<Rate>,
}

enum Legend {
    /// Beside the title: each curve's name and last value.
    Inline,
    /// Under the title, a line for each run: colour, name and last values.
    Lines(Vec<(RGBColor, String)>),
}

struct Curve {
    label: &'static str,
    colour: RGBColor,
    width: u32,
    /// (epoch, value), finite and in order.
    points: Vec<(f64, f64)>,
}

impl Chart {
    fn of_run(quantity: Quantity, records: &[EpochRecord]) -> Self {
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

    fn of_runs(quantity: Quantity, runs: &[Run]) -> Self {
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
            rates: Vec::new(),
        }
    }

    /// Height above the plotting area: title, legend and learning rates.
    fn header(&self) -> u32 {
        match &self.legend {
            Legend::Inline => HEADER,
            Legend::Lines(lines) => HEADER - 12 + LEGEND_LINE * lines.len() as u32,
        }
    }
}

/// A learning rate and the epoch after which it came into force.
#[derive(Debug, PartialEq)]
struct Rate {
    after: f64,
    learning_rate: f64,
}

fn curve(
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

/// The learning rates in order; none when it is the same all along or changes all the time.
fn rates(records: &[EpochRecord]) -> Vec<Rate> {
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

type DrawResult<DB> = Result<(), DrawingAreaErrorKind<<DB as DrawingBackend>::ErrorType>>;
type Plot<'a, DB> = ChartContext<'a, DB, Cartesian2d<Axis, Axis>>;

/// Draws the chart on any backend, all lengths multiplied by `scale`.
fn draw<DB: DrawingBackend>(
    area: &DrawingArea<DB, Shift>,
    scale: u32,
    chart: &Chart,
) -> DrawResult<DB> {
    let px = |length: u32| length * scale;
    area.fill(&WHITE)?;
    let (header, body) = area.split_vertically(px(chart.header()));
    let title = text(22, scale, &TEXT);
    header.draw(&Text::new(
        chart.title,
        (px(LEFT) as i32, px(14) as i32),
        title,
    ))?;
    match &chart.legend {
        Legend::Inline => draw_inline_legend(&header, scale, &chart.curves)?,
        Legend::Lines(lines) => draw_legend_lines(&header, scale, lines)?,
    }

    let mut plot = ChartBuilder::on(&body)
        .margin_left(px(MARGIN))
        .margin_right(px(RIGHT))
        .margin_bottom(px(MARGIN))
        .x_label_area_size(px(48))
        .y_label_area_size(px(LEFT - MARGIN))
        .build_cartesian_2d(
            Axis::of_epochs(&chart.curves),
            Axis::of_values(&chart.curves),
        )?;
    plot.configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID.stroke_width(scale))
        .axis_style(AXIS.stroke_width(scale))
        .set_all_tick_mark_size(px(5))
        // plotters sets text a little high.
        .y_label_offset(px(2))
        .label_style(text(14, scale, &TEXT))
        .axis_desc_style(text(15, scale, &TEXT))
        .x_desc("epoch")
        .y_desc(chart.title.to_lowercase())
        .draw()?;
    draw_rates(area, &mut plot, scale, &chart.rates)?;
    for curve in &chart.curves {
        draw_curve(&mut plot, scale, curve)?;
    }
    Ok(())
}

/// On the right what each colour means and where its curve ends.
fn draw_inline_legend<DB: DrawingBackend>(
    header: &DrawingArea<DB, Shift>,
    scale: u32,
    curves: &[Curve],
) -> DrawResult<DB> {
    let px = |length: u32| (length * scale) as i32;
    let style = text(15, scale, &TEXT);
    let mut right = px(SIZE.0 - RIGHT);
    for curve in curves.iter().rev() {
        let Some((_, last)) = curve.points.last() else {
            continue;
        };
        let label = format!("{} {last:.4}", curve.label);
        let (width, _) = header.estimate_text_size(&label, &style)?;
        let left = right - width as i32;
        header.draw(&Text::new(label, (left, px(18)), style.clone()))?;
        let dash = vec![(left - px(34), px(24)), (left - px(8), px(24))];
        header.draw(&PathElement::new(
            dash,
            curve.colour.stroke_width(3 * scale),
        ))?;
        right = left - px(58);
    }
    Ok(())
}

/// A line for each run under the title.
fn draw_legend_lines<DB: DrawingBackend>(
    header: &DrawingArea<DB, Shift>,
    scale: u32,
    lines: &[(RGBColor, String)],
) -> DrawResult<DB> {
    let px = |length: u32| (length * scale) as i32;
    let faint = text(13, scale, &FAINT_TEXT);
    let hint = "thin: train, thick: validation";
    let (width, _) = header.estimate_text_size(hint, &faint)?;
    let right = (px(SIZE.0 - RIGHT) - width as i32, px(20));
    header.draw(&Text::new(hint, right, faint))?;
    let mut top = px(46);
    for (colour, label) in lines {
        let dash = vec![(px(LEFT), top + px(7)), (px(LEFT + 26), top + px(7))];
        header.draw(&PathElement::new(dash, colour.stroke_width(3 * scale)))?;
        let style = text(15, scale, &TEXT);
        header.draw(&Text::new(label.as_str(), (px(LEFT + 34), top), style))?;
        top += px(LEGEND_LINE);
    }
    Ok(())
}

/// A thin dashed line where the learning rate changes, with the new rate above it where there is room.
fn draw_rates<DB: DrawingBackend>(
    area: &DrawingArea<DB, Shift>,
    plot: &mut Plot<DB>,
    scale: u32,
    rates: &[Rate],
) -> DrawResult<DB> {
    let (left_end, bottom, top) = (
        plot.x_range().start,
        plot.y_range().start,
        plot.y_range().end,
    );
    let px = |length: u32| (length * scale) as i32;
    let style = text(13, scale, &FAINT_TEXT);
    let mut free_from = px(LEFT);
    for (index, rate) in rates.iter().enumerate() {
        let x = rate.after.max(left_end);
        if index > 0 {
            plot.draw_series([DashedPathElement::new(
                [(x, bottom), (x, top)],
                px(4),
                px(3),
                AXIS.stroke_width(scale),
            )])?;
        }
        let label = format!("lr {}", rate.learning_rate);
        let (width, _) = area.estimate_text_size(&label, &style)?;
        let (middle, _) = plot.backend_coord(&(x, top));
        let left = match index {
            0 => middle,
            _ => (middle - width as i32 / 2).min(px(SIZE.0) - width as i32),
        };
        if left >= free_from {
            area.draw(&Text::new(label, (left, px(HEADER - 17)), style.clone()))?;
            free_from = left + width as i32 + px(10);
        }
    }
    Ok(())
}

fn draw_curve<DB: DrawingBackend>(
    plot: &mut Plot<DB>,
    scale: u32,
    curve: &Curve,
) -> DrawResult<DB> {
    if curve.points.len() > 1 {
        let line = curve.colour.stroke_width(curve.width * scale);
        plot.draw_series([PathElement::new(curve.points.clone(), line)])?;
    }
    if curve.points.len() <= DOTS_UP_TO {
        let dot = |&point| Circle::new(point, 2 * curve.width * scale, curve.colour.filled());
        plot.draw_series(curve.points.iter().map(dot))?;
    }
    Ok(())
}

fn text(size: u32, scale: u32, colour: &RGBColor) -> TextStyle<'static> {
    (FONT, size * scale).into_font().color(colour)
}

/// The range of an axis and where its ticks stand.
#[derive(Debug)]
struct Axis {
    range: Range<f64>,
    ticks: Vec<f64>,
    /// Digits after the point that tell the ticks apart.
    decimals: usize,
}

impl Axis {
    /// From the first epoch to the last with a little room; ticks at whole epochs.
    fn of_epochs(curves: &[Curve]) -> Self {
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

    /// From tick to tick around all values.
    fn of_values(curves: &[Curve]) -> Self {
        let (lowest, highest) = extent(curves, |point| point.1).unwrap_or((0.0, 1.0));
        // Values close together are not drawn as if they were far apart, and a single one still gets a range.
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

/// The smallest of 1, 2, 5 times a power of ten that is at least `least`; 0 stays 0.
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
    // A hair of tolerance keeps an end that is a multiple but for rounding.
    let first = (range.start / step - 1e-6).ceil() as i64;
    let last = (range.end / step + 1e-6).floor() as i64;
    (first..=last).map(|index| index as f64 * step).collect()
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};
    use proptest::prelude::*;

    use super::*;

    fn record(epoch: usize, acc: f64, val_acc: Option<f64>, lr: f64) -> EpochRecord {
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

    fn points(values: &[(f64, f64)]) -> Vec<Curve> {
        vec![Curve {
            label: "train",
            colour: TRAIN,
            width: THICK,
            points: values.to_vec(),
        }]
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
        // A straight line over the area, 2 % of its width in from either side.
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
        assert_eq!(rates(&drops), expected);
        let steady: Vec<_> = (0..5).map(|epoch| record(epoch, 0.1, None, 0.1)).collect();
        let dashes = |records: &[EpochRecord]| {
            let picture = accuracy_plot(records);
            // Epoch 2 of 1..5 with 0.1 of room: 1.1 / 4.2 of the 852 pixels from 80 on.
            (302..=304)
                .map(|x| (70..538).filter(|&y| picture[(x, y)].0[0] < 200).count())
                .max()
        };
        assert!(dashes(&drops) > Some(200));
        assert!(dashes(&steady) < Some(20));
    }

    #[test]
    fn a_steady_or_an_ever_changing_rate_is_not_marked() {
        let with_rate = |lr: fn(usize) -> f64| -> Vec<EpochRecord> {
            (0..100)
                .map(|epoch| record(epoch, 0.1, None, lr(epoch)))
                .collect()
        };
        assert!(rates(&with_rate(|_| 0.1)).is_empty());
        assert!(rates(&with_rate(|epoch| 0.1 / (epoch + 1) as f64)).is_empty());
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
        // The second run goes on where the first has ended.
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
    fn an_empty_history_is_an_empty_plot() {
        let picture = accuracy_plot(&[]);
        assert_eq!(pixels_of(&picture, TRAIN), 0);
        assert_eq!(picture.dimensions(), (960, 600));
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
