//! Where the time of the first steps goes: on the host as a Chrome trace, on the devices as TensorBoard reads it.

use std::fs;
use std::io;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::device::Device;
use crate::run::observer::Observer;
use crate::run::run_dir::RunDir;
use crate::run::stopwatch::{Lap, Span};
use crate::show::chrome_trace::ChromeTrace;
use crate::show::tensorboard;
use crate::system::files;

/// Records a number of steps and writes what it has when they are over, or when the run ends before.
pub struct Profile<'a> {
    run_dir: &'a RunDir,
    /// Until it is written.
    recording: Option<Recording>,
}

/// The loop is one step ahead of the devices: a step's results are read in the course of the next.
struct Recording {
    steps: u64,
    host: ChromeTrace,
    /// None where the devices cannot be recorded.
    devices: Option<pjrt::Recording>,
    /// Number of the step that comes next, from 1 as users count them.
    next: u64,
    /// When the step before that one began, if it has not ended.
    begun: Option<Instant>,
    /// Steps that have ended on the host.
    ended: u64,
    /// Steps whose results were read: those have ended on the devices.
    read: u64,
}

impl<'a> Profile<'a> {
    /// Records `steps` steps of the run in `run_dir`, of which `done` steps are done.
    pub fn start(run_dir: &'a RunDir, device: &Device, steps: u64, done: u64) -> Self {
        let devices = device.record().inspect_err(|error| {
            log::info!(
                "--profile records the host alone; {}: {error}",
                device.description()
            );
        });
        let recording = Recording {
            steps,
            host: ChromeTrace::start("training loop"),
            devices: devices.ok(),
            next: done + 1,
            begun: None,
            ended: 0,
            read: 0,
        };
        Self {
            run_dir,
            recording: Some(recording),
        }
    }

    fn write(&mut self) {
        let Some(recording) = self.recording.take() else {
            return;
        };
        // The run is worth more than its profile.
        if let Err(error) = recording.write(self.run_dir) {
            log::warn!("the profile cannot be written: {error:#}");
        }
    }
}

impl Observer for Profile<'_> {
    fn span(&mut self, span: &Span) {
        if let Some(recording) = &mut self.recording {
            recording.add(span);
            if recording.is_over() {
                self.write();
            }
        }
    }

    fn finish(&mut self) {
        if let Some(recording) = &mut self.recording {
            recording.end_step(Instant::now());
        }
        self.write();
    }
}

impl Recording {
    fn add(&mut self, span: &Span) {
        match span.lap {
            Lap::Input => {
                self.end_step(span.begin);
                if self.ended < self.steps {
                    self.begun = Some(span.begin);
                    self.next += 1;
                }
            }
            // Behind an epoch's last step.
            Lap::Evaluation => self.end_step(span.begin),
            Lap::ReadBack => self.read += 1,
            _ => {}
        }
        let has_begun = self.begun.is_some() || self.ended > 0;
        if has_begun && self.ended < self.steps {
            self.host.bar("host", span.lap.name(), span.begin, span.end);
        }
    }

    fn end_step(&mut self, end: Instant) {
        if let Some(begin) = self.begun.take() {
            let name = format!("step {}", self.next - 1);
            self.host.bar("step", &name, begin, end);
            self.ended += 1;
        }
    }

    fn is_over(&self) -> bool {
        self.ended == self.steps && self.read >= self.steps
    }

    fn write(self, run_dir: &RunDir) -> Result<()> {
        let host = run_dir.profile();
        files::write_json(&host, &self.host.to_json())?;
        log::info!(
            "profile of {} steps: {} (chrome://tracing or Perfetto shows it)",
            self.ended,
            host.display()
        );
        let Some(devices) = self.devices else {
            return Ok(());
        };
        let recorded = devices.finish().context("from the devices")?;
        let folder = run_dir.device_profiles();
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        files::write_bytes(&run_dir.device_profile(&tensorboard::hostname()), &recorded)?;
        // Or TensorBoard, if it has shown an earlier profile of the run, goes on showing that one.
        let shown = run_dir.shown_profile();
        if let Err(error) = fs::remove_file(&shown)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error).with_context(|| format!("removing {}", shown.display()));
        }
        log::info!(
            "profile of the devices: tensorboard --logdir {} (with its profile plugin)",
            run_dir.events().display()
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::Value;

    use super::*;

    /// What is in the trace of `steps` steps when `laps`, a millisecond each, are behind: names with begin and end in
    /// milliseconds; and whether the recording is over.
    fn trace(steps: u64, laps: &[Lap]) -> (Vec<(String, f64, f64)>, bool) {
        let mut recording = Recording {
            steps,
            host: ChromeTrace::start("loop"),
            devices: None,
            next: 8,
            begun: None,
            ended: 0,
            read: 0,
        };
        let start = Instant::now();
        for (index, &lap) in laps.iter().enumerate() {
            let begin = start + Duration::from_millis(index as u64);
            let end = begin + Duration::from_millis(1);
            recording.add(&Span { lap, begin, end });
        }
        let json = recording.host.to_json();
        let events = json["traceEvents"].as_array().unwrap();
        let bars = events.iter().filter(|event| event["ph"] == "X");
        let bars: Vec<&Value> = bars.collect();
        let ms = |bar: &Value, key: &str| bar[key].as_f64().unwrap() / 1e3;
        let first = ms(bars[0], "ts");
        let bar = |bar: &&Value| {
            let begin = ms(bar, "ts") - first;
            let name = bar["name"].as_str().unwrap().to_owned();
            (name, begin.round(), (begin + ms(bar, "dur")).round())
        };
        (bars.iter().map(bar).collect(), recording.is_over())
    }

    fn bars(expected: &[(&str, f64, f64)]) -> Vec<(String, f64, f64)> {
        let bar = |(name, begin, end): &(&str, f64, f64)| ((*name).to_owned(), *begin, *end);
        expected.iter().map(bar).collect()
    }

    use Lap::{BetweenSteps, Checkpoint, Evaluation, Execute, Input, ReadBack, Upload};

    #[test]
    fn a_step_lasts_from_its_input_to_that_of_the_next() {
        let laps = [
            BetweenSteps,
            Input,
            Upload,
            Execute,
            Input,
            Execute,
            ReadBack,
            Input,
            Execute,
        ];
        let expected = bars(&[
            ("input", 0.0, 1.0),
            ("upload", 1.0, 2.0),
            ("execute", 2.0, 3.0),
            ("step 8", 0.0, 3.0),
            ("input", 3.0, 4.0),
            ("execute", 4.0, 5.0),
            ("read back", 5.0, 6.0),
            ("step 9", 3.0, 6.0),
        ]);
        assert_eq!(trace(2, &laps), (expected.clone(), false));
        // The second step ends on the devices in the course of the third.
        assert_eq!(
            trace(2, &[&laps[..], &[ReadBack]].concat()),
            (expected, true)
        );
    }

    #[test]
    fn the_last_step_of_an_epoch_ends_before_the_evaluation() {
        let laps = [
            Input, Execute, ReadBack, Evaluation, Checkpoint, Input, Execute,
        ];
        let expected = bars(&[
            ("input", 0.0, 1.0),
            ("execute", 1.0, 2.0),
            ("read back", 2.0, 3.0),
            ("step 8", 0.0, 3.0),
            ("evaluation", 3.0, 4.0),
            ("save", 4.0, 5.0),
            ("input", 5.0, 6.0),
            ("execute", 6.0, 7.0),
        ]);
        assert_eq!(trace(2, &laps), (expected, false));
    }
}
