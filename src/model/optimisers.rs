//! The optimisers that a user can choose.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use xla_graphs::optimiser::{self, Optimiser};

/// The kinds of optimisers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimiserKind {
    /// Momentum, as Keras's SGD
    #[default]
    Sgd,
    /// Nesterov momentum
    Nesterov,
    /// Orthogonal directions for hidden convolutions, Nesterov momentum for the rest
    Muon,
    /// Adam with decoupled weight decay: where they are not given, --weight-decay is 0.004 and --l2 is 0; --momentum is
    /// its first beta, the second 0.999
    Adamw,
}

impl OptimiserKind {
    /// The weight decay of AdamW where none is given: Keras's.
    pub const ADAMW_DECAY: f64 = 0.004;

    /// On the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sgd => "sgd",
            Self::Nesterov => "nesterov",
            Self::Muon => "muon",
            Self::Adamw => "adamw",
        }
    }
}

/// An optimiser with its settings.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimiserSettings {
    pub kind: OptimiserKind,
    pub momentum: f64,
    /// The learning rate of what Muon does not make orthogonal, as a multiple of that of the rest.
    pub rest_lr: f64,
}

impl OptimiserSettings {
    /// The tutorial's optimiser.
    pub fn sgd(momentum: f64) -> Self {
        Self {
            kind: OptimiserKind::Sgd,
            momentum,
            rest_lr: 1.0,
        }
    }

    /// Its rule.
    pub fn rule(self) -> Optimiser {
        let momentum = self.momentum as f32;
        match self.kind {
            OptimiserKind::Sgd => optimiser::sgd(momentum),
            OptimiserKind::Nesterov => optimiser::nesterov(momentum),
            OptimiserKind::Muon => optimiser::muon(momentum, self.rest_lr as f32),
            OptimiserKind::Adamw => optimiser::adam(self.momentum),
        }
    }
}
