//! Checks whether a JPEG is complete.
//!
//! The decoder fills in what is missing, as browsers do; a network would take that for part of the picture.
//! There is no checksum, but the file has an end marker, and except in progressive files, each block of
//! pixels can be counted in order, so missing or damaged blocks are found too.
//!
//! | file | job |
//! | --- | --- |
//! | `huffman` | codes and bits |
//! | `scan` | counts the blocks of a scan |

mod huffman;
mod scan;

use huffman::Codes;
use scan::{Component, Scan};

const CUT_SHORT: &str = "the file is cut short";

// Markers: the byte after 0xff.
const SEQUENTIAL: [u8; 2] = [0xc0, 0xc1];
const HUFFMAN_CODES: u8 = 0xc4;
const RESTARTS: std::ops::RangeInclusive<u8> = 0xd0..=0xd7;
const START: u8 = 0xd8;
const END: u8 = 0xd9;
const SCAN: u8 = 0xda;
const RESTART_INTERVAL: u8 = 0xdd;
const TEMPORARY: u8 = 0x01;

/// Returns what is wrong with the JPEG `bytes`, if anything is found.
///
/// Ignores what follows the end of the picture: phones put videos and second pictures there. Errors in
/// parts that are not read here are left to the decoder.
pub fn check(bytes: &[u8]) -> Result<(), &'static str> {
    let mut tables = Tables::default();
    let mut rest = bytes;
    loop {
        let (marker, after) = next_marker(rest).ok_or(CUT_SHORT)?;
        if marker == END {
            return Ok(());
        }
        if marker == START || marker == TEMPORARY || RESTARTS.contains(&marker) {
            rest = after;
            continue;
        }
        let (segment, after) = split_segment(after).ok_or(CUT_SHORT)?;
        rest = after;
        if marker == SCAN {
            let length = length_of_scan(after).ok_or(CUT_SHORT)?;
            if let Some(scan) = tables.scan(segment) {
                scan.check(&after[..length])?;
            }
            rest = &after[length..];
        } else {
            tables.read(marker, segment);
        }
    }
}

/// The next marker and what follows it. Between segments, other bytes have no meaning.
fn next_marker(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let at = marker(bytes, |next| ![0x00, 0xff].contains(&next))?;
    Some((bytes[at + 1], &bytes[at + 2..]))
}

/// Splits off the content of a segment, which begins with its length.
fn split_segment(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, after) = bytes.split_first_chunk::<2>()?;
    let content = usize::from(u16::from_be_bytes(*length)).checked_sub(2)?;
    after.split_at_checked(content)
}

/// The length up to the marker that ends the scan; restart markers are part of it.
fn length_of_scan(bytes: &[u8]) -> Option<usize> {
    marker(bytes, |next| {
        let part_of_it = [0x00, 0xff].contains(&next) || RESTARTS.contains(&next);
        !part_of_it
    })
}

/// The place of the first 0xff before a byte that `is_wanted`.
fn marker(bytes: &[u8], is_wanted: impl Fn(u8) -> bool) -> Option<usize> {
    let fits = |at: &usize| bytes.get(at + 1).is_some_and(|next| is_wanted(*next));
    memchr::memchr_iter(0xff, bytes).find(fits)
}

/// Information about a scan from the segments before it.
#[derive(Default)]
struct Tables {
    /// By class (DC, AC) and number.
    codes: [[Option<Codes>; 4]; 2],
    restart_interval: usize,
    /// Only for a sequential picture.
    frame: Option<Frame>,
}

/// Size and components of a picture.
struct Frame {
    width: usize,
    height: usize,
    components: Vec<Component>,
}

impl Tables {
    fn read(&mut self, marker: u8, segment: &[u8]) {
        if SEQUENTIAL.contains(&marker) {
            self.frame = Frame::read(segment);
        } else if marker == HUFFMAN_CODES {
            self.read_codes(segment);
        } else if marker == RESTART_INTERVAL
            && let Some(interval) = segment.first_chunk::<2>()
        {
            self.restart_interval = u16::from_be_bytes(*interval).into();
        }
    }

    fn read_codes(&mut self, mut segment: &[u8]) {
        while let Some((kind, after)) = segment.split_first() {
            let Some((codes, after)) = Codes::read(after) else {
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

    /// The scan that `segment` begins; `None` if its blocks cannot be counted.
    fn scan(&self, segment: &[u8]) -> Option<Scan<'_>> {
        let frame = self.frame.as_ref()?;
        let (count, named) = segment.split_first()?;
        let mut components = Vec::new();
        for &[id, tables] in named.as_chunks::<2>().0.iter().take((*count).into()) {
            let component = frame.components.iter().find(|known| known.id == id)?;
            let dc = self.codes[0].get(usize::from(tables >> 4))?.as_ref()?;
            let ac = self.codes[1].get(usize::from(tables & 15))?.as_ref()?;
            components.push((component, dc, ac));
        }
        if components.is_empty() {
            return None;
        }
        let most = |of: fn(&Component) -> usize| frame.components.iter().map(of).max();
        Some(Scan {
            width: frame.width,
            height: frame.height,
            most_across: most(|component| component.across)?,
            most_down: most(|component| component.down)?,
            components,
            restart_interval: self.restart_interval,
        })
    }
}

impl Frame {
    fn read(segment: &[u8]) -> Option<Self> {
        let (&[_precision, h1, h0, w1, w0, count], components) = segment.split_first_chunk()?;
        let components = components.as_chunks::<3>().0.iter().take(count.into());
        let frame = Self {
            width: u16::from_be_bytes([w1, w0]).into(),
            height: u16::from_be_bytes([h1, h0]).into(),
            components: components
                .map(|&[id, sampling, _quantisation]| Component {
                    id,
                    across: usize::from(sampling >> 4).clamp(1, 4),
                    down: usize::from(sampling & 15).clamp(1, 4),
                })
                .collect(),
        };
        // A height of 0 means that the height follows later in the file.
        (frame.width > 0 && frame.height > 0).then_some(frame)
    }
}
