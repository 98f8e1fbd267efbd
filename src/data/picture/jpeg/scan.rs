//! The blocks of a sequential scan.

use super::huffman::{Bits, Codes};
use super::{CUT_SHORT, RESTARTS, marker};

const DAMAGED: &str = "the file is damaged: its pixels cannot be decoded";

/// Coefficients of a block.
const BLOCK: usize = 64;

/// A colour channel of the picture, with its resolution relative to the others.
pub struct Component {
    pub id: u8,
    pub across: usize,
    pub down: usize,
}

/// A scan: components with the codes of their first (DC) and their other (AC) coefficients.
pub struct Scan<'a> {
    pub width: usize,
    pub height: usize,
    /// The maximum over all components of the picture.
    pub most_across: usize,
    pub most_down: usize,
    pub components: Vec<(&'a Component, &'a Codes, &'a Codes)>,
    /// Units between restarts; 0 if there are no restarts.
    pub restart_interval: usize,
}

impl Scan<'_> {
    /// Returns what is wrong with the scan's `bytes`, if anything. Extra bytes are accepted: some cameras
    /// write them.
    pub fn check(&self, bytes: &[u8]) -> Result<(), &'static str> {
        let mut units = self.units();
        let mut pieces = pieces(bytes);
        while units > 0 {
            let in_piece = match self.restart_interval {
                0 => units,
                interval => interval.min(units),
            };
            let mut bits = Bits::of(pieces.next().ok_or(CUT_SHORT)?);
            for _ in 0..in_piece {
                self.unit(&mut bits).ok_or(DAMAGED)?;
            }
            units -= in_piece;
        }
        Ok(())
    }

    /// The number of units: the smallest pieces of the scan that contain blocks of every component.
    fn units(&self) -> usize {
        let (across, down) = match self.components[..] {
            // A single component is stored block by block, without padding blocks.
            [(component, ..)] => (
                (self.width * component.across).div_ceil(8 * self.most_across),
                (self.height * component.down).div_ceil(8 * self.most_down),
            ),
            _ => (
                self.width.div_ceil(8 * self.most_across),
                self.height.div_ceil(8 * self.most_down),
            ),
        };
        across * down
    }

    /// Skips one unit; `None` if it cannot be decoded.
    fn unit(&self, bits: &mut Bits) -> Option<()> {
        let alone = self.components.len() == 1;
        for (component, dc, ac) in &self.components {
            let blocks = if alone {
                1
            } else {
                component.across * component.down
            };
            for _ in 0..blocks {
                block(bits, dc, ac)?;
            }
        }
        Some(())
    }
}

/// Skips one block; `None` if it cannot be decoded.
fn block(bits: &mut Bits, dc: &Codes, ac: &Codes) -> Option<()> {
    let length = dc.next(bits)?;
    bits.take(bits_of(length)?)?;
    let mut coefficient = 1;
    while coefficient < BLOCK {
        // The number of zeros before the next coefficient, and its length in bits.
        let code = ac.next(bits)?;
        let (zeros, length) = (usize::from(code >> 4), code & 15);
        match (zeros, length) {
            (15, 0) => coefficient += 16,
            (_, 0) => return Some(()),
            _ => {
                coefficient += zeros + 1;
                bits.take(bits_of(length)?)?;
            }
        }
    }
    (coefficient == BLOCK).then_some(())
}

/// A length in bits from a code, if it is valid.
fn bits_of(code: u8) -> Option<u32> {
    (code <= 16).then_some(code.into())
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
