//! Traces in the format of chrome://tracing, which Perfetto reads too: what happened when, as bars within bars.

use std::time::Instant;

use serde_json::{Value, json};

/// What one thread did, from a moment on.
pub struct ChromeTrace {
    begin: Instant,
    events: Vec<Value>,
}

impl ChromeTrace {
    /// A trace of the thread `thread` that begins now.
    pub fn start(thread: &str) -> Self {
        let named = |what: &str, name: &str| json!({ "ph": "M", "pid": 1, "tid": 1, "name": what, "args": { "name": name } });
        Self {
            begin: Instant::now(),
            events: vec![
                named("process_name", env!("CARGO_PKG_NAME")),
                named("thread_name", thread),
            ],
        }
    }

    /// A bar `name` of the kind `category` from `begin` to `end`. What began before the trace did is drawn from its
    /// beginning on.
    pub fn bar(&mut self, category: &str, name: &str, begin: Instant, end: Instant) {
        let (begin, end) = (self.nanoseconds(begin), self.nanoseconds(end));
        self.events.push(json!({
            "ph": "X",
            "pid": 1,
            "tid": 1,
            "cat": category,
            "name": name,
            "ts": microseconds(begin),
            "dur": microseconds(end - begin),
        }));
    }

    /// Since the trace began.
    fn nanoseconds(&self, moment: Instant) -> u128 {
        moment.saturating_duration_since(self.begin).as_nanos()
    }

    /// The whole trace.
    pub fn to_json(&self) -> Value {
        json!({ "displayTimeUnit": "ms", "traceEvents": self.events })
    }
}

/// The format's unit, of which it takes fractions.
fn microseconds(nanoseconds: u128) -> f64 {
    nanoseconds as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn bars_are_in_microseconds_since_the_beginning() {
        let mut trace = ChromeTrace::start("loop");
        let after = |nanoseconds| trace.begin + Duration::from_nanos(nanoseconds);
        let (early, begin, end) = (
            trace.begin - Duration::from_millis(1),
            after(1_500),
            after(4_001_750),
        );
        trace.bar("work", "input", begin, end);
        trace.bar("work", "before", early, begin);
        let json = trace.to_json();
        let events = json["traceEvents"].as_array().unwrap();
        assert_eq!(events[1]["args"]["name"], "loop");
        assert_eq!(
            events[2],
            json!({ "ph": "X", "pid": 1, "tid": 1, "cat": "work", "name": "input", "ts": 1.5, "dur": 4000.25 })
        );
        assert_eq!(
            (&events[3]["ts"], &events[3]["dur"]),
            (&json!(0.0), &json!(1.5))
        );
    }
}
