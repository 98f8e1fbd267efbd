//! Where the time of an epoch or of the whole process went.

use std::time::Duration;

use serde::Serialize;

use crate::device::backend::Collectives;

/// What this process's part in collectives with other processes is in a step, on the average.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StepCollectives {
    pub count: f64,
    /// That this process gives.
    pub bytes: f64,
    /// Waiting for the others included.
    pub ms: f64,
    /// Of the time of a step.
    pub share: f64,
}

impl StepCollectives {
    /// Of `steps` steps that took `training`, with collectives `before` and `after` them.
    pub(super) fn of(
        before: Collectives,
        after: Collectives,
        steps: u64,
        training: Duration,
    ) -> Self {
        let steps = steps as f64;
        let time = (after.time - before.time).as_secs_f64();
        Self {
            count: (after.count - before.count) as f64 / steps,
            bytes: (after.bytes - before.bytes) as f64 / steps,
            ms: 1e3 * time / steps,
            share: time / training.as_secs_f64().max(f64::MIN_POSITIVE),
        }
    }
}

/// Where the time went, over an epoch or the whole process.
#[derive(Clone, Copy, Default)]
pub(super) struct Timing {
    pub images: u64,
    pub training: Duration,
    pub waited: Duration,
    /// In the last epoch that had steps.
    pub collectives: Option<StepCollectives>,
}

impl Timing {
    pub fn images_per_sec(&self) -> f64 {
        self.images as f64 / self.seconds()
    }

    pub fn input_wait_frac(&self) -> f64 {
        self.waited.as_secs_f64() / self.seconds()
    }

    /// Greater than 0 even for an epoch that was resumed after its last step.
    fn seconds(&self) -> f64 {
        self.training.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_collectives_of_an_epoch_are_shared_out_over_its_steps() {
        let collectives = |count, bytes, milliseconds| Collectives {
            count,
            bytes,
            time: Duration::from_millis(milliseconds),
        };
        let (before, after) = (collectives(5, 600, 10), collectives(13, 1600, 40));
        let told = StepCollectives::of(before, after, 4, Duration::from_millis(120));
        let expected = StepCollectives {
            count: 2.0,
            bytes: 250.0,
            ms: 7.5,
            share: 0.25,
        };
        assert_eq!(told, expected);
    }
}
