//! The learning rate of each step: a schedule, and the warm-up before it.
//!
//! The formulas and where they are from: docs/numerics.md.

use std::f64::consts::FRAC_PI_2;
use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::system::limits::{EPOCHS, LEARNING_RATE, in_words};

/// The word for no drops.
const NONE: &str = "none";

/// Learning rates that replace the first one from given epochs on (epochs from 0), in order of
/// epoch. Written `80:0.01,120:0.001`; `none` or nothing for a constant rate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct LearningRateDrops(Vec<(usize, f64)>);

impl LearningRateDrops {
    /// The pairs of epoch and rate.
    pub fn iter(&self) -> impl Iterator<Item = (usize, f64)> + '_ {
        self.0.iter().copied()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Why a list of drops cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DropsError {
    #[error("`{drop}` is not of the form EPOCH:RATE, for example 80:0.01")]
    Form { drop: String },
    #[error("epoch {epoch} does not come after epoch {before}; list the drops in order of epoch")]
    Order { epoch: usize, before: usize },
    #[error("epoch {epoch}: expected 0 to {}", EPOCHS.end())]
    Epoch { epoch: u64 },
    #[error("learning rate {rate} at epoch {epoch}: expected {}", in_words(&LEARNING_RATE))]
    Rate { epoch: usize, rate: f64 },
}

impl FromStr for LearningRateDrops {
    type Err = DropsError;

    fn from_str(text: &str) -> Result<Self, DropsError> {
        if text == NONE {
            return Ok(Self::default());
        }
        let mut drops: Vec<(usize, f64)> = Vec::new();
        for drop in text.split(',').map(str::trim).filter(|d| !d.is_empty()) {
            let form = || DropsError::Form {
                drop: drop.to_owned(),
            };
            let (epoch, rate) = drop.split_once(':').ok_or_else(form)?;
            let epoch: u64 = epoch.trim().parse().map_err(|_| form())?;
            let rate: f64 = rate.trim().parse().map_err(|_| form())?;
            if epoch > *EPOCHS.end() {
                return Err(DropsError::Epoch { epoch });
            }
            let epoch = epoch as usize;
            if !LEARNING_RATE.contains(&rate) {
                return Err(DropsError::Rate { epoch, rate });
            }
            match drops.last() {
                Some(&(before, _)) if epoch <= before => {
                    return Err(DropsError::Order { epoch, before });
                }
                _ => drops.push((epoch, rate)),
            }
        }
        Ok(Self(drops))
    }
}

impl TryFrom<String> for LearningRateDrops {
    type Error = DropsError;

    fn try_from(text: String) -> Result<Self, DropsError> {
        text.parse()
    }
}

impl From<LearningRateDrops> for String {
    fn from(drops: LearningRateDrops) -> Self {
        drops.to_string()
    }
}

impl fmt::Display for LearningRateDrops {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for (index, (epoch, rate)) in self.0.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{epoch}:{rate}")?;
        }
        Ok(())
    }
}

/// Which schedule the learning rate follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleChoice {
    /// --lr, and from given epochs on the rates of --lr-drops
    Step,
    /// from --lr to 0 at the end of the last epoch, along half a cosine
    Cosine,
    /// up to --lr in the steps of --warmup (0: no rise), then to 0 at the end of the last epoch, in straight lines
    OneCycle,
    /// --lr in every step
    Constant,
}

impl ScheduleChoice {
    pub fn name(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Cosine => "cosine",
            Self::OneCycle => "one-cycle",
            Self::Constant => "constant",
        }
    }

    /// Whether the rates depend on how many steps the epochs have.
    pub fn ends_with_the_epochs(self) -> bool {
        matches!(self, Self::Cosine | Self::OneCycle)
    }
}

/// The learning rate of each step: a schedule behind a linear warm-up.
#[derive(Clone, Debug, PartialEq)]
pub struct LearningRate {
    /// Steps in which the rate rises to the schedule's. 0: none.
    pub warmup: u64,
    pub schedule: Schedule,
}

impl LearningRate {
    /// The rate of the step that follows `step` steps, of `total` in all epochs. `step` and the warm-up are below
    /// `total`.
    pub fn rate(&self, step: u64, total: u64) -> f64 {
        let falling = total - self.warmup;
        let left = (total - step).min(falling) as f64 / falling as f64;
        self.warmth(step) * self.schedule.rate(step, left)
    }

    /// The share of the schedule's rate that the warm-up lets through. Not 0 in the first step, which would be lost.
    fn warmth(&self, step: u64) -> f64 {
        match step < self.warmup {
            true => (step + 1) as f64 / self.warmup as f64,
            false => 1.0,
        }
    }
}

/// How the learning rate changes after the warm-up, one variant for each kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Schedule {
    Step(StepDecay),
    Cosine(Cosine),
    OneCycle(OneCycle),
    Constant(f64),
}

impl Schedule {
    /// The rate of the step that follows `step` steps. Of the steps after the warm-up, the share `left` is still to
    /// come, this step among them: 1 until the warm-up is over, and above 0 in the last step.
    fn rate(&self, step: u64, left: f64) -> f64 {
        match self {
            Self::Step(decay) => decay.rate(step),
            Self::Cosine(cosine) => cosine.rate(left),
            Self::OneCycle(line) => line.rate(left),
            Self::Constant(rate) => *rate,
        }
    }
}

/// A constant rate that drops at the beginning of given epochs.
#[derive(Clone, Debug, PartialEq)]
pub struct StepDecay {
    /// The rate until the first drop.
    pub first: f64,
    pub drops: LearningRateDrops,
    /// At least 1.
    pub steps_per_epoch: u64,
}

impl StepDecay {
    fn rate(&self, step: u64) -> f64 {
        let epoch = step / self.steps_per_epoch;
        let due = self
            .drops
            .iter()
            .take_while(|&(from, _)| from as u64 <= epoch);
        due.last().map_or(self.first, |(_, rate)| rate)
    }
}

/// Half a cosine from `peak` to 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Cosine {
    pub peak: f64,
}

impl Cosine {
    /// peak · (1 + cos(π · (1 − left))) / 2, as a square: that keeps its digits, and stays above 0, where the cosine
    /// comes close to −1.
    fn rate(&self, left: f64) -> f64 {
        self.peak * (FRAC_PI_2 * left).sin().powi(2)
    }
}

/// A straight line from `peak` to 0. With the warm-up before it, it is a triangle.
#[derive(Clone, Debug, PartialEq)]
pub struct OneCycle {
    pub peak: f64,
}

impl OneCycle {
    fn rate(&self, left: f64) -> f64 {
        self.peak * left
    }
}

/// A learning rate for people: 4 digits, and no long row of zeros.
pub fn in_short(rate: f64) -> String {
    let rounded: f64 = format!("{rate:.3e}").parse().unwrap_or(rate);
    match (1e-4..1e6).contains(&rounded) {
        true => rounded.to_string(),
        false => format!("{rounded:e}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::system::limits::ALL_STEPS;

    fn step_decay(drops: &str) -> Schedule {
        Schedule::Step(StepDecay {
            first: 0.1,
            drops: drops.parse().unwrap(),
            steps_per_epoch: 390,
        })
    }

    /// The schedules that never exceed their first rate, `peak`.
    fn schedules(peak: f64) -> [Schedule; 3] {
        [
            Schedule::Cosine(Cosine { peak }),
            Schedule::OneCycle(OneCycle { peak }),
            Schedule::Constant(peak),
        ]
    }

    #[test]
    fn the_tutorials_schedule_drops_at_80_and_120() {
        let learning_rate = LearningRate {
            warmup: 0,
            schedule: step_decay("80:0.01,120:0.001"),
        };
        let rate = |step| learning_rate.rate(step, 200 * 390);
        assert_eq!([rate(0), rate(80 * 390 - 1)], [0.1, 0.1]);
        assert_eq!([rate(80 * 390), rate(120 * 390 - 1)], [0.01, 0.01]);
        assert_eq!([rate(120 * 390), rate(200 * 390 - 1)], [0.001, 0.001]);
    }

    #[test]
    fn a_drop_within_the_warm_up_lowers_what_it_rises_to() {
        let learning_rate = LearningRate {
            warmup: 780,
            schedule: step_decay("1:0.01"),
        };
        let rate = |step| learning_rate.rate(step, 3900);
        assert_eq!([rate(389), rate(390)], [0.1 * 0.5, 0.01 * (391.0 / 780.0)]);
        assert_eq!([rate(779), rate(780)], [0.01, 0.01]);
    }

    /// Printed by tests/fixtures/learning_rates.py.
    #[test]
    fn cosine_and_one_cycle_are_as_keras_has_them() {
        let [cosine, line, _] = schedules(0.1);
        for (schedule, warmup, expected) in [
            (
                &cosine,
                0,
                [
                    0.10000000, 0.09755283, 0.09045085, 0.07938927, 0.06545085, 0.05000000,
                    0.03454914, 0.02061074, 0.00954915, 0.00244718,
                ],
            ),
            (
                &cosine,
                4,
                [
                    0.02500000, 0.05000000, 0.07500000, 0.10000000, 0.10000000, 0.09330127,
                    0.07500000, 0.05000000, 0.02500000, 0.00669873,
                ],
            ),
            (
                &line,
                0,
                [
                    0.10000000, 0.09000000, 0.08000001, 0.07000000, 0.06000000, 0.05000000,
                    0.04000000, 0.03000000, 0.02000000, 0.01000000,
                ],
            ),
            (
                &line,
                4,
                [
                    0.02500000, 0.05000000, 0.07500000, 0.10000000, 0.10000000, 0.08333334,
                    0.06666666, 0.05000000, 0.03333333, 0.01666667,
                ],
            ),
        ] {
            let learning_rate = LearningRate {
                warmup,
                schedule: schedule.clone(),
            };
            for (step, expected) in expected.into_iter().enumerate() {
                let got = learning_rate.rate(step as u64, 10);
                // Keras's f32, and the last digit printed.
                let apart: f64 = got - expected;
                assert!(
                    apart.abs() < 1.5e-8,
                    "{learning_rate:?}, step {step}: {got}"
                );
            }
        }
    }

    #[test]
    fn a_run_of_one_step_has_the_full_rate() {
        for schedule in schedules(0.3) {
            let learning_rate = LearningRate {
                warmup: 0,
                schedule,
            };
            assert_eq!(learning_rate.rate(0, 1), 0.3);
        }
    }

    proptest! {
        #[test]
        fn a_rate_rises_to_its_peak_without_a_jump_and_never_after(
            total in 2..=*ALL_STEPS.end(),
            share in 0.0..1.0f64,
            peak in 1e-30..1e30f64,
            at in prop::collection::vec(0.0..1.0f64, 20),
        ) {
            let warmup = ((total as f64 * share) as u64).min(total - 1);
            let mut steps = vec![0, warmup.saturating_sub(1), warmup, total - 1];
            steps.extend(at.iter().map(|at| ((total as f64 * at) as u64).min(total - 1)));
            steps.sort();
            for schedule in schedules(peak) {
                let learning_rate = LearningRate { warmup, schedule };
                let rate = |step: u64| learning_rate.rate(step, total);
                for &step in &steps {
                    prop_assert!(rate(step) > 0.0 && rate(step) <= peak, "step {}: {}", step, rate(step));
                }
                for pair in steps.windows(2) {
                    let (before, after) = (rate(pair[0]), rate(pair[1]));
                    // A sine may be off by its last digit.
                    let may_be = match (pair[0] < warmup, pair[1] < warmup) {
                        (_, true) => before <= after,
                        (false, false) => after <= before * (1.0 + 1e-15),
                        (true, false) => true,
                    };
                    prop_assert!(may_be, "steps {:?}: {}, {}", pair, before, after);
                }
                prop_assert_eq!(rate(warmup), peak);
                prop_assert!(warmup == 0 || rate(warmup - 1) == peak);
            }
        }
    }

    #[test]
    fn a_rate_is_shown_with_4_digits() {
        for (rate, shown) in [
            (0.1, "0.1"),
            (0.001, "0.001"),
            (0.1 * 0.75, "0.075"),
            (0.123456, "0.1235"),
            (1e-4, "0.0001"),
            (2.4671e-7, "2.467e-7"),
            (1e-30, "1e-30"),
            (1e30, "1e30"),
            (250.0, "250"),
        ] {
            assert_eq!(in_short(rate), shown);
        }
    }

    #[test]
    fn an_empty_list_keeps_the_rate() {
        for none in ["", "none"] {
            let decay = StepDecay {
                first: 0.3,
                drops: none.parse().unwrap(),
                steps_per_epoch: 10,
            };
            assert_eq!(decay.rate(500), 0.3);
        }
    }

    #[test]
    fn text_survives_a_round_trip() {
        let drops: LearningRateDrops = " 1:0.5, 20:1e-3 ".parse().unwrap();
        assert_eq!(drops.to_string(), "1:0.5,20:0.001");
        assert_eq!(drops.to_string().parse(), Ok(drops));
    }

    #[test]
    fn nonsense_is_refused_with_the_drop_that_is_wrong() {
        let error = |text: &str| text.parse::<LearningRateDrops>().unwrap_err();
        let form = |drop: &str| DropsError::Form { drop: drop.into() };
        assert_eq!(error("80"), form("80"));
        assert_eq!(error("80:0.01,x:1"), form("x:1"));
        assert_eq!(
            error("9:1,3:1"),
            DropsError::Order {
                epoch: 3,
                before: 9
            }
        );
        assert_eq!(
            error("3:-1"),
            DropsError::Rate {
                epoch: 3,
                rate: -1.0
            }
        );
        for rate in ["NaN", "inf", "0", "1e-320", "1e31"] {
            let refused = error(&format!("3:{rate}"));
            assert!(matches!(refused, DropsError::Rate { .. }), "{rate}");
        }
        let epoch = 4_294_967_296;
        assert_eq!(error("4294967296:0.1"), DropsError::Epoch { epoch });
    }
}
