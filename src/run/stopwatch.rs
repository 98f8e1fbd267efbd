//! Where the time goes: a stopwatch that always runs in exactly one lap.

use std::time::{Duration, Instant};

use serde::Serialize;

/// What the loop can be doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lap {
    /// Waiting for the next batch.
    Input,
    /// Copying a batch to the devices, or starting to.
    Upload,
    /// In the training step's executable. A device that works on its own only starts it here.
    Execute,
    /// Waiting for a step's results, and reading them.
    ReadBack,
    /// Between training steps: progress, signals.
    BetweenSteps,
    Evaluation,
    /// Copying checkpoints off the device.
    Checkpoint,
    /// Plots, events, report.
    Report,
}

const LAPS: usize = 8;

impl Lap {
    /// What the loop does, in the words of a trace.
    pub fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Upload => "upload",
            Self::Execute => "execute",
            Self::ReadBack => "read back",
            Self::BetweenSteps => "between steps",
            Self::Evaluation => "evaluation",
            Self::Checkpoint => "save",
            Self::Report => "report",
        }
    }
}

/// A lap that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub lap: Lap,
    pub begin: Instant,
    pub end: Instant,
}

/// Adds up the time spent in each [`Lap`].
#[derive(Clone, Debug)]
pub struct Stopwatch {
    spent: [Duration; LAPS],
    lap: Lap,
    since: Instant,
    /// The first training step's executable.
    first_step: Option<Span>,
}

impl Stopwatch {
    /// Starts in [`Lap::BetweenSteps`].
    pub fn start() -> Self {
        Self {
            spent: [Duration::ZERO; LAPS],
            lap: Lap::BetweenSteps,
            since: Instant::now(),
            first_step: None,
        }
    }

    /// Ends the current lap and begins `lap`. Returns the one that ended, so that the caller can go back to it.
    pub fn switch(&mut self, lap: Lap) -> Span {
        let ended = Span {
            lap: self.lap,
            begin: self.since,
            end: Instant::now(),
        };
        self.spent[ended.lap as usize] += ended.end - ended.begin;
        self.since = ended.end;
        self.lap = lap;
        if ended.lap == Lap::Execute {
            self.first_step.get_or_insert(ended);
        }
        ended
    }

    /// The first [`Lap::Execute`], once it has ended.
    pub fn first_step(&self) -> Option<Span> {
        self.first_step
    }

    /// The time spent in `lap`, not counting the current lap.
    pub fn spent(&self, lap: Lap) -> Duration {
        self.spent[lap as usize]
    }
}

/// Where the time of this process went, in seconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct TimingSplit {
    /// Waiting for the next batch.
    pub input_s: f64,
    /// In the training step's executable, or waiting for its results.
    pub compute_s: f64,
    /// Between training steps: uploading batches, progress, signals. A device that works on its own
    /// runs the previous step meanwhile.
    pub between_steps_s: f64,
    pub evaluation_s: f64,
    /// Copying checkpoints off the device.
    pub checkpoint_s: f64,
    /// Plots, events and report.
    pub report_s: f64,
}

impl From<&Stopwatch> for TimingSplit {
    fn from(watch: &Stopwatch) -> Self {
        let seconds = |lap| watch.spent(lap).as_secs_f64();
        Self {
            input_s: seconds(Lap::Input),
            compute_s: seconds(Lap::Execute) + seconds(Lap::ReadBack),
            between_steps_s: seconds(Lap::Upload) + seconds(Lap::BetweenSteps),
            evaluation_s: seconds(Lap::Evaluation),
            checkpoint_s: seconds(Lap::Checkpoint),
            report_s: seconds(Lap::Report),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_moment_belongs_to_one_lap() {
        let begin = Instant::now();
        let mut watch = Stopwatch::start();
        let started = watch.since;
        let first = watch.switch(Lap::Input);
        assert_eq!((first.lap, first.begin), (Lap::BetweenSteps, started));
        let second = watch.switch(Lap::Execute);
        assert_eq!((second.lap, second.begin), (Lap::Input, first.end));
        assert_eq!(watch.first_step(), None);
        let step = watch.switch(Lap::Checkpoint);
        assert_eq!(watch.switch(step.lap).lap, Lap::Checkpoint);
        watch.switch(Lap::Report);
        assert_eq!(watch.first_step(), Some(step));
        // The laps follow each other without a gap, so they add up to the whole.
        let sum: Duration = watch.spent.iter().sum();
        assert_eq!(sum, watch.since - started);
        assert!(sum <= begin.elapsed());
    }
}
