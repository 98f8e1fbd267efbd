//! Reads the blocks of a scan, one after the other, into the channels of the image.

use std::ops::Range;

use multiversion::multiversion;

use super::colours::Channels;
use super::huffman::{BEHIND, Bits, plain};
use super::scan::{BLOCK, Block, Part, Place, Scan};
use super::{CUT_SHORT, RESTARTS, next_marker};

const DAMAGED: &str = "the file is damaged: its pixels cannot be decoded";

/// The code of 16 zeros.
const ZEROS: u8 = 0xf0;

/// Space for the bytes of a scan at first: it grows for those that need more.
const MANY_BYTES: usize = 1 << 20;

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

/// Reads all blocks of the scan that `bytes` begin with, those that the image needs into `channels`. Returns what
/// follows; there may be more bytes of the scan in it, which some cameras write.
///
/// # Errors
/// What is wrong with the bytes.
pub fn read<'a>(
    scan: &Scan,
    bytes: &'a [u8],
    channels: &mut Option<Channels>,
) -> Result<&'a [u8], &'static str> {
    let (across, down) = scan.units();
    let units = across * down;
    let mut data = Vec::with_capacity(bytes.len().min(MANY_BYTES) + BEHIND);
    let (mut done, mut rest) = (0, bytes);
    loop {
        rest = plain(rest, &mut data);
        let (marker, after) = next_marker(rest).ok_or(CUT_SHORT)?;
        let end = match scan.restart_interval {
            0 => units,
            interval => units.min(done + interval),
        };
        read_units(scan, done..end, Bits::of(&data), channels)?;
        if end == units {
            return Ok(rest);
        }
        if !RESTARTS.contains(&marker) {
            return Err(CUT_SHORT);
        }
        (done, rest) = (end, after);
    }
}

/// Reads the blocks of these `units`, between two markers.
#[multiversion(targets("x86_64+avx2+bmi2"))]
fn read_units(
    scan: &Scan,
    units: Range<usize>,
    bits: Bits,
    channels: &mut Option<Channels>,
) -> Result<(), &'static str> {
    let mut bits = bits;
    let (width, _) = scan.units();
    // A block's first coefficient is stored as the difference from that of the block before.
    let mut before = vec![0; scan.parts.len()];
    let mut block = [0.0; BLOCK];
    for unit in units {
        let (unit_column, unit_row) = (unit % width, unit / width);
        for (number, (part, before)) in scan.parts.iter().zip(&mut before).enumerate() {
            let (across, down) = scan.blocks_of_unit(number);
            for row in unit_row * down..(unit_row + 1) * down {
                for column in unit_column * across..(unit_column + 1) * across {
                    let place = Place {
                        part: number,
                        column,
                        row,
                    };
                    match channels {
                        Some(channels) if channels.need(place) => {
                            let read = part.block(&mut bits, before, Some(&mut block));
                            read.ok_or(DAMAGED)?;
                            channels.put(place, &block);
                        }
                        _ => part.block(&mut bits, before, None).ok_or(DAMAGED)?,
                    }
                }
            }
        }
        if bits.is_past_the_end() {
            return Err(DAMAGED);
        }
        if unit_column + 1 == width
            && let Some(channels) = channels
        {
            channels.end_row();
        }
    }
    Ok(())
}

// Inlined into `read_units`, so that the processor's newer instructions are used here too, and `bits` stay in registers.
impl Part<'_> {
    /// Reads the next block, into `block` if there is one; `None` if it cannot be decoded. `before` is the first
    /// coefficient of the one before.
    #[inline(always)]
    fn block(
        &self,
        bits: &mut Bits,
        before: &mut i32,
        mut block: Option<&mut Block>,
    ) -> Option<()> {
        bits.read_ahead();
        let (size, difference) = self.dc.next(bits)?;
        if size > 15 {
            return None;
        }
        *before = before.wrapping_add(difference);
        if let Some(block) = &mut block {
            block.fill(0.0);
            block[0] = *before as f32 * self.steps[0];
        }
        let mut next = self.coefficient(bits, 1, block.as_deref_mut())?;
        while next < BLOCK {
            // Enough for two.
            bits.read_ahead();
            next = self.coefficient(bits, next, block.as_deref_mut())?;
            if next < BLOCK {
                next = self.coefficient(bits, next, block.as_deref_mut())?;
            }
        }
        (next == BLOCK).then_some(())
    }

    /// Reads the next coefficient of a block that is not 0, of those from `next` on, and returns the one that follows;
    /// [`BLOCK`] at the end.
    #[inline(always)]
    fn coefficient(
        &self,
        bits: &mut Bits,
        next: usize,
        block: Option<&mut Block>,
    ) -> Option<usize> {
        // The number of zeros before it, and its length in bits.
        let (code, value) = self.ac.next(bits)?;
        if code & 15 == 0 {
            return Some(if code == ZEROS { next + 16 } else { BLOCK });
        }
        let at = next + usize::from(code >> 4);
        let place = usize::from(*PLACES.get(at)?);
        if let Some(block) = block {
            block[place] = value as f32 * self.steps[at];
        }
        Some(at + 1)
    }
}
