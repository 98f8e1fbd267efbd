//! How fast images are classified.

use std::time::{Duration, Instant};

use crate::model::summary::grouped;

/// The time since the first batch, which waits for the compiler.
#[derive(Default)]
pub struct Pace {
    since: Option<Instant>,
    images: usize,
    in_network: Duration,
}

impl Pace {
    /// A batch is done; the network took so long for it.
    pub fn add(&mut self, images: usize, in_network: Duration) {
        if self.since.is_none() {
            self.since = Some(Instant::now());
            return;
        }
        self.images += images;
        self.in_network += in_network;
    }

    /// Says how fast it went, if there was more than one batch.
    pub fn log(&self) {
        let took = self.since.map(|since| since.elapsed().as_secs_f64());
        let Some(took) = took.filter(|took| self.images > 0 && *took > 0.0) else {
            return;
        };
        log::info!(
            "{} images after the first batch in {took:.1} s, {:.0} a second; the network took {:.1} s of them",
            grouped(self.images),
            self.images as f64 / took,
            self.in_network.as_secs_f64()
        );
    }
}
