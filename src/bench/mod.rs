//! Measures what the program does, on synthetic data: the content of `bench`.
//!
//! | file | job |
//! | --- | --- |
//! | `input` | the input pipeline |
//! | `spread` | median and quartiles of timings |
//! | `step` | the training step of one configuration |

mod input;
mod spread;
mod step;

pub use input::{InputBench, InputReport};
pub use spread::Spread;
pub use step::{StepBench, StepReport, synthetic_batch};
