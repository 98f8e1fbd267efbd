//! Everything that shapes the computations of a run.

use crate::average;
use crate::collective::Replicas;
use crate::network::ResNet;
use crate::optimiser::Optimiser;
use crate::table::{IMAGE_CHANNELS, Layout};

/// Everything that shapes the computations.
#[derive(Clone, Debug)]
pub struct Model {
    pub network: ResNet,
    /// Images a replica sees in one step.
    pub batch: usize,
    /// Side of the square images.
    pub image_side: usize,
    /// Programs that run side by side and share one update.
    pub replicas: Replicas,
    /// Whether batch statistics cover all replicas, or each replica its own images.
    pub sync_batch_norm: bool,
    /// Share of the old value that a moving statistic keeps at each step.
    pub bn_momentum: f64,
    pub l2: f32,
    /// Share of a label's weight that is spread over all classes, 0 for none.
    pub label_smoothing: f32,
    /// Whether each image of a training step is mixed of two, and has two labels.
    pub mixes_labels: bool,
    pub optimiser: Optimiser,
    /// Decoupled weight decay of the kernels, 0 for none.
    pub weight_decay: f32,
    /// Share of the old value that the average of the weights keeps at each step, if there is one.
    pub averaging: Option<f64>,
}

/// Values in the metrics vector that [`train_step`](crate::train_step) and [`eval_step`](crate::eval_step) return, f32 each.
pub mod metrics {
    /// Sum of the cross-entropies of the batch's images.
    pub const CROSS_ENTROPY_SUM: usize = 0;
    /// Images whose largest logit is the label's.
    pub const CORRECT: usize = 1;
    /// Images counted.
    pub const COUNT: usize = 2;
    /// The L2 penalty of the weights that the step was given.
    pub const PENALTY: usize = 3;
    /// Length of the vector.
    pub const LEN: usize = 4;
}

impl Model {
    /// The ordered table of state tensors.
    pub fn layout(&self) -> Layout {
        let mut slots = self.optimiser.slots().to_vec();
        slots.extend(self.averaging.map(|_| average::SLOT));
        Layout::new(self.network.tensors(), &slots)
    }

    /// Images that all replicas together see in one step.
    pub fn global_batch(&self) -> usize {
        self.batch * self.replicas.0
    }

    /// Dimensions of one replica's images: `[N, H, W, 3]`.
    pub fn image_dims(&self) -> [usize; 4] {
        [self.batch, self.image_side, self.image_side, IMAGE_CHANNELS]
    }

    pub(crate) fn batch_norm_replicas(&self) -> Replicas {
        if self.sync_batch_norm {
            self.replicas
        } else {
            Replicas(1)
        }
    }
}
