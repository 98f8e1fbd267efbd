//! What a sequential scan consists of: colour channels, and blocks in order.

use super::huffman::Codes;

/// Rows and columns of a block, and of its coefficients.
pub const SIDE: usize = 8;
/// Coefficients of a block.
pub const BLOCK: usize = SIDE * SIDE;

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

/// The coefficients of a block: at 8 times the frequency across, plus that down.
pub type Block = [f32; BLOCK];

/// Where a block is: the part of the scan, and the column and row among the blocks of its component.
#[derive(Clone, Copy)]
pub struct Place {
    pub part: usize,
    pub column: usize,
    pub row: usize,
}

impl Scan<'_> {
    /// Columns and rows of units: the smallest pieces of the scan that contain blocks of every component.
    pub fn units(&self) -> (usize, usize) {
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

    /// Columns and rows of blocks that `part` has in a unit.
    pub fn blocks_of_unit(&self, part: usize) -> (usize, usize) {
        let component = self.parts[part].component;
        match self.parts.len() {
            1 => (1, 1),
            _ => (component.across, component.down),
        }
    }
}
