//! What all optimisers share.

use std::fmt;
use std::sync::Arc;

use xla::XlaOp;

use crate::error::Result;
use crate::table::TensorSpec;

/// What an optimiser is given in a step. All arrays are flat and have a value for each weight.
pub struct Update<'a> {
    /// The tensors that lie one after another in each of the arrays.
    pub tensors: &'a [&'a TensorSpec],
    pub weights: &'a XlaOp,
    /// In the order of [`Optimiser::slots`].
    pub slots: &'a [XlaOp],
    pub gradient: &'a XlaOp,
    /// A scalar.
    pub learning_rate: &'a XlaOp,
    /// The number of the step, from 1, a scalar. Present if [`Optimiser::needs_step_count`].
    pub step_count: Option<&'a XlaOp>,
}

/// The arrays after a step.
pub struct Updated {
    pub weights: XlaOp,
    /// In the order of [`Optimiser::slots`].
    pub slots: Vec<XlaOp>,
}

type Rule = dyn Fn(&Update) -> Result<Updated> + Send + Sync;

/// An optimiser with its settings.
#[derive(Clone)]
pub struct Optimiser {
    name: &'static str,
    slots: &'static [&'static str],
    needs_step_count: bool,
    rule: Arc<Rule>,
}

impl Optimiser {
    /// The optimiser that keeps `slots`, whose values begin at 0, and that steps by `rule`.
    pub fn new(
        name: &'static str,
        slots: &'static [&'static str],
        rule: impl Fn(&Update) -> Result<Updated> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name,
            slots,
            needs_step_count: false,
            rule: Arc::new(rule),
        }
    }

    /// The same optimiser, whose rule reads [`Update::step_count`].
    pub fn with_step_count(self) -> Self {
        Self {
            needs_step_count: true,
            ..self
        }
    }

    /// The names of its slots. A slot's tensor for a weight is called `<slot>/<weight>`.
    pub fn slots(&self) -> &'static [&'static str] {
        self.slots
    }

    /// Whether a training step has the number of the step among its inputs.
    pub fn needs_step_count(&self) -> bool {
        self.needs_step_count
    }

    /// The weights and slots after a step.
    pub fn update(&self, update: &Update) -> Result<Updated> {
        (self.rule)(update)
    }
}

impl fmt::Debug for Optimiser {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name)
    }
}
