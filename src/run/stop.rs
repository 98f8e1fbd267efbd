//! Whether the run was asked to end: by a signal to this process, or to any of those that share it.

use anyhow::Result;

use crate::model::peers::{Peers, Said};
use crate::system::signals::{Signal, Signals};

/// Looks for the signal that ends the run. Several processes tell each other of theirs, and so find it at the same
/// step; what is told with one step is heard with the next, so that no device waits for it.
pub struct Stop<'a> {
    signals: Signals,
    peers: &'a Peers<'a>,
    said: Option<Said>,
    /// What all processes know.
    agreed: Option<Signal>,
}

impl<'a> Stop<'a> {
    pub fn new(signals: Signals, peers: &'a Peers<'a>) -> Self {
        Self {
            signals,
            peers,
            said: None,
            agreed: None,
        }
    }

    /// From now on a signal only shows in [`Self::asked`].
    pub fn watch(&self) {
        self.signals.watch();
    }

    /// The signal that ends the run, if one has come. Every process must ask equally often.
    pub fn asked(&mut self) -> Result<Option<Signal>> {
        let own = self.signals.received();
        if !self.peers.are_there() {
            return Ok(own);
        }
        if self.agreed.is_none() {
            let word = own.map_or(0, Signal::number);
            let before = self.said.replace(self.peers.tell(&[word])?);
            let heard = before.map(|said| said.read()).transpose()?;
            let mut heard = heard.into_iter().flatten().flatten();
            self.agreed = heard.find_map(Signal::of_number);
        }
        Ok(self.agreed)
    }
}
