//! The report of a run in progress.

use anyhow::Result;

use crate::data::{DatasetSpec, Validation};
use crate::run::observer::{EpochEnd, Observer};
use crate::run::run_dir::RunDir;
use crate::show::report;

/// Rewrites the page after each epoch.
pub struct Page<'a> {
    pub run_dir: &'a RunDir,
    pub spec: &'a DatasetSpec,
    pub validation: &'a Validation,
}

impl Observer for Page<'_> {
    fn epoch_end(&mut self, end: &EpochEnd) -> Result<()> {
        let path = self.run_dir.report();
        Ok(report::write(
            &path,
            self.run_dir,
            end.evaluation,
            self.spec,
            self.validation,
        )?)
    }
}
