//! The plots of a run's accuracy and loss.

use anyhow::Result;

use crate::run::observer::{EpochEnd, Observer};
use crate::run::run_dir::RunDir;
use crate::show::plot::{self, Quantity, Run};

/// Redraws the curves after each epoch.
pub struct Curves<'a> {
    pub run_dir: &'a RunDir,
}

impl Observer for Curves<'_> {
    fn epoch_end(&mut self, end: &EpochEnd) -> Result<()> {
        let runs = [Run {
            name: "run",
            records: end.records,
        }];
        plot::save(&self.run_dir.accuracy_plot(), Quantity::Accuracy, &runs)?;
        plot::save(&self.run_dir.loss_plot(), Quantity::Loss, &runs)?;
        Ok(())
    }
}
