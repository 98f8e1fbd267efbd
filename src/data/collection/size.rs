//! Numbers of bytes as a user writes them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// So many bytes. Written `8GiB`, `500MB` or `0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Size(pub u64);

/// From the largest, those of powers of two before those of ten.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];
/// More than any machine has.
const MOST: u64 = 1 << 50;

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let (number, unit) = (digits.trim_end(), &text[digits.len()..]);
        let known = UNITS
            .iter()
            .find(|(name, _)| unit.eq_ignore_ascii_case(name));
        let factor = match (unit, known) {
            ("", _) => Some(1),
            (_, known) => known.map(|(_, factor)| *factor),
        };
        let bytes = number.parse::<u64>().ok().zip(factor);
        let bytes = bytes.and_then(|(number, factor)| number.checked_mul(factor));
        match bytes.filter(|bytes| *bytes <= MOST) {
            Some(bytes) => Ok(Self(bytes)),
            None => Err(
                "expected a whole number of bytes, KB, MB, GB, TB, KiB, MiB, GiB or TiB, up to 1024TiB, for example 8GiB"
                    .to_owned(),
            ),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let fits = |unit: &&(&str, u64)| self.0 > 0 && self.0.is_multiple_of(unit.1);
        // Of the units that divide it, the one that leaves the smallest number.
        let best = UNITS.iter().filter(fits).max_by_key(|(_, factor)| *factor);
        match best {
            Some((name, factor)) => write!(f, "{}{name}", self.0 / factor),
            None => write!(f, "{}", self.0),
        }
    }
}

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        size.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_units_and_written_so_that_they_read_the_same() {
        for (text, bytes, written) in [
            ("0", 0, "0"),
            ("512", 512, "512B"),
            ("8GiB", 8 << 30, "8GiB"),
            ("500 mb", 500_000_000, "500MB"),
            ("1500KB", 1_500_000, "1500KB"),
            ("3072KiB", 3 << 20, "3MiB"),
            ("1024TiB", 1 << 50, "1024TiB"),
        ] {
            let size: Size = text.parse().unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, written));
            assert_eq!(written.parse(), Ok(size));
        }
        for wrong in [
            "",
            "GiB",
            "-1",
            "1.5GB",
            "1 parsec",
            "1025TiB",
            "18446744073709551616",
            "99999999999TiB",
            "8GiB8",
        ] {
            let error = wrong.parse::<Size>().unwrap_err();
            assert!(error.contains("for example 8GiB"), "{wrong}: {error}");
        }
    }
}
