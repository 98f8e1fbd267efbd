//! Draws a chart as PNG or SVG.

use plotters::{coord::Shift, element::DashedPathElement, prelude::*};

use super::SIZE;
use super::axis::Axis;
use super::chart::{Chart, Curve, Legend, Rate, Rates};
use crate::run::schedule::in_short;
use crate::show::raster::FONT;

/// Height above the plotting area, for title, legend and learning rates.
const HEADER: u32 = 68;
/// Height of a line of the legend for several runs.
const LEGEND_LINE: u32 = 22;
/// Width to the left of the plotting area, for the margin and the labels of the y axis.
const LEFT: u32 = 80;
/// Width to the right of the plotting area.
const RIGHT: u32 = 28;
const MARGIN: u32 = 12;
/// As high as the header may be, with eight runs, in a plot of the usual height.
const USUAL_HEADER: u32 = HEADER - 12 + 8 * LEGEND_LINE;

const TEXT: RGBColor = RGBColor(38, 38, 38);
const FAINT_TEXT: RGBColor = RGBColor(110, 110, 110);
const AXIS: RGBColor = RGBColor(150, 150, 150);
const GRID: RGBColor = RGBColor(230, 230, 230);

/// Up to this many epochs, each point is marked with a dot.
const DOTS_UP_TO: usize = 40;

type DrawResult<DB> = Result<(), DrawingAreaErrorKind<<DB as DrawingBackend>::ErrorType>>;
type Plot<'a, DB> = ChartContext<'a, DB, Cartesian2d<Axis, Axis>>;

/// Width and height of the chart in pixels.
pub fn size(chart: &Chart) -> (u32, u32) {
    let (width, height) = SIZE;
    let more = header_height(&chart.legend).saturating_sub(USUAL_HEADER);
    (width, height + more)
}

/// Draws the chart on any backend, all lengths multiplied by `scale`.
pub fn draw<DB: DrawingBackend>(
    area: &DrawingArea<DB, Shift>,
    scale: u32,
    chart: &Chart,
) -> DrawResult<DB> {
    let px = |length: u32| length * scale;
    area.fill(&WHITE)?;
    let (header, body) = area.split_vertically(px(header_height(&chart.legend)));
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
        // plotters places text slightly too high.
        .y_label_offset(px(2))
        .label_style(text(14, scale, &TEXT))
        .axis_desc_style(text(15, scale, &TEXT))
        .x_desc("epoch")
        .y_desc(chart.title.to_lowercase())
        .draw()?;
    match &chart.rates {
        Rates::Drops(drops) => draw_drops(area, &mut plot, scale, drops)?,
        Rates::Curve(points) => draw_rate_curve(area, &mut plot, scale, points)?,
    }
    for curve in &chart.curves {
        draw_curve(&mut plot, scale, curve)?;
    }
    Ok(())
}

fn header_height(legend: &Legend) -> u32 {
    match legend {
        Legend::Inline => HEADER,
        Legend::Lines(lines) => HEADER - 12 + LEGEND_LINE * lines.len() as u32,
    }
}

/// On the right, the name and last value of each curve in its colour.
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

/// A line for each run below the title.
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

/// A thin dashed line where the learning rate changes, with the new rate above it if there is space.
fn draw_drops<DB: DrawingBackend>(
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
        let label = format!("lr {}", in_short(rate.learning_rate));
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

/// A thin grey curve behind the others, from 0 at the bottom to the highest rate at the top.
fn draw_rate_curve<DB: DrawingBackend>(
    area: &DrawingArea<DB, Shift>,
    plot: &mut Plot<DB>,
    scale: u32,
    points: &[(f64, f64)],
) -> DrawResult<DB> {
    let px = |length: u32| (length * scale) as i32;
    let (bottom, top) = (plot.y_range().start, plot.y_range().end);
    let highest = points
        .iter()
        .fold(0.0, |highest: f64, point| highest.max(point.1));
    let scaled = |&(epoch, rate): &(f64, f64)| (epoch, bottom + rate / highest * (top - bottom));
    let points: Vec<_> = points.iter().map(scaled).collect();
    plot.draw_series([PathElement::new(points, AXIS.stroke_width(scale))])?;
    let label = format!(
        "grey: lr at the end of each epoch, 0 to {}",
        in_short(highest)
    );
    let style = text(13, scale, &FAINT_TEXT);
    area.draw(&Text::new(label, (px(LEFT), px(HEADER - 17)), style))
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
