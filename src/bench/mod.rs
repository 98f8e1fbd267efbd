//! Measures what the program does, on synthetic data: the content of `bench`.
//!
//! | file | job |
//! | --- | --- |
//! | `build` | which program was measured |
//! | `host` | the host's side of training, as fast as it goes |
//! | `input` | the input pipeline |
//! | `ops` | each operation of the training step, in two formulations |
//! | `spread` | median and quartiles of timings |
//! | `step` | the training step of one configuration |

mod build;
mod host;
mod input;
mod ops;
mod spread;
mod step;

pub use build::Build;
pub use host::{HostBench, HostReport};
pub use input::{InputBench, InputReport, noise_records, noise_source};
pub use ops::{OpsBench, OpsReport, Pair};
pub use spread::Spread;
pub use step::{StepBench, StepReport, synthetic_batch};
