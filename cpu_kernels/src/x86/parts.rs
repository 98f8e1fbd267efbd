//! Channels a few at a time: as many as have their sums in registers.

use super::sets::Set;

/// The most parts of 16 channels at a time.
pub const MOST: usize = 4;

/// What is done for some channels of all pixels.
pub trait OfParts {
    /// For the channels of `P` parts from `part` on.
    fn run<S: Set, const P: usize>(&mut self, set: S, part: usize);
}

/// Does `work` for `parts` parts, in order.
#[inline(always)]
pub fn in_order<S: Set>(set: S, parts: usize, work: &mut impl OfParts) {
    let mut part = 0;
    while part < parts {
        match parts - part {
            MOST.. => {
                work.run::<S, MOST>(set, part);
                part += MOST;
            }
            2.. => {
                work.run::<S, 2>(set, part);
                part += 2;
            }
            _ => {
                work.run::<S, 1>(set, part);
                part += 1;
            }
        }
    }
}
