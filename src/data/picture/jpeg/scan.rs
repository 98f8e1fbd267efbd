//! The blocks of a sequential scan.

use super::huffman::{BEHIND, Bits, Codes, plain};
use super::{CUT_SHORT, RESTARTS, marker};

const DAMAGED: &str = "the file is damaged: its pixels cannot be decoded";

/// Rows and columns of a block, and of its coefficients.
pub const SIDE: usize = 8;
/// Coefficients of a block.
pub const BLOCK: usize = SIDE * SIDE;

/// Where each coefficient of a file belongs: 8 times the frequency across, plus that down.
#[rustfmt::skip]
const PLACES: [u8; BLOCK] = [
     0,  8,  1,  2,  9, 16, 24, 17,
    10,  3,  4, 11, 18, 25, 32, 40,
    33, 26, 19, 12,  5,  6, 13, 20,
    27, 34, 41, 48, 56, 49, 42, 35,
    28, 21, 14,  7, 15, 22, 29, 36,
    43, 50, 57, 58, 51, 44, 37, 30,
    23, 31, 38, 45, 52, 59, 60, 53,
    46, 39, 47, 54, 61, 62, 55, 63,
];

/// What each coefficient of a file is a multiple of, in the order of the file.
pub type Steps = [f32; BLOCK];

/// A colour channel of the picture, with its resolution relative to the others.
#[derive(Clone)]
pub struct Component {
    pub id: u8,
    pub across: usize,
    pub down: usize,
    /// The number of its [`Steps`].
    pub steps: u8,
}

/// A scan: which blocks come in which order.
pub struct Scan<'a> {
    pub width: usize,
    pub height: usize,
    /// The maximum over all components of the picture.
    pub most_across: usize,
    pub most_down: usize,
    pub parts: Vec<Part<'a>>,
    /// Units between restarts; 0 if there are no restarts.
    pub restart_interval: usize,
}

/// A component in a scan, with the codes of its first (DC) and its other (AC) coefficients.
pub struct Part<'a> {
    pub component: &'a Component,
    pub dc: &'a Codes,
    pub ac: &'a Codes,
    pub steps: &'a Steps,
}

/// A block of one component.
pub struct Block {
    /// At 8 times the frequency across, plus that down.
    pub coefficients: [f32; BLOCK],
    /// The highest frequency across whose coefficient is not 0.
    pub highest_across: usize,
    /// Likewise down.
    pub highest_down: usize,
}

impl Block {
    const EMPTY: Self = Self {
        coefficients: [0.0; BLOCK],
        highest_across: 0,
        highest_down: 0,
    };

    /// Becomes [`Self::EMPTY`].
    fn clear(&mut self) {
        let columns = self.coefficients.as_chunks_mut::<SIDE>().0;
        for column in columns.iter_mut().take(self.highest_across + 1) {
            *column = [0.0; SIDE];
        }
        (self.highest_across, self.highest_down) = (0, 0);
    }
}

/// Where a block is: the part of the scan, and the column and row among the blocks of its component.
#[derive(Clone, Copy)]
pub struct Place {
    pub part: usize,
    pub column: usize,
    pub row: usize,
}

impl Scan<'_> {
    /// Calls `take` with all blocks of the scan's `bytes`, or returns what is wrong with them. Extra bytes are accepted:
    /// some cameras write them.
    pub fn read(
        &self,
        bytes: &[u8],
        mut take: impl FnMut(Place, &Block),
    ) -> Result<(), &'static str> {
        let (across, down) = self.units();
        let (units, mut done) = (across * down, 0);
        let mut pieces = pieces(bytes);
        let mut data = Vec::with_capacity(bytes.len() + BEHIND);
        let mut block = Block::EMPTY;
        while done < units {
            let end = match self.restart_interval {
                0 => units,
                interval => units.min(done + interval),
            };
            plain(pieces.next().ok_or(CUT_SHORT)?, &mut data);
            let mut bits = Bits::of(&data);
            // A block's first coefficient is stored as the difference from that of the block before.
            let mut before = vec![0; self.parts.len()];
            for unit in done..end {
                let at = (unit % across, unit / across);
                for (part, before) in before.iter_mut().enumerate() {
                    for place in self.places(part, at) {
                        let read = self.parts[part].block(&mut bits, before, &mut block);
                        read.ok_or(DAMAGED)?;
                        take(place, &block);
                    }
                }
                if bits.is_past_the_end() {
                    return Err(DAMAGED);
                }
            }
            done = end;
        }
        Ok(())
    }

    /// Columns and rows of units: the smallest pieces of the scan that contain blocks of every component.
    fn units(&self) -> (usize, usize) {
        match &self.parts[..] {
            // A single component is stored block by block, without padding blocks.
            [Part { component, .. }] => (
                (self.width * component.across).div_ceil(SIDE * self.most_across),
                (self.height * component.down).div_ceil(SIDE * self.most_down),
            ),
            _ => (
                self.width.div_ceil(SIDE * self.most_across),
                self.height.div_ceil(SIDE * self.most_down),
            ),
        }
    }

    /// The places of the blocks of `part` in the unit in the column and row `at`.
    fn places(&self, part: usize, at: (usize, usize)) -> impl Iterator<Item = Place> {
        let component = self.parts[part].component;
        let (across, down) = match self.parts.len() {
            1 => (1, 1),
            _ => (component.across, component.down),
        };
        (0..across * down).map(move |block| Place {
            part,
            column: at.0 * across + block % across,
            row: at.1 * down + block / across,
        })
    }
}

impl Part<'_> {
    /// Reads the next block; `None` if it cannot be decoded. `before` is the first coefficient of the one before.
    #[inline]
    fn block(&self, bits: &mut Bits, before: &mut i32, block: &mut Block) -> Option<()> {
        block.clear();
        let (size, difference) = self.dc.next(bits)?;
        if size > 15 {
            return None;
        }
        *before = before.wrapping_add(difference);
        block.coefficients[0] = *before as f32 * self.steps[0];
        let mut next = 1;
        while next < BLOCK {
            // The number of zeros before the next coefficient, and its length in bits.
            let (code, value) = self.ac.next(bits)?;
            let (zeros, length) = (usize::from(code >> 4), code & 15);
            match (zeros, length) {
                (15, 0) => {
                    next += 16;
                    continue;
                }
                (_, 0) => return Some(()),
                _ => next += zeros,
            }
            let place = usize::from(*PLACES.get(next)?);
            block.coefficients[place] = value as f32 * self.steps[next];
            block.highest_across = block.highest_across.max(place / SIDE);
            block.highest_down = block.highest_down.max(place % SIDE);
            next += 1;
        }
        (next == BLOCK).then_some(())
    }
}

/// The pieces of a scan between its restart markers.
fn pieces(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(bytes);
    std::iter::from_fn(move || {
        let all = rest?;
        let restart = marker(all, |next| RESTARTS.contains(&next));
        let (piece, after) = match restart {
            Some(at) => (&all[..at], Some(&all[at + 2..])),
            None => (all, None),
        };
        rest = after;
        Some(piece)
    })
}
