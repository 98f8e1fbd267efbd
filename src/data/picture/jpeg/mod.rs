//! Reads JPEGs in the resolution that the image needs, and checks whether they are complete.
//!
//! Decoders fill in what is missing, as browsers do; a network would take that for part of the picture.
//! There is no checksum, but the file has an end marker, and except in progressive files, each block of
//! pixels can be read in order, so missing or damaged blocks are found too. The same blocks become the image, if the
//! file is of the common kind: sequential, grey or luma with chroma. Others are left to the `image` crate.
//!
//! | file | job |
//! | --- | --- |
//! | `huffman` | codes and bits |
//! | `scan` | which blocks a scan has |
//! | `plane` | the pixels of a colour channel |
//! | `colours` | red, green and blue |
//! | `blocks` | reads the blocks of a scan into the channels |

mod blocks;
mod colours;
mod huffman;
mod plane;
mod scan;

use image::metadata::Orientation;
use image::{DynamicImage, RgbImage};

use super::{LARGEST_SIDE, MOST_BYTES};
use crate::data::dataset::CHANNELS;
use colours::Channels;
use huffman::Codes;
use scan::{BLOCK, Component, Part, Scan, Steps};

const CUT_SHORT: &str = "the file is cut short";

// Markers: the byte after 0xff.
const SEQUENTIAL: [u8; 2] = [0xc0, 0xc1];
const OTHER_FRAMES: [u8; 11] = [
    0xc2, 0xc3, 0xc5, 0xc6, 0xc7, 0xc9, 0xca, 0xcb, 0xcd, 0xce, 0xcf,
];
const HUFFMAN_CODES: u8 = 0xc4;
const RESTARTS: std::ops::RangeInclusive<u8> = 0xd0..=0xd7;
const START: u8 = 0xd8;
const END: u8 = 0xd9;
const SCAN: u8 = 0xda;
const STEPS: u8 = 0xdb;
const RESTART_INTERVAL: u8 = 0xdd;
const EXIF: u8 = 0xe1;
const ADOBE: u8 = 0xee;
const TEMPORARY: u8 = 0x01;

/// The middle of the JPEG `bytes` as `[side, side, 3]`, upright; `None` if the file is of a kind that is not read here.
///
/// Ignores what follows the end of the picture: phones put videos and second pictures there.
///
/// # Errors
/// What is wrong with the file, if anything is found. Errors in parts that are not read here are left to the decoder of
/// the other kinds.
pub fn read(bytes: &[u8], side: usize) -> Result<Option<Vec<u8>>, &'static str> {
    let mut tables = Tables::new();
    let (mut scans, mut channels) = (0, None);
    let mut rest = bytes;
    loop {
        let (marker, after) = next_marker(rest).ok_or(CUT_SHORT)?;
        if marker == END {
            // Several scans have a channel each.
            let channels = channels.filter(|_| scans == 1);
            return Ok(channels.map(|channels: Channels| {
                upright(channels.image(side), side, tables.orientation())
            }));
        }
        if marker == START || marker == TEMPORARY || RESTARTS.contains(&marker) {
            rest = after;
            continue;
        }
        let (segment, after) = split_segment(after).ok_or(CUT_SHORT)?;
        rest = after;
        if marker == SCAN {
            scans += 1;
            // What follows one that cannot be read is passed over, like all bytes between segments.
            if let Some(scan) = tables.scan(segment) {
                let is_read = tables.is_common(&scan);
                let channels_of = || Channels::of(&scan, side, tables.orientation());
                channels = is_read.then(channels_of).flatten();
                rest = blocks::read(&scan, after, &mut channels)?;
            }
        } else {
            tables.read(marker, segment);
        }
    }
}

/// The image `pixels` of `side` rows and columns, turned as `orientation` says.
fn upright(pixels: Vec<u8>, side: usize, orientation: Orientation) -> Vec<u8> {
    if orientation == Orientation::NoTransforms {
        return pixels;
    }
    let image = RgbImage::from_raw(side as u32, side as u32, pixels);
    // There are as many pixels as an image of this size has.
    let mut image = DynamicImage::ImageRgb8(image.expect("a square image"));
    image.apply_orientation(orientation);
    image.into_rgb8().into_raw()
}

/// The next marker and what follows it. Between segments, other bytes have no meaning.
fn next_marker(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let begins_one = |at: &usize| {
        let next = bytes.get(at + 1);
        next.is_some_and(|next| ![0x00, 0xff].contains(next))
    };
    let at = memchr::memchr_iter(0xff, bytes).find(begins_one)?;
    Some((bytes[at + 1], &bytes[at + 2..]))
}

/// Splits off the content of a segment, which begins with its length.
fn split_segment(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, after) = bytes.split_first_chunk::<2>()?;
    let content = usize::from(u16::from_be_bytes(*length)).checked_sub(2)?;
    after.split_at_checked(content)
}

/// Information about a scan from the segments before it.
struct Tables {
    /// By class (DC, AC) and number.
    codes: [[Option<Codes>; 4]; 2],
    /// By number; zeros where there are none.
    steps: [Steps; 4],
    restart_interval: usize,
    /// Only for a sequential picture.
    frame: Option<Frame>,
    /// Of the first EXIF data that have one.
    orientation: Option<Orientation>,
    /// How a file of Adobe's stores colours.
    transform: Option<u8>,
}

/// Size and components of a picture.
struct Frame {
    /// Bits of a pixel's channel.
    precision: u8,
    width: usize,
    height: usize,
    components: Vec<Component>,
}

impl Tables {
    fn new() -> Self {
        Self {
            codes: Default::default(),
            steps: [[0.0; BLOCK]; 4],
            restart_interval: 0,
            frame: None,
            orientation: None,
            transform: None,
        }
    }

    fn read(&mut self, marker: u8, segment: &[u8]) {
        if SEQUENTIAL.contains(&marker) {
            self.frame = Frame::read(segment);
        } else if marker == HUFFMAN_CODES {
            self.read_codes(segment);
        } else if OTHER_FRAMES.contains(&marker) {
            self.frame = None;
        } else if marker == STEPS {
            self.read_steps(segment);
        } else if marker == RESTART_INTERVAL
            && let Some(interval) = segment.first_chunk::<2>()
        {
            self.restart_interval = u16::from_be_bytes(*interval).into();
        } else if marker == EXIF
            && let Some(exif) = segment.strip_prefix(b"Exif\0\0")
        {
            let orientation = || Orientation::from_exif_chunk(exif);
            self.orientation = self.orientation.or_else(orientation);
        } else if marker == ADOBE
            && let Some(adobe) = segment.strip_prefix(b"Adobe")
        {
            // Behind a version and two numbers of flags, of two bytes each.
            self.transform = adobe.get(6).copied();
        }
    }

    fn orientation(&self) -> Orientation {
        self.orientation.unwrap_or(Orientation::NoTransforms)
    }

    fn read_codes(&mut self, mut segment: &[u8]) {
        while let Some((kind, after)) = segment.split_first() {
            let Some((codes, after)) = Codes::read(after) else {
                // The codes from before are not those of the next scan.
                self.codes = Default::default();
                return;
            };
            let (class, number) = (usize::from(kind >> 4), usize::from(kind & 15));
            let slot = self.codes.get_mut(class).and_then(|c| c.get_mut(number));
            if let Some(slot) = slot {
                *slot = Some(codes);
            }
            segment = after;
        }
    }

    fn read_steps(&mut self, mut segment: &[u8]) {
        while let Some((kind, after)) = segment.split_first() {
            let bytes = if kind >> 4 == 0 { 1 } else { 2 };
            let Some((values, after)) = after.split_at_checked(BLOCK * bytes) else {
                return;
            };
            if let Some(steps) = self.steps.get_mut(usize::from(kind & 15)) {
                for (step, value) in steps.iter_mut().zip(values.chunks_exact(bytes)) {
                    *step = value
                        .iter()
                        .fold(0.0, |high, low| 256.0 * high + f32::from(*low));
                }
            }
            segment = after;
        }
    }

    /// The scan that `segment` begins; `None` if its blocks cannot be counted.
    fn scan(&self, segment: &[u8]) -> Option<Scan<'_>> {
        let frame = self.frame.as_ref()?;
        let (count, named) = segment.split_first()?;
        let mut parts = Vec::new();
        for &[id, tables] in named.as_chunks::<2>().0.iter().take((*count).into()) {
            let component = frame.components.iter().find(|known| known.id == id)?;
            parts.push(Part {
                component,
                dc: self.codes[0].get(usize::from(tables >> 4))?.as_ref()?,
                ac: self.codes[1].get(usize::from(tables & 15))?.as_ref()?,
                steps: self.steps.get(usize::from(component.steps))?,
            });
        }
        if parts.is_empty() {
            return None;
        }
        let most = |of: fn(&Component) -> usize| frame.components.iter().map(of).max();
        Some(Scan {
            width: frame.width,
            height: frame.height,
            most_across: most(|component| component.across)?,
            most_down: most(|component| component.down)?,
            parts,
            restart_interval: self.restart_interval,
        })
    }

    /// Whether `scan` is a whole picture whose channels are grey or luma and chroma, of 8 bits, and no larger than pictures
    /// may be.
    fn is_common(&self, scan: &Scan) -> bool {
        let Some(frame) = &self.frame else {
            return false;
        };
        let (width, height) = (frame.width as u64, frame.height as u64);
        let has_all = scan.parts.len() == frame.components.len();
        let mut pairs = scan.parts.iter().zip(&frame.components);
        let in_order = pairs.all(|(part, component)| part.component.id == component.id);
        let is_luma_and_chroma = match self.transform {
            Some(transform) => transform == 1,
            None => !frame.components.iter().map(|known| &known.id).eq(b"RGB"),
        };
        frame.precision == 8
            && width.max(height) <= LARGEST_SIDE.into()
            && width * height * CHANNELS as u64 <= MOST_BYTES
            && has_all
            && in_order
            && (is_luma_and_chroma || frame.components.len() == 1)
            && scan.parts.iter().all(|part| part.steps[0] > 0.0)
    }
}

impl Frame {
    fn read(segment: &[u8]) -> Option<Self> {
        let (&[precision, h1, h0, w1, w0, count], components) = segment.split_first_chunk()?;
        let components = components.as_chunks::<3>().0.iter().take(count.into());
        let frame = Self {
            precision,
            width: u16::from_be_bytes([w1, w0]).into(),
            height: u16::from_be_bytes([h1, h0]).into(),
            components: components
                .map(|&[id, sampling, steps]| {
                    let (across, down) = (usize::from(sampling >> 4), usize::from(sampling & 15));
                    let are_allowed = (1..=4).contains(&across) && (1..=4).contains(&down);
                    are_allowed.then_some(Component {
                        id,
                        across,
                        down,
                        steps,
                    })
                })
                .collect::<Option<_>>()?,
        };
        // A height of 0 means that the height follows later in the file.
        (frame.width > 0 && frame.height > 0).then_some(frame)
    }
}
