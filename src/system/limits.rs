//! The range of every number that a user can give, and the parsers that hold options to it.
//!
//! A number comes from a flag, a variable of the environment or a `-c` file; all three go through the parser of its
//! option, before anything is allocated or made.

use std::ops::RangeInclusive;

use xla_graphs::Architecture;

/// The deepest is ten times as deep as any in the literature; its checkpoint has 830 MB.
pub const DEPTH: RangeInclusive<u64> = 11..=10_001;
pub const BATCH_SIZE: RangeInclusive<u64> = 1..=65_536;
/// As many as `history.csv` has room for.
pub const EPOCHS: RangeInclusive<u64> = 1..=100_000;
/// Steps of an epoch, of an evaluation, or between checkpoints.
pub const STEPS: RangeInclusive<u64> = 1..=1_000_000_000;
/// Steps of a whole run: all epochs of the longest.
pub const ALL_STEPS: RangeInclusive<u64> = 1..=100_000_000_000_000;
/// Whether the run outlasts it is checked once the run's length is known.
pub const WARMUP: RangeInclusive<u64> = 0..=*ALL_STEPS.end() - 1;
/// TOML, the form in which settings are saved, has no larger integers.
pub const SEED: RangeInclusive<u64> = 0..=i64::MAX as u64;
/// If the newest checkpoint is damaged, another must be left.
pub const KEEP: RangeInclusive<u64> = 2..=1_000_000;
pub const REPLICAS: RangeInclusive<u64> = 1..=1024;
/// Processes of a run, and the number of one of them.
pub const PROCESSES: RangeInclusive<u64> = 1..=1024;
pub const PROCESS: RangeInclusive<u64> = 0..=*PROCESSES.end() - 1;
/// Steps, runs or epochs that a benchmark times.
pub const TIMED: RangeInclusive<u64> = 1..=1_000_000;
/// Rows and columns of an image.
pub const IMAGE_SIZE: RangeInclusive<u64> = 4..=512;
/// Nobody looks at a trace of more steps.
pub const PROFILED: RangeInclusive<u64> = 1..=10_000;
/// As many as a data set may have.
pub const CLASSES: RangeInclusive<u64> = 1..=65_535;
/// The side of the largest images.
pub const CUTOUT: RangeInclusive<u64> = 0..=512;
/// More images than fit in memory.
pub const VALIDATION_SPLIT: RangeInclusive<u64> = 0..=999_999_999;
pub const TEST_INDEX: RangeInclusive<u64> = 0..=999_999_999;
/// The largest TPU slice has 8,960.
pub const CHIPS: RangeInclusive<u64> = 1..=10_000;

// The device computes in f32: these stay above 0, finite, and below 1 there.
pub const LEARNING_RATE: RangeInclusive<f64> = 1e-30..=1e30;
pub const MOMENTUM: RangeInclusive<f64> = 0.0..=0.999_999;
pub const L2: RangeInclusive<f64> = 0.0..=1e30;
/// Of a learning rate.
pub const MULTIPLE: RangeInclusive<f64> = 0.0..=1e6;
/// With 1 the labels would say nothing.
pub const SMOOTHING: RangeInclusive<f64> = 0.0..=0.999;

/// Alpha of a beta distribution. 1: uniform shares; near 0: hardly any mixing; large: nearly halves.
pub const MIX: RangeInclusive<f64> = 0.0..=100.0;

/// A parser of whole numbers in `range`.
pub fn whole<T: TryFrom<u64>>(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        let fitting = number.and_then(|number| T::try_from(number).ok());
        fitting.ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            format!("expected a whole number from {least} to {most}")
        })
    }
}

/// A parser of numbers in `range`.
pub fn real(
    range: RangeInclusive<f64>,
) -> impl Fn(&str) -> Result<f64, String> + Clone + Send + Sync + 'static {
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| format!("expected a number from {}", in_words(&range)))
    }
}

/// "1e-30 to 1e30".
pub fn in_words(range: &RangeInclusive<f64>) -> String {
    format!("{:?} to {:?}", range.start(), range.end())
}

/// Parses the layers of a network.
pub fn depth(text: &str) -> Result<usize, String> {
    let depth = text.parse().map_err(|_| wrong_depth())?;
    check_depth(depth).map(|()| depth)
}

/// Refuses a number of layers that no network has, and one whose table of tensors alone would fill the memory.
pub fn check_depth(depth: usize) -> Result<(), String> {
    if DEPTH.contains(&(depth as u64)) && Architecture::resnet_v2(depth).is_ok() {
        return Ok(());
    }
    Err(wrong_depth())
}

fn wrong_depth() -> String {
    let (least, most) = (DEPTH.start(), DEPTH.end());
    format!("expected 9n+2 (11, 20, 29, ... 164, ...) from {least} to {most}")
}
