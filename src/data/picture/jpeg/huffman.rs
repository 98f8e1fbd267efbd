//! Huffman codes, and the bit stream that they are read from.

/// The longest code, in bits.
const LONGEST: usize = 16;

/// The codes of at most so many bits are found in a table.
const SHORT: u32 = 8;

/// A code table as stored in a JPEG: the number of codes of each length, and their values in order.
pub struct Codes {
    counts: [u8; LONGEST],
    values: Vec<u8>,
    /// By the next [`SHORT`] bits: the value of the code that they begin with and its length; a length of 0 where it is
    /// longer than that, or invalid.
    short: [(u8, u8); 1 << SHORT],
}

impl Codes {
    /// Reads a table and returns it with the remaining bytes.
    pub fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (counts, after) = bytes.split_first_chunk::<LONGEST>()?;
        let count = counts.iter().map(|&count| usize::from(count)).sum();
        let (values, after) = after.split_at_checked(count)?;
        let mut codes = Self {
            counts: *counts,
            values: values.to_vec(),
            short: [(0, 0); 1 << SHORT],
        };
        for start in 0..1 << SHORT {
            let mut bits = Bits {
                rest: &[],
                buffer: start,
                held: SHORT,
            };
            if let Some(value) = codes.next_by_length(&mut bits) {
                codes.short[start as usize] = (value, (SHORT - bits.held) as u8);
            }
        }
        Some((codes, after))
    }

    /// The value of the next code; `None` for an invalid code or at the end.
    #[inline]
    pub fn next(&self, bits: &mut Bits) -> Option<u8> {
        if bits.held < SHORT {
            bits.fill();
        }
        if let Some(start) = bits.held.checked_sub(SHORT) {
            let index = bits.buffer >> start & ((1 << SHORT) - 1);
            let (value, length) = self.short[index as usize];
            if length > 0 {
                bits.held -= u32::from(length);
                return Some(value);
            }
        }
        self.next_by_length(bits)
    }

    /// [`Self::next`] of a code of any length.
    fn next_by_length(&self, bits: &mut Bits) -> Option<u8> {
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
    buffer: u64,
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
    #[inline]
    pub fn take(&mut self, count: u32) -> Option<i32> {
        if self.held < count {
            self.fill();
        }
        self.held = self.held.checked_sub(count)?;
        let taken = self.buffer >> self.held & ((1 << count) - 1);
        i32::try_from(taken).ok()
    }

    /// Reads on until at least 32 bits are held, or up to the end.
    fn fill(&mut self) {
        while self.held < 32 {
            if let Some((four, after)) = self.rest.split_first_chunk::<4>()
                && !four.contains(&0xff)
            {
                self.buffer = self.buffer << 32 | u64::from(u32::from_be_bytes(*four));
                self.held += 32;
                self.rest = after;
                continue;
            }
            let after = match self.rest {
                // A byte 0xff in the data is followed by 0; otherwise it begins a marker.
                [0xff, 0, after @ ..] => after,
                [0xff, ..] | [] => return,
                [_, after @ ..] => after,
            };
            self.buffer = self.buffer << 8 | u64::from(self.rest[0]);
            self.held += 8;
            self.rest = after;
        }
    }
}
