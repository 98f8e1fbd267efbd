//! The learning rate of each step.

use std::fmt;
use std::str::FromStr;

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

/// How the learning rate changes over a run, one variant for each kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Schedule {
    StepDecay(StepDecay),
}

impl Schedule {
    /// The rate of the step that follows `step` steps, of `total` in the whole run.
    pub fn rate(&self, step: u64, _total: u64) -> f64 {
        match self {
            Self::StepDecay(decay) => decay.rate(step),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tutorials_schedule_drops_at_80_and_120() {
        let drops: LearningRateDrops = "80:0.01,120:0.001".parse().unwrap();
        let schedule = Schedule::StepDecay(StepDecay {
            first: 0.1,
            drops,
            steps_per_epoch: 390,
        });
        let rate = |step| schedule.rate(step, 39_000);
        assert_eq!([rate(0), rate(80 * 390 - 1)], [0.1, 0.1]);
        assert_eq!([rate(80 * 390), rate(120 * 390 - 1)], [0.01, 0.01]);
        assert_eq!([rate(120 * 390), rate(1_000_000)], [0.001, 0.001]);
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
