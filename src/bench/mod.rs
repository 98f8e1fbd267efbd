//! Measures what the program does, on synthetic data: the content of `bench`.
//!
//! | file | job |
//! | --- | --- |
//! | `host` | the host's side of training, as fast as it goes |
//! | `input` | the input pipeline |
//! | `spread` | median and quartiles of timings |
//! | `step` | the training step of one configuration |

mod host;
mod input;
mod spread;
mod step;

pub use host::{HostBench, HostReport};
pub use input::{InputBench, InputReport, noise_records, noise_source};
pub use spread::Spread;
pub use step::{StepBench, StepReport, synthetic_batch};
