//! The registers in plain Rust, after the description of the instructions in Intel's manual (Software Developer's Manual,
//! volume 2, "TDPBF16PS" and "LDTILECFG").

use super::{SIDE, Shapes, Tiles};

/// Fails where the processor would end the process.
#[derive(Default)]
pub struct Emulation {
    shapes: Shapes,
    tiles: [[[f32; SIDE]; SIDE]; 8],
}

impl Emulation {
    /// Rows and columns of a register.
    fn shape(&self, tile: usize) -> (usize, usize) {
        let rows = usize::from(self.shapes.rows[tile]);
        let bytes = usize::from(self.shapes.row_bytes[tile]);
        assert!(self.shapes.palette == 1 && rows > 0, "{tile} has no shape");
        assert!(bytes.is_multiple_of(4));
        (rows, bytes / 4)
    }
}

impl Tiles for Emulation {
    fn configure(&mut self, shapes: &Shapes) {
        assert_eq!(
            (shapes.palette, shapes.start_row, shapes.reserved),
            (1, 0, [0; 14])
        );
        for (tile, (rows, bytes)) in shapes.rows.iter().zip(shapes.row_bytes).enumerate() {
            assert!(*rows <= 16 && bytes <= 64 && (*rows == 0) == (bytes == 0));
            assert!(tile < 8 || *rows == 0);
        }
        self.shapes = *shapes;
        self.tiles = Default::default();
    }

    fn release(&mut self) {
        self.shapes = Shapes::default();
    }

    fn zero(&mut self, tile: usize) {
        self.shape(tile);
        self.tiles[tile] = Default::default();
    }

    unsafe fn load(&mut self, tile: usize, from: *const f32, row: usize) {
        let (rows, columns) = self.shape(tile);
        self.zero(tile);
        for r in 0..rows {
            for c in 0..columns {
                // SAFETY: the caller's.
                self.tiles[tile][r][c] = unsafe { *from.add(r * row + c) };
            }
        }
    }

    unsafe fn store(&mut self, tile: usize, to: *mut f32, row: usize) {
        let (rows, columns) = self.shape(tile);
        for r in 0..rows {
            for c in 0..columns {
                // SAFETY: the caller's.
                unsafe { *to.add(r * row + c) = self.tiles[tile][r][c] };
            }
        }
    }

    fn multiply_add<const LEFT: usize, const RIGHT: usize>(&mut self, sums: usize) {
        let [(rows, columns), left, right] = [sums, LEFT, RIGHT].map(|tile| self.shape(tile));
        assert!(sums != LEFT && sums != RIGHT && LEFT != RIGHT);
        assert_eq!((left.0, right.1), (rows, columns));
        assert_eq!(left.1, right.0);
        for r in 0..rows {
            for c in 0..columns {
                let (mut even, mut odd) = (0.0, 0.0);
                for k in 0..left.1 {
                    let (a, b) = (self.tiles[LEFT][r][k], self.tiles[RIGHT][k][c]);
                    even = multiply_add(lower(a), lower(b), even);
                    odd = multiply_add(upper(a), upper(b), odd);
                }
                let sum = &mut self.tiles[sums][r][c];
                *sum = flushed(flushed(*sum) + flushed(even + odd));
            }
        }
    }

    unsafe fn turn(
        &mut self,
        from: *const f32,
        to: *mut f32,
        [row, to_row]: [usize; 2],
        [rows, columns]: [usize; 2],
    ) {
        for r in 0..SIDE {
            for c in 0..SIDE {
                let is_inside = r < columns && c < rows;
                // SAFETY: the caller's.
                unsafe {
                    let value = if is_inside {
                        *from.add(c * row + r)
                    } else {
                        f32::NAN
                    };
                    to.add(r * to_row + c).write(value);
                }
            }
        }
    }
}

impl Drop for Emulation {
    fn drop(&mut self) {
        assert!(self.shapes == Shapes::default(), "not released");
    }
}

fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
    flushed(flushed(a).mul_add(flushed(b), c))
}

/// The value in the lower half of a pair of bf16.
fn lower(pair: f32) -> f32 {
    f32::from_bits(pair.to_bits() << 16)
}

/// The value in the upper half.
fn upper(pair: f32) -> f32 {
    f32::from_bits(pair.to_bits() & 0xffff_0000)
}

/// Denormal values are zeros to the instruction.
fn flushed(x: f32) -> f32 {
    if x.is_subnormal() {
        0f32.copysign(x)
    } else {
        x
    }
}
