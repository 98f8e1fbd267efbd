//! The targets that a program can be compiled for without having the hardware.

use std::fmt;
use std::str::FromStr;

use pjrt::Value;

use crate::system::limits::CHIPS;

/// A slice of TPU chips, or the CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Tpu {
        generation: Generation,
        /// Chips along each axis.
        axes: Vec<usize>,
    },
    Cpu,
}

/// The TPU generations whose limits are known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    V4,
    V5e,
    V5p,
    V6e,
}

/// The most that one chip can do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Additions and multiplications of bf16 numbers in a second.
    pub flops: f64,
    /// Bytes that move between the chip and its memory in a second.
    pub bandwidth: f64,
    /// Bytes of memory (HBM).
    pub memory: f64,
    /// Cycles in a second.
    pub clock: f64,
}

const GENERATIONS: [(&str, Generation); 4] = [
    ("v4", Generation::V4),
    ("v5e", Generation::V5e),
    ("v5p", Generation::V5p),
    ("v6e", Generation::V6e),
];

impl Generation {
    /// Compute, memory and bandwidth of a chip as published by the vendor. The clock is not
    /// published; it is the one that makes the matrix units (v4 and v5p eight of 128x128, v5e four, v6e four
    /// of 256x256) add up to the published compute.
    pub fn limits(self) -> Limits {
        let limits = |tflops: f64, gb_per_s: f64, gib: f64, ghz: f64| Limits {
            flops: tflops * 1e12,
            bandwidth: gb_per_s * 1e9,
            memory: gib * f64::from(1 << 30),
            clock: ghz * 1e9,
        };
        match self {
            Self::V4 => limits(275.0, 1228.0, 32.0, 1.05),
            Self::V5e => limits(197.0, 819.0, 16.0, 1.5),
            Self::V5p => limits(459.0, 2765.0, 95.0, 1.75),
            Self::V6e => limits(918.0, 1640.0, 32.0, 1.75),
        }
    }
}

impl Target {
    /// Chips in all; 1 for the CPU.
    pub fn chips(&self) -> usize {
        match self {
            Self::Tpu { axes, .. } => axes.iter().product(),
            Self::Cpu => 1,
        }
    }

    /// The limits of a chip; unknown for a CPU.
    pub fn limits(&self) -> Option<Limits> {
        match self {
            Self::Tpu { generation, .. } => Some(generation.limits()),
            Self::Cpu => None,
        }
    }

    /// The options that libtpu needs with the topology's name to describe it as a run sees it: the two
    /// cores of a v4 chip work as one device.
    pub fn options(&self) -> Vec<(&'static str, Value)> {
        match self {
            Self::Tpu {
                generation: Generation::V4,
                ..
            } => vec![("chip_config_name", Value::Text("megacore".to_owned()))],
            _ => Vec::new(),
        }
    }
}

/// A text that does not name a target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected `cpu` or GENERATION:AxB[xC], for example v5e:2x4, with a generation of v4, v5e, v5p, v6e and \
     from {} to {} chips", CHIPS.start(), CHIPS.end()
)]
pub struct TargetError;

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        if text == "cpu" {
            return Ok(Self::Cpu);
        }
        let (name, shape) = text.split_once(':').ok_or(TargetError)?;
        let known = GENERATIONS.iter().find(|(known, _)| *known == name);
        let &(_, generation) = known.ok_or(TargetError)?;
        let axes = shape
            .split('x')
            .map(str::parse)
            .collect::<Result<Vec<usize>, _>>();
        let axes = axes.map_err(|_| TargetError)?;
        let chips = axes
            .iter()
            .try_fold(1usize, |chips, &axis| chips.checked_mul(axis));
        let fits = chips.is_some_and(|chips| CHIPS.contains(&(chips as u64)));
        if !(2..=3).contains(&axes.len()) || !fits {
            return Err(TargetError);
        }
        Ok(Self::Tpu { generation, axes })
    }
}

/// In libtpu's form: `v5e:2x4`.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self::Tpu { generation, axes } = self else {
            return f.write_str("cpu");
        };
        let name = GENERATIONS.iter().find(|(_, known)| known == generation);
        let axes: Vec<_> = axes.iter().map(usize::to_string).collect();
        write!(
            f,
            "{}:{}",
            name.map_or("", |(name, _)| name),
            axes.join("x")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topology_says_how_many_chips_it_has() {
        for (text, chips) in [("v5e:2x4", 8), ("v6e:2x2", 4), ("v4:2x2x1", 4), ("cpu", 1)] {
            let target: Target = text.parse().unwrap();
            assert_eq!(
                (target.chips(), target.to_string()),
                (chips, text.to_owned())
            );
        }
    }

    #[test]
    fn what_is_no_topology_is_refused() {
        for wrong in [
            "",
            "tpu",
            "v5e",
            "v5e:",
            "v5e:8",
            "v5e:2x",
            "v5e:2x0",
            "v9:2x2",
            "v5e:1x1x1x1",
            "v5p:100x101",
            // 2^64: it must not wrap around to nothing.
            "v5p:4294967296x4294967296",
        ] {
            assert_eq!(wrong.parse::<Target>(), Err(TargetError), "{wrong}");
        }
    }

    #[test]
    fn the_clock_fits_the_matrix_units() {
        for (generation, units, side) in [
            (Generation::V4, 8, 128),
            (Generation::V5e, 4, 128),
            (Generation::V5p, 8, 128),
            (Generation::V6e, 4, 256),
        ] {
            let limits = generation.limits();
            let peak = f64::from(2 * units * side * side) * limits.clock;
            assert!((peak / limits.flops - 1.0).abs() < 0.01, "{generation:?}");
        }
    }
}
