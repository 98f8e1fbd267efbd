//! How fast images are classified.

use std::ops::Range;
use std::time::{Duration, Instant};

use crate::model::summary::grouped;

/// The time since the network was done with the first batch, which waits for the compiler. What is printed of that batch
/// belongs to it: other batches go through the network meanwhile.
#[derive(Default)]
pub struct Pace {
    since: Option<Instant>,
    images: usize,
    in_network: Duration,
}

impl Pace {
    /// A batch is done; `in_network` is when the network had it.
    pub fn add(&mut self, images: usize, in_network: Range<Instant>) {
        if self.since.is_none() {
            self.since = Some(in_network.end);
            return;
        }
        self.images += images;
        self.in_network += in_network.end - in_network.start;
    }

    /// Says how fast it went until `now`, if there was more than one batch.
    pub fn log(&self, now: Instant) {
        let Some(took) = self.took(now) else {
            return;
        };
        log::info!(
            "{} images after the first batch in {took:.1} s, {:.0} a second; the network took {:.1} s of them",
            grouped(self.images),
            self.images as f64 / took,
            self.in_network.as_secs_f64()
        );
    }

    /// The seconds of all batches but the first, if there are some.
    fn took(&self, now: Instant) -> Option<f64> {
        let took = (now - self.since?).as_secs_f64();
        (self.images > 0 && took > 0.0).then_some(took)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_that_takes_nothing_for_a_while_counts() {
        let at = |start: Instant, seconds| start + Duration::from_secs(seconds);
        let start = Instant::now();
        let mut pace = Pace::default();
        // Compiled and classified in 2 s, and not printed before 9 s have gone.
        pace.add(32, start..at(start, 2));
        assert_eq!(pace.took(at(start, 9)), None);
        // Both were classified while the first was printed.
        pace.add(32, at(start, 2)..at(start, 3));
        pace.add(16, at(start, 3)..at(start, 4));
        assert_eq!(pace.took(at(start, 10)), Some(8.0));
        assert_eq!((pace.images, pace.in_network.as_secs()), (48, 2));
    }
}
