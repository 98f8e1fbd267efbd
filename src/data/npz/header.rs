//! What comes before the values of a `.npy` file: a magic string, a version, the length of a header, and the header, a
//! Python dictionary with the type, the order and the dimensions.

use std::fmt;
use std::io::{self, Read};

use byteorder::{ByteOrder, LittleEndian};

/// The longest header that is read; that of an image array has about 120 bytes.
pub const LONGEST: usize = 4096;
pub const MAGIC: &[u8] = b"\x93NUMPY";

/// What comes before the values of an array of f32 with these dimensions, in a file of version 1.0.
pub fn npy_header([rows, columns]: [usize; 2]) -> Vec<u8> {
    /// Values begin at a multiple of this.
    const ALIGNMENT: usize = 64;
    let text =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    let start = MAGIC.len() + 2 + 2;
    let length = (start + text.len() + 1).next_multiple_of(ALIGNMENT) - start;
    let mut bytes = [MAGIC, &[1, 0]].concat();
    // Two numbers make no text that is too long for this.
    bytes.extend((length as u16).to_le_bytes());
    bytes.extend(format!("{text:<width$}\n", width = length - 1).into_bytes());
    bytes
}

/// What an array is like.
#[derive(Debug, PartialEq)]
pub struct Header {
    /// The type as NumPy writes it, for example `<f4`.
    descr: String,
    /// `i` for whole numbers, `u` for those without sign, and others.
    pub kind: char,
    /// Bytes of a value.
    pub size: usize,
    is_big_endian: bool,
    pub dims: Vec<usize>,
}

impl Header {
    /// Reads what is before the values of an array.
    pub fn read(array: &mut impl Read) -> Result<Header, String> {
        let unreadable = |error: io::Error| format!("cannot read the array: {error}");
        let mut start = [0; MAGIC.len() + 2];
        array.read_exact(&mut start).map_err(unreadable)?;
        let [version, _] = start[MAGIC.len()..] else {
            return Err("expected a version".to_owned());
        };
        if !start.starts_with(MAGIC) {
            return Err("expected a NumPy array, got something else".to_owned());
        }
        let mut length = [0; 4];
        let bytes = if version == 1 { 2 } else { 4 };
        array.read_exact(&mut length[..bytes]).map_err(unreadable)?;
        let length = u32::from_le_bytes(length) as usize;
        if length > LONGEST {
            return Err(format!(
                "expected a header of at most {LONGEST} bytes, got {length}"
            ));
        }
        let mut text = vec![0; length];
        array.read_exact(&mut text).map_err(unreadable)?;
        Header::parse(&String::from_utf8_lossy(&text))
    }

    /// Parses `{'descr': '|u1', 'fortran_order': False, 'shape': (3, 32, 32, 3), }`.
    pub fn parse(text: &str) -> Result<Header, String> {
        let wrong = || format!("expected NumPy's header, got {:?}", text.trim_end());
        let after = |key: &str| {
            let (_, rest) = text.split_once(&format!("'{key}':"))?;
            Some(rest.trim_start())
        };
        let descr = after("descr").ok_or_else(wrong)?;
        let descr = descr.strip_prefix('\'').ok_or_else(wrong)?;
        let (descr, _) = descr.split_once('\'').ok_or_else(wrong)?;
        let order = after("fortran_order").ok_or_else(wrong)?;
        if !order.starts_with("False") {
            return Err(
                "expected values in C order, got Fortran order; save np.ascontiguousarray(x)"
                    .to_owned(),
            );
        }
        let dims = after("shape").and_then(|rest| rest.strip_prefix('('));
        let (dims, _) = dims
            .and_then(|rest| rest.split_once(')'))
            .ok_or_else(wrong)?;
        let dims = dims.split(',').map(str::trim).filter(|dim| !dim.is_empty());
        let dims: Result<Vec<usize>, _> = dims.map(str::parse).collect();

        let mut type_of = descr.chars();
        let order = type_of.next().ok_or_else(wrong)?;
        let kind = type_of.next().ok_or_else(wrong)?;
        let size = type_of.as_str().parse().ok();
        Ok(Header {
            descr: descr.to_owned(),
            kind,
            size: size
                .filter(|size| (1..=16).contains(size))
                .ok_or_else(wrong)?,
            is_big_endian: order == '>',
            dims: dims.map_err(|_| wrong())?,
        })
    }

    /// Bytes of all values, if that is a number at all.
    pub fn bytes(&self) -> Option<u64> {
        let dims = self.dims.iter().map(|dim| *dim as u64);
        dims.chain([self.size as u64])
            .try_fold(1u64, u64::checked_mul)
    }

    /// The whole number that `bytes`, `size` of them, stand for.
    pub fn number(&self, bytes: &[u8]) -> i128 {
        let mut bytes = bytes.to_vec();
        if self.is_big_endian {
            bytes.reverse();
        }
        match self.kind {
            'i' => LittleEndian::read_int128(&bytes, self.size),
            _ => LittleEndian::read_uint128(&bytes, self.size) as i128,
        }
    }
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let kind = match self.kind {
            'i' => "int",
            'u' => "uint",
            'f' => "float",
            _ => return write!(f, "{} {:?}", self.descr, self.dims),
        };
        write!(f, "{kind}{} {:?}", 8 * self.size, self.dims)
    }
}
