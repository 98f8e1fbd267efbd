//! A number for each stage of a network, as a user writes it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Stages of a network by hand, at most.
pub(super) const MOST_STAGES: usize = 8;

/// A number for each stage. Written `64,256,256`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbers {
    values: [usize; MOST_STAGES],
    stages: usize,
}

impl Numbers {
    fn new(numbers: &[usize]) -> Option<Self> {
        let mut values = [0; MOST_STAGES];
        values.get_mut(..numbers.len())?.copy_from_slice(numbers);
        Some(Self {
            values,
            stages: numbers.len(),
        })
    }

    pub(super) fn as_slice(&self) -> &[usize] {
        &self.values[..self.stages]
    }

    pub(super) fn joined(&self, separator: &str) -> String {
        let numbers = self.as_slice().iter().map(usize::to_string);
        numbers.collect::<Vec<_>>().join(separator)
    }

    fn parse(text: &str, most: usize, example: &str) -> Result<Self, String> {
        let parsed: Result<Vec<usize>, _> =
            text.split(',').map(|part| part.trim().parse()).collect();
        let fits = |number: &usize| (1..=most).contains(number);
        let numbers = parsed.ok().filter(|numbers| numbers.iter().all(fits));
        numbers
            .and_then(|numbers| Self::new(&numbers))
            .ok_or_else(|| {
                format!(
                    "expected one to {MOST_STAGES} numbers from 1 to {most}, for example {example}"
                )
            })
    }
}

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.joined(","))
    }
}

/// Output channels of each stage. Written `64,256,256`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Widths(pub(super) Numbers);

impl Widths {
    const MOST: usize = 2048;
    /// What those of the kind `fast` are multiples of: the CPU's kernels take so many channels at a time.
    pub(super) const UNIT: usize = 16;
    /// Those of the preset `fast`.
    pub const OF_PRESET: &str = "128,256,384";
    /// Those of checkpoints from before there was a choice.
    pub const FORMER: &str = "64,256,256";
    /// Those of a network by hand.
    pub const BY_HAND: &str = "16,32,64";
}

impl Default for Widths {
    /// [`Self::FORMER`].
    fn default() -> Self {
        let mut values = [0; MOST_STAGES];
        values[..3].copy_from_slice(&[64, 256, 256]);
        Self(Numbers { values, stages: 3 })
    }
}

impl FromStr for Widths {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Numbers::parse(text, Self::MOST, Self::OF_PRESET).map(Self)
    }
}

impl TryFrom<String> for Widths {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Widths> for String {
    fn from(widths: Widths) -> Self {
        widths.0.to_string()
    }
}

/// Units of each stage of a network by hand. Written `2,2,2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct StageUnits(pub(super) Numbers);

impl StageUnits {
    const MOST: usize = 200;
    pub const DEFAULT: &str = "2,2,2";
}

impl Default for StageUnits {
    /// [`Self::DEFAULT`].
    fn default() -> Self {
        let mut values = [0; MOST_STAGES];
        values[..3].fill(2);
        Self(Numbers { values, stages: 3 })
    }
}

impl FromStr for StageUnits {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Numbers::parse(text, Self::MOST, Self::DEFAULT).map(Self)
    }
}

impl TryFrom<String> for StageUnits {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<StageUnits> for String {
    fn from(units: StageUnits) -> Self {
        units.0.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_stages_are_one_to_eight() {
        let widths: Widths = "128, 256,384".parse().unwrap();
        assert_eq!(String::from(widths), "128,256,384");
        assert_eq!(Widths::FORMER.parse(), Ok(Widths::default()));
        assert_eq!(StageUnits::DEFAULT.parse(), Ok(StageUnits::default()));
        for wrong in [
            "",
            "64,",
            "0,16,16",
            "-16,16",
            "16,2049",
            "16,x",
            "1,1,1,1,1,1,1,1,1",
        ] {
            let error = wrong.parse::<Widths>().unwrap_err();
            assert_eq!(
                error,
                "expected one to 8 numbers from 1 to 2048, for example 128,256,384"
            );
        }
        assert!("201".parse::<StageUnits>().is_err());
    }
}
