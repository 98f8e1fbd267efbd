//! The speed of an epoch, and the time that is left.

use std::time::{Duration, Instant};

/// Time between the plain lines of a long epoch.
pub const PLAIN_INTERVAL: Duration = Duration::from_secs(30);

/// The speed of a phase.
pub struct Pace {
    pub last_line: Instant,
    /// The first reported step, after which the speed is measured: it may be far into a resumed epoch, and it
    /// includes the warm-up.
    first: Option<(usize, Instant)>,
}

impl Pace {
    pub fn new(now: Instant) -> Self {
        Self {
            last_line: now,
            first: None,
        }
    }

    /// The time left, as text, after `done` of `steps` steps.
    pub fn eta(&mut self, done: usize, steps: usize, now: Instant) -> String {
        let (first_done, first_time) = *self.first.get_or_insert((done, now));
        if done <= first_done {
            return "-:--".to_owned();
        }
        let seconds_per_step = (now - first_time).as_secs_f64() / (done - first_done) as f64;
        minutes_and_seconds(seconds_per_step * steps.saturating_sub(done) as f64)
    }

    pub fn line_is_due(&mut self, now: Instant) -> bool {
        let due = now - self.last_line >= PLAIN_INTERVAL;
        if due {
            self.last_line = now;
        }
        due
    }
}

/// Seconds as m:ss, or h:mm:ss from an hour on.
fn minutes_and_seconds(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        _ => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, seconds: f64) -> Instant {
        start + Duration::from_secs_f64(seconds)
    }

    #[test]
    fn the_time_left_counts_from_the_first_step_that_was_seen() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        // A slow first step; then 10 steps in 5 s, and 20 steps to go.
        assert_eq!(pace.eta(1, 31, after(start, 60.0)), "-:--");
        assert_eq!(pace.eta(11, 31, after(start, 65.0)), "0:10");
        // Resumed at step 300 of 390.
        let mut pace = Pace::new(start);
        assert_eq!(pace.eta(301, 390, start), "-:--");
        assert_eq!(pace.eta(302, 390, after(start, 2.0)), "2:56");
    }

    #[test]
    fn a_plain_line_is_due_every_thirty_seconds() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let due: Vec<f64> = [0.0, 29.9, 30.0, 31.0, 59.0, 60.0, 95.0, 96.0]
            .into_iter()
            .filter(|&seconds| pace.line_is_due(after(start, seconds)))
            .collect();
        assert_eq!(due, [30.0, 60.0, 95.0]);
    }

    #[test]
    fn times_are_minutes_and_seconds_and_hours_from_an_hour_on() {
        assert_eq!(minutes_and_seconds(0.4), "0:00");
        assert_eq!(minutes_and_seconds(59.6), "1:00");
        assert_eq!(minutes_and_seconds(754.0), "12:34");
        assert_eq!(minutes_and_seconds(3661.0), "1:01:01");
    }
}
