//! Measures what the program does, on synthetic data: the content of `bench`.
//!
//! | file | job |
//! | --- | --- |
//! | `spread` | median and quartiles of timings |
//! | `step` | the training step of one configuration |

mod spread;
mod step;

pub use spread::Spread;
pub use step::{StepBench, StepReport, synthetic_batch};
