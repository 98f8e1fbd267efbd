//! Huffman codes, and the bits that they are read from.

/// The longest code, in bits.
const LONGEST: usize = 16;

/// A table of codes, as a JPEG tells it: how many there are of each length, and their values in order.
pub struct Codes {
    counts: [u8; LONGEST],
    values: Vec<u8>,
}

impl Codes {
    /// Reads a table and returns it with what follows it.
    pub fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (counts, after) = bytes.split_first_chunk::<LONGEST>()?;
        let count = counts.iter().map(|&count| usize::from(count)).sum();
        let (values, after) = after.split_at_checked(count)?;
        let codes = Self {
            counts: *counts,
            values: values.to_vec(),
        };
        Some((codes, after))
    }

    /// The value of the code that comes next; `None` at a code that is none, or at the end.
    pub fn next(&self, bits: &mut Bits) -> Option<u8> {
        // Codes of one length are consecutive numbers; `first` is the smallest of the length.
        let (mut code, mut first, mut shorter) = (0, 0, 0);
        for count in self.counts {
            code |= bits.take(1)?;
            let place = usize::try_from(code - first).ok()?;
            if place < usize::from(count) {
                return self.values.get(shorter + place).copied();
            }
            shorter += usize::from(count);
            first = (first + i32::from(count)) << 1;
            code <<= 1;
        }
        None
    }
}

/// The bits of a piece of a scan between two markers.
pub struct Bits<'a> {
    rest: &'a [u8],
    /// Bits that were read and not taken yet: the lowest `held`.
    buffer: u32,
    held: u32,
}

impl<'a> Bits<'a> {
    pub fn of(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            buffer: 0,
            held: 0,
        }
    }

    /// The next `count` bits, at most 16, as a number; `None` where there are not so many.
    pub fn take(&mut self, count: u32) -> Option<i32> {
        while self.held < count {
            let (&byte, after) = self.rest.split_first()?;
            // A 0 tells a byte of ones from the beginning of a marker.
            self.rest = match byte {
                0xff => after.strip_prefix(&[0])?,
                _ => after,
            };
            self.buffer = self.buffer << 8 | u32::from(byte);
            self.held += 8;
        }
        self.held -= count;
        let taken = self.buffer >> self.held & ((1 << count) - 1);
        i32::try_from(taken).ok()
    }
}
