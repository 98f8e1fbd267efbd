//! Huffman codes, and the bit stream that they are read from.

/// The longest code, in bits.
const LONGEST: usize = 16;

/// The codes of at most so many bits are found in a table.
const SHORT: u32 = 10;

/// A code table as stored in a JPEG: the number of codes of each length, and their values in order.
pub struct Codes {
    counts: [u8; LONGEST],
    values: Vec<u8>,
    /// By the next [`SHORT`] bits: the code that they begin with.
    short: Box<[Code; 1 << SHORT]>,
}

/// A code, and the bits behind it that belong to it: as many as the lower half of its value says.
#[derive(Clone, Copy)]
struct Code {
    value: u8,
    /// Of the code alone.
    length: u8,
    /// With the bits behind it; 0 where there is no such code.
    all: u8,
}

impl Code {
    const NONE: Self = Self {
        value: 0,
        length: 0,
        all: 0,
    };

    fn new(value: u8, length: u32) -> Self {
        // At most 16.
        let length = length as u8;
        Self {
            value,
            length,
            all: length + (value & 15),
        }
    }
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
            short: Box::new([Code::NONE; 1 << SHORT]),
        };
        codes.fill_short()?;
        Some((codes, after))
    }

    /// Fills the table of short codes; `None` if there are more of them than there can be.
    fn fill_short(&mut self) -> Option<()> {
        let mut values = self.values.iter();
        let mut at = 0;
        for (length, count) in (1..=SHORT).zip(self.counts) {
            // A code takes the places of all bits that may follow it, and the next one is the next number.
            let places = 1 << (SHORT - length);
            for value in values.by_ref().take(count.into()) {
                let all = self.short.get_mut(at..at + places)?;
                all.fill(Code::new(*value, length));
                at += places;
            }
        }
        Some(())
    }

    /// The value of the next code, and the number in the bits that belong to it; `None` for an invalid code.
    #[inline]
    pub fn next(&self, bits: &mut Bits) -> Option<(u8, i32)> {
        bits.fill();
        let mut code = self.short[(bits.buffer >> (u64::BITS - SHORT)) as usize];
        if code.all == 0 {
            code = self.by_length(bits.buffer)?;
        }
        let number = number(bits.buffer << code.length, code.value & 15);
        bits.buffer <<= code.all;
        bits.held -= u32::from(code.all);
        Some((code.value, number))
    }

    /// The code of any length that the highest of `bits` are.
    #[cold]
    fn by_length(&self, bits: u64) -> Option<Code> {
        // Codes of one length are consecutive numbers; `first` is the smallest one.
        let (mut first, mut shorter) = (0u64, 0);
        for (length, count) in (1..).zip(self.counts) {
            let code = bits >> (u64::BITS - length);
            let place = code.checked_sub(first)?;
            if place < u64::from(count) {
                let value = *self.values.get(shorter + place as usize)?;
                return Some(Code::new(value, length));
            }
            shorter += usize::from(count);
            first = (first + u64::from(count)) << 1;
        }
        None
    }
}

/// The number that the `size` highest of `bits` stand for: those that begin with 0 are negative, and count up from
/// the lowest one.
#[inline]
fn number(bits: u64, size: u8) -> i32 {
    let value = (bits >> 1 >> (63 - size)) as i32;
    let is_negative = !(bits as i64 >> 63) as i32;
    value - (is_negative & ((1 << size) - 1))
}

/// The bits of a scan between two markers.
pub struct Bits<'a> {
    bytes: &'a [u8],
    /// The next byte to read.
    at: usize,
    /// Bits that were read but not taken yet, the next one highest.
    buffer: u64,
    /// How many of them count.
    held: u32,
}

impl<'a> Bits<'a> {
    /// The bits of `bytes` in the form that [`plain`] gives.
    pub fn of(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            buffer: 0,
            held: 0,
        }
    }

    /// Reads on if fewer bits are held than a code and its number may need. Behind the end there are zeros.
    #[inline]
    fn fill(&mut self) {
        if self.held >= 32 {
            return;
        }
        let rest = self.bytes.get(self.at..);
        let next = rest.and_then(|rest| rest.first_chunk::<8>());
        let next = next.map_or(0, |bytes| u64::from_be_bytes(*bytes));
        // What does not count of `buffer` is the beginning of `next`, or zeros.
        self.buffer |= next >> self.held;
        let read = (63 - self.held) / 8;
        self.at += read as usize;
        self.held += 8 * read;
    }

    /// Whether more bits were taken than there are.
    pub fn is_past_the_end(&self) -> bool {
        let there = self.bytes.len() - BEHIND;
        8 * self.at - self.held as usize > 8 * there
    }
}

/// Zeros behind the bytes in `plain`.
pub const BEHIND: usize = 8;

/// Writes the bytes of a scan to `plain` without what keeps them apart from markers, and zeros behind them, so that eight
/// bytes can be read from each place.
pub fn plain(bytes: &[u8], plain: &mut Vec<u8>) {
    plain.clear();
    let mut rest = bytes;
    loop {
        let end = memchr::memchr(0xff, rest).unwrap_or(rest.len());
        plain.extend(&rest[..end]);
        // A byte 0xff in the data is followed by 0; otherwise it begins a marker.
        let Some(after) = rest[end..].strip_prefix(&[0xff, 0]) else {
            break;
        };
        plain.push(0xff);
        rest = after;
    }
    plain.extend([0; BEHIND]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_standard() {
        // ITU-T T.81, tables F.1 and F.2: of size 3, 000 to 011 are -7 to -4, and 100 to 111 are 4 to 7.
        for (bits, size, expected) in [
            (0b000, 3, -7),
            (0b011, 3, -4),
            (0b100, 3, 4),
            (0b111, 3, 7),
            (0, 1, -1),
            (1, 1, 1),
            (0, 15, -32_767),
            (0x7fff, 15, 32_767),
        ] {
            let highest = bits << (64 - u32::from(size));
            assert_eq!(number(highest, size), expected, "{bits:b}");
        }
        assert_eq!((number(0, 0), number(u64::MAX, 0)), (0, 0));
    }

    #[test]
    fn codes_of_all_lengths_are_found_and_the_end_is_noticed() {
        // 0, 10, 110 and so on, up to a code of 16 bits, in the order of the values.
        let table: Vec<u8> = [[1; LONGEST].to_vec(), (0..16).map(|n| n << 4).collect()].concat();
        let (codes, rest) = Codes::read(&table).unwrap();
        assert!(rest.is_empty());
        // 16 bits, 1 bit, 2 bits, and 5 more than there are.
        let bytes = [0xff, 0, 0xfe, 0b0101_1111];
        let mut data = Vec::new();
        plain(&bytes, &mut data);
        let mut bits = Bits::of(&data);
        let mut next = || {
            let code = codes.next(&mut bits).map(|(value, _)| value >> 4);
            (code, bits.is_past_the_end())
        };
        assert_eq!(next(), (Some(15), false));
        assert_eq!(next(), (Some(0), false));
        assert_eq!(next(), (Some(1), false));
        assert_eq!(next(), (Some(5), true));
        // 16 ones are no code.
        plain(&[0xff, 0, 0xff, 0], &mut data);
        assert!(codes.next(&mut Bits::of(&data)).is_none());
    }
}
