//! The optimisers of a build that traces nothing: what they keep, not how they step.

use crate::optimiser::slots;

/// An optimiser.
#[derive(Clone, Debug)]
pub struct Optimiser {
    slots: &'static [&'static str],
    needs_step_count: bool,
}

impl Optimiser {
    fn new(slots: &'static [&'static str]) -> Self {
        Self {
            slots,
            needs_step_count: false,
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
}

/// SGD with momentum.
pub fn sgd(_momentum: f32) -> Optimiser {
    Optimiser::new(slots::SGD)
}

/// [`sgd`] that looks ahead.
pub fn nesterov(_momentum: f32) -> Optimiser {
    Optimiser::new(slots::SGD)
}

pub fn muon(_momentum: f32, _rest: f32) -> Optimiser {
    Optimiser::new(slots::MUON)
}

pub fn adam(_momentum: f64) -> Optimiser {
    Optimiser {
        needs_step_count: true,
        ..Optimiser::new(slots::ADAM)
    }
}
