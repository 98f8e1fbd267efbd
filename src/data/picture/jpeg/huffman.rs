//! Huffman codes, and the bit stream that they are read from.

/// The longest code, in bits.
const LONGEST: usize = 16;

/// A code table as stored in a JPEG: the number of codes of each length, and their values in order.
pub struct Codes {
    counts: [u8; LONGEST],
    values: Vec<u8>,
}

impl Codes {
    /// Reads a table and returns it with the remaining bytes.
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

    /// The value of the next code; `None` for an invalid code or at the end.
    pub fn next(&self, bits: &mut Bits) -> Option<u8> {
        // Codes of one length are consecutive numbers; `first` is the smallest one.
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

/// The bits of a scan between two markers.
pub struct Bits<'a> {
    rest: &'a [u8],
    /// Bits that were read but not taken yet: the lowest `held` bits.
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

    /// The next `count` bits, at most 16, as a number; `None` if there are fewer left.
    pub fn take(&mut self, count: u32) -> Option<i32> {
        while self.held < count {
            let (&byte, after) = self.rest.split_first()?;
            // A byte 0xff in the data is followed by 0; otherwise it begins a marker.
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
