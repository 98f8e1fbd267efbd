//! Grids of small images, enlarged and with captions: the first training images, the ten predictions.

use std::path::Path;

use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};
use plotters::{coord::Shift, element::BitMapElement, prelude::*};

use crate::data::{DatasetSpec, Split};
use crate::score::ranking::{Prediction, Ranking};
use crate::show::raster::{self, FONT, OVERSAMPLING, PictureError};
use crate::system::files;

/// Rows and columns of the picture for one image: each pixel of a smaller image becomes a square, a larger image is
/// made smaller.
const CELL: u32 = 160;
const MARGIN: u32 = 16;
/// Space between an image and the first line of its caption.
const CAPTION_GAP: u32 = 7;
const LINE_HEIGHT: u32 = 19;
const FONT_SIZE: u32 = 15;

/// One image of a grid.
#[derive(Debug, Clone)]
pub struct Tile<'a> {
    /// `side` x `side` x 3 bytes: rows from the top, pixels from the left, red, green, blue.
    pub image: &'a [u8],
    pub side: usize,
    /// Lines under the image; a line wider than the image is shortened.
    pub caption: Vec<Caption>,
}

/// A line of text under an image.
#[derive(Debug, Clone)]
pub struct Caption {
    pub text: String,
    pub tone: Tone,
}

/// What a caption's colour means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Neutral,
    /// Green: a correct prediction.
    Correct,
    /// Red: a wrong prediction.
    Wrong,
}

impl Tone {
    // Dark enough to read on white; green and red can be distinguished with every kind of colour blindness.
    fn colour(self) -> RGBColor {
        match self {
            Tone::Neutral => RGBColor(38, 38, 38),
            Tone::Correct => RGBColor(0, 128, 92),
            Tone::Wrong => RGBColor(200, 60, 0),
        }
    }
}

/// Columns of a picture of predictions.
pub const PREDICTION_COLUMNS: usize = 5;

/// Tiles of the first images of `split` with their predictions: green if right, red if wrong.
pub fn prediction_tiles<'a>(
    split: &'a Split,
    spec: &DatasetSpec,
    predictions: &[Ranking],
) -> Vec<Tile<'a>> {
    let tiles = split.pixels().zip(&split.labels).zip(predictions);
    tiles
        .map(|((image, label), ranking)| Tile {
            image,
            side: spec.side,
            caption: prediction_captions(spec, ranking[0], Some(usize::from(*label))),
        })
        .collect()
}

/// The caption of an image with its prediction, and with the true class if known.
pub fn prediction_captions(
    spec: &DatasetSpec,
    prediction: Prediction,
    truth: Option<usize>,
) -> Vec<Caption> {
    let names = &spec.class_names;
    let percent = 100.0 * prediction.probability;
    let tone = match truth {
        None => Tone::Neutral,
        Some(truth) if truth == prediction.class => Tone::Correct,
        Some(_) => Tone::Wrong,
    };
    let mut lines = vec![Caption {
        text: format!("{} {percent:.0} %", names[prediction.class]),
        tone,
    }];
    lines.extend(truth.map(|truth| Caption {
        text: format!("true: {}", names[truth]),
        tone: Tone::Neutral,
    }));
    lines
}

/// A picture in memory.
#[derive(Debug, Clone)]
pub struct Png {
    /// Width and height in pixels.
    pub size: (u32, u32),
    pub bytes: Vec<u8>,
}

/// One image at its original size, `side` x `side` x 3 bytes.
pub fn image_png(image: &[u8], side: usize) -> Result<Vec<u8>, PictureError> {
    let tile = Tile {
        image,
        side,
        caption: Vec::new(),
    };
    raster::encode_png(&rgb(0, &tile)?)
}

/// Writes [`grid`] to a file.
pub fn save_grid(path: &Path, tiles: &[Tile], columns: usize) -> Result<(), PictureError> {
    Ok(files::write_bytes(path, &grid(tiles, columns)?.bytes)?)
}

/// Draws the tiles in rows of `columns`, in reading order.
pub fn grid(tiles: &[Tile], columns: usize) -> Result<Png, PictureError> {
    let grid = Grid::around(tiles, columns);
    let has_text = tiles.iter().any(|tile| !tile.caption.is_empty());
    let bytes = match has_text {
        true => with_captions(&grid, tiles)?,
        false => without_captions(&grid, tiles)?,
    };
    Ok(Png {
        size: grid.size(),
        bytes,
    })
}

/// The picture, drawn larger and averaged down: text needs that.
fn with_captions(grid: &Grid, tiles: &[Tile]) -> Result<Vec<u8>, PictureError> {
    let images = enlarged_all(tiles, OVERSAMPLING)?;
    raster::png(grid.size(), |area| {
        area.fill(&WHITE)?;
        for (index, (tile, image)) in tiles.iter().zip(images).enumerate() {
            let (left, top) = grid.corner(index);
            let corner = ((left * OVERSAMPLING) as i32, (top * OVERSAMPLING) as i32);
            draw_tile(area, corner, grid.cell, tile, image)?;
        }
        Ok::<_, DrawingAreaErrorKind<_>>(())
    })
}

/// The picture at its own size, in a small part of the time.
fn without_captions(grid: &Grid, tiles: &[Tile]) -> Result<Vec<u8>, PictureError> {
    let (width, height) = grid.size();
    let mut picture = RgbImage::from_pixel(width, height, Rgb([255; 3]));
    for (index, image) in enlarged_all(tiles, 1)?.iter().enumerate() {
        let (left, top) = grid.corner(index);
        imageops::replace(&mut picture, image, left.into(), top.into());
    }
    raster::encode_png(&picture)
}

/// The image of each tile at its size in a picture that is drawn larger by the factor `scale`.
fn enlarged_all(tiles: &[Tile], scale: u32) -> Result<Vec<RgbImage>, PictureError> {
    let tiles = tiles.iter().enumerate();
    tiles
        .map(|(index, tile)| enlarged(index, tile, scale))
        .collect()
}

/// The layout of the tiles; lengths in pixels.
struct Grid {
    columns: u32,
    rows: u32,
    /// Side of the largest enlarged image.
    cell: u32,
    /// Height of the captions under a row.
    captions: u32,
}

impl Grid {
    fn around(tiles: &[Tile], columns: usize) -> Self {
        let columns = columns.clamp(1, tiles.len().max(1));
        let side = tiles.iter().map(|tile| tile.side).max().unwrap_or(0);
        let lines = tiles.iter().map(|tile| tile.caption.len()).max();
        Self {
            columns: columns as u32,
            rows: tiles.len().div_ceil(columns) as u32,
            cell: shown_side(side),
            captions: CAPTION_GAP + lines.unwrap_or(0) as u32 * LINE_HEIGHT,
        }
    }

    fn size(&self) -> (u32, u32) {
        (
            MARGIN + self.columns * (self.cell + MARGIN),
            MARGIN + self.rows * (self.cell + self.captions + MARGIN),
        )
    }

    /// The upper left corner of a tile.
    fn corner(&self, index: usize) -> (u32, u32) {
        let (row, column) = (index as u32 / self.columns, index as u32 % self.columns);
        (
            MARGIN + column * (self.cell + MARGIN),
            MARGIN + row * (self.cell + self.captions + MARGIN),
        )
    }
}

/// The tile's image; each pixel becomes a square.
fn enlarged(index: usize, tile: &Tile, scale: u32) -> Result<RgbImage, PictureError> {
    let image = rgb(index, tile)?;
    let large = shown_side(tile.side) * scale;
    let side = tile.side as u32;
    if !(1..=CELL).contains(&side) {
        return Ok(imageops::resize(&image, large, large, FilterType::Triangle));
    }
    let times = large / side;
    Ok(RgbImage::from_fn(large, large, |x, y| {
        *image.get_pixel(x / times, y / times)
    }))
}

/// Rows and columns in the picture of an image of `side` rows and columns.
fn shown_side(side: usize) -> u32 {
    match side as u32 {
        side if (1..=CELL).contains(&side) => side * (CELL / side),
        _ => CELL,
    }
}

/// The tile's image; `index` is its place in the grid.
fn rgb(index: usize, tile: &Tile) -> Result<RgbImage, PictureError> {
    let side = tile.side as u32;
    RgbImage::from_raw(side, side, tile.image.to_vec())
        .filter(|_| tile.image.len() == tile.side * tile.side * 3)
        .ok_or(PictureError::TileSize {
            index,
            side: tile.side,
            expected: tile.side * tile.side * 3,
            got: tile.image.len(),
        })
}

fn draw_tile<DB: DrawingBackend>(
    area: &DrawingArea<DB, Shift>,
    (left, top): (i32, i32),
    cell: u32,
    tile: &Tile,
    image: RgbImage,
) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>> {
    let size = image.dimensions();
    if let Some(picture) = BitMapElement::with_owned_buffer((left, top), size, image.into_raw()) {
        area.draw(&picture)?;
    }
    let mut y = top + ((cell + CAPTION_GAP) * OVERSAMPLING) as i32;
    for caption in &tile.caption {
        let style = (FONT, FONT_SIZE * OVERSAMPLING)
            .into_font()
            .color(&caption.tone.colour());
        let text = cut_to_width(area, &caption.text, &style, cell * OVERSAMPLING)?;
        area.draw(&Text::new(text, (left, y), style))?;
        y += (LINE_HEIGHT * OVERSAMPLING) as i32;
    }
    Ok(())
}

/// `text`, shortened with an ellipsis if it does not fit in `width`.
fn cut_to_width<DB: DrawingBackend>(
    area: &DrawingArea<DB, Shift>,
    text: &str,
    style: &TextStyle,
    width: u32,
) -> Result<String, DrawingAreaErrorKind<DB::ErrorType>> {
    let mut shown = text.to_owned();
    let mut kept = text.to_owned();
    while !kept.is_empty() && area.estimate_text_size(&shown, style)?.0 > width {
        kept.pop();
        shown = format!("{}…", kept.trim_end());
    }
    Ok(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(tiles: &[Tile], columns: usize) -> RgbImage {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("grid.png");
        save_grid(&path, tiles, columns).unwrap();
        image::open(path).unwrap().to_rgb8()
    }

    fn caption(text: &str, tone: Tone) -> Vec<Caption> {
        vec![Caption {
            text: text.to_owned(),
            tone,
        }]
    }

    /// The numbers of pixels that are clearly more green than red, and clearly more red than green.
    fn green_and_red(picture: &RgbImage) -> (usize, usize) {
        let count = |more: usize, less: usize| {
            picture
                .pixels()
                .filter(|pixel| i32::from(pixel[more]) - i32::from(pixel[less]) > 60)
                .count()
        };
        (count(1, 0), count(0, 1))
    }

    #[test]
    fn ten_tiles_fill_two_rows_of_five() {
        let image = [0; 32 * 32 * 3];
        let tile = Tile {
            image: &image,
            side: 32,
            caption: caption("cat", Tone::Neutral),
        };
        let picture = drawn(&vec![tile; 10], 5);
        // 5 images of 160 and 6 margins of 16; 2 rows of 160 + 7 + 19 and 3 margins.
        assert_eq!(picture.dimensions(), (896, 420));
    }

    #[test]
    fn images_of_any_size_get_about_the_same_room() {
        for (side, shown) in [
            (4, 160),
            (20, 160),
            (33, 132),
            (160, 160),
            (224, 160),
            (512, 160),
        ] {
            let image = vec![90; side * side * 3];
            let tile = Tile {
                image: &image,
                side,
                caption: Vec::new(),
            };
            let picture = drawn(&[tile], 1);
            assert_eq!(picture.dimensions(), (shown + 32, shown + 39), "{side}");
            assert_eq!(picture[(16 + shown / 2, 16 + shown / 2)], Rgb([90; 3]));
            assert_eq!(picture[(16 + shown, 16)], Rgb([255; 3]));
        }
    }

    #[test]
    fn every_pixel_becomes_a_square_of_exactly_its_colour() {
        let image: Vec<u8> = (0..32 * 32 * 3).map(|i| (i * 7 % 256) as u8).collect();
        // With text, pictures are drawn in another way.
        for caption in [Vec::new(), caption("cat", Tone::Neutral)] {
            let tile = Tile {
                image: &image,
                side: 32,
                caption,
            };
            let picture = drawn(&[tile.clone(), tile], 2);
            for row in 0..32 {
                for column in 0..32 {
                    let at = (row * 32 + column) * 3;
                    let expected = Rgb([image[at], image[at + 1], image[at + 2]]);
                    let (x, y) = (column as u32 * 5, row as u32 * 5);
                    for (dx, dy) in [(0, 0), (4, 0), (0, 4), (4, 4)] {
                        assert_eq!(picture[(16 + x + dx, 16 + y + dy)], expected);
                        assert_eq!(picture[(192 + x + dx, 16 + y + dy)], expected);
                    }
                }
            }
            for outside in [(15, 16), (16, 15), (176, 16), (16, 176)] {
                assert_eq!(picture[outside], Rgb([255, 255, 255]));
            }
        }
    }

    #[test]
    fn a_correct_caption_is_green_and_a_wrong_one_red() {
        let image = [128; 32 * 32 * 3];
        let with_tone = |tone| {
            green_and_red(&drawn(
                &[Tile {
                    image: &image,
                    side: 32,
                    caption: caption("pred: cat 93 %", tone),
                }],
                1,
            ))
        };
        let (green, red) = with_tone(Tone::Correct);
        assert!(green > 100 && red == 0, "{green} {red}");
        let (green, red) = with_tone(Tone::Wrong);
        assert!(red > 100 && green == 0, "{green} {red}");
        assert_eq!(with_tone(Tone::Neutral), (0, 0));
    }

    #[test]
    fn a_caption_wider_than_its_image_is_cut() {
        let image = [255; 32 * 32 * 3];
        let picture = drawn(
            &[Tile {
                image: &image,
                side: 32,
                caption: caption(&"photo ".repeat(40), Tone::Neutral),
            }],
            1,
        );
        let dark_right_of = |edge: u32| {
            picture
                .enumerate_pixels()
                .any(|(x, _, pixel)| x >= edge && pixel[0] < 128)
        };
        assert!(dark_right_of(150));
        assert!(!dark_right_of(176));
    }

    #[test]
    fn an_image_of_the_wrong_size_is_refused_with_its_place_and_sizes() {
        for wrong in [0, 3071, 3073] {
            let (good, bad) = (vec![0; 3072], vec![0; wrong]);
            let tiles = [&good, &bad].map(|image| Tile {
                image,
                side: 32,
                caption: Vec::new(),
            });
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("grid.png");
            let message = save_grid(&path, &tiles, 5).unwrap_err().to_string();
            assert_eq!(
                message,
                format!("picture 1 of the grid: expected 3072 bytes (32 x 32 x 3), got {wrong}")
            );
            assert!(!path.exists());
        }
    }
}
