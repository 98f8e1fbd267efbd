//! Huffman codes, and the bit stream that they are read from.

use std::iter;
use std::ops::Range;

/// The longest code, in bits.
const LONGEST: u32 = 16;

/// The codes of at most so many bits are found in a table of their own, which stays in the processor's first cache.
const SHORT: u32 = 10;

/// A code table as stored in a JPEG, in a form in which codes are found by the bits that they begin with.
pub struct Codes {
    /// By the next [`SHORT`] bits.
    short: Box<[Code; 1 << SHORT]>,
    /// By the next [`LONGEST`] bits, from `first_long` on: longer codes are greater numbers.
    long: Vec<Code>,
    first_long: usize,
}

/// A code, and the bits behind it that belong to it: as many as the lower half of its value says.
// Four bytes, so that its place in a table needs no multiplication.
#[derive(Clone, Copy)]
#[repr(align(4))]
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
    /// Reads a table, the number of codes of each length and their values in order, and returns it with the remaining
    /// bytes; `None` if it is cut short, or has more codes than there can be.
    pub fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (counts, after) = bytes.split_first_chunk::<{ LONGEST as usize }>()?;
        let count = counts.iter().map(|&count| usize::from(count)).sum();
        let (values, after) = after.split_at_checked(count)?;
        let mut codes = Self {
            short: Box::new([Code::NONE; 1 << SHORT]),
            long: Vec::new(),
            first_long: 0,
        };
        let mut values = values.iter();
        // Of the places of all numbers of 16 bits a code takes those that begin with it, and the next one the next.
        let mut at = 0;
        for (length, count) in (1..).zip(counts) {
            let places = 1 << (LONGEST - length);
            for value in values.by_ref().take((*count).into()) {
                codes.add(Code::new(*value, length), at..at + places)?;
                at += places;
            }
            if length <= SHORT {
                codes.first_long = at;
            }
        }
        (at <= 1 << LONGEST).then_some((codes, after))
    }

    /// Sets the `places` of a code; `None` if there are none that are so high.
    fn add(&mut self, code: Code, places: Range<usize>) -> Option<()> {
        if u32::from(code.length) > SHORT {
            self.long.extend(iter::repeat_n(code, places.len()));
            return Some(());
        }
        let short = |place: usize| place >> (LONGEST - SHORT);
        let places = short(places.start)..short(places.end);
        self.short.get_mut(places)?.fill(code);
        Some(())
    }

    /// The value of the next code, and the number in the bits that belong to it; `None` for an invalid code. At least 25
    /// bits must be held: a short code and its number need no more, and for a longer one it reads ahead.
    #[inline(always)]
    pub fn next(&self, bits: &mut Bits) -> Option<(u8, i32)> {
        let mut code = self.short[(bits.buffer >> (u64::BITS - SHORT)) as usize];
        if code.all == 0 {
            bits.read_ahead();
            code = self.longer(bits.buffer)?;
        }
        let number = number(bits.buffer << code.length, code.value & 15);
        bits.buffer <<= code.all;
        bits.held -= u32::from(code.all);
        Some((code.value, number))
    }

    /// The code of more than [`SHORT`] bits that `bits` begin with.
    #[cold]
    fn longer(&self, bits: u64) -> Option<Code> {
        let place = (bits >> (u64::BITS - LONGEST)) as usize;
        let place = place.checked_sub(self.first_long)?;
        self.long.get(place).copied()
    }
}

/// The number that the `size` highest of `bits` stand for: those that begin with 0 are negative, and count up from
/// the lowest one.
#[inline(always)]
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

    /// Reads on until at least 56 bits are held: a code and its number, of 31 bits at most, and a short one behind them.
    /// Behind the end there are zeros.
    // Even if there are enough: whether there are cannot be predicted, and a wrong guess takes longer.
    #[inline(always)]
    pub fn read_ahead(&mut self) {
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
    #[inline(always)]
    pub fn is_past_the_end(&self) -> bool {
        let there = self.bytes.len() - BEHIND;
        8 * self.at - self.held as usize > 8 * there
    }
}

/// Zeros behind the bytes in `plain`.
pub const BEHIND: usize = 8;

/// Writes the bytes of a scan up to the next marker to `plain`, without what keeps them apart from markers, and zeros
/// behind them, so that eight bytes can be read from each place. Returns what follows.
pub fn plain<'a>(bytes: &'a [u8], plain: &mut Vec<u8>) -> &'a [u8] {
    plain.clear();
    let mut rest = bytes;
    let after = loop {
        let end = memchr::memchr(0xff, rest).unwrap_or(rest.len());
        plain.extend(&rest[..end]);
        // A byte 0xff in the data is followed by 0; otherwise it begins a marker.
        let Some(after) = rest[end..].strip_prefix(&[0xff, 0]) else {
            break &rest[end..];
        };
        plain.push(0xff);
        rest = after;
    };
    plain.extend([0; BEHIND]);
    after
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
        let table: Vec<u8> = [vec![1; 16], (0..16).map(|n| n << 4).collect()].concat();
        let (codes, rest) = Codes::read(&table).unwrap();
        assert!(rest.is_empty());
        // 16 bits, 1 bit, 2 bits, and 5 more than there are.
        let bytes = [0xff, 0, 0xfe, 0b0101_1111];
        let mut data = Vec::new();
        plain(&bytes, &mut data);
        let mut bits = Bits::of(&data);
        let mut next = || {
            bits.read_ahead();
            let code = codes.next(&mut bits).map(|(value, _)| value >> 4);
            (code, bits.is_past_the_end())
        };
        assert_eq!(next(), (Some(15), false));
        assert_eq!(next(), (Some(0), false));
        assert_eq!(next(), (Some(1), false));
        assert_eq!(next(), (Some(5), true));
        // 16 ones are no code.
        plain(&[0xff, 0, 0xff, 0], &mut data);
        let mut bits = Bits::of(&data);
        bits.read_ahead();
        assert!(codes.next(&mut bits).is_none());
    }

    #[test]
    fn no_more_codes_are_accepted_than_there_can_be() {
        // One of each length, and of the last as many as the remaining numbers, or one more.
        for (last, fits) in [(2, true), (3, false)] {
            let counts = [&[1; 15][..], &[last]].concat();
            let table = [counts, vec![0; 15 + usize::from(last)]].concat();
            assert_eq!(Codes::read(&table).is_some(), fits, "{last}");
        }
    }

    #[test]
    fn the_bytes_of_a_scan_end_at_the_first_marker() {
        let mut data = Vec::new();
        let after = plain(&[1, 0xff, 0, 2, 0xff, 0xd0, 3], &mut data);
        assert_eq!(after, [0xff, 0xd0, 3]);
        assert_eq!(data, [&[1, 0xff, 2][..], &[0; BEHIND]].concat());
        assert!(plain(&[4], &mut data).is_empty());
    }
}
