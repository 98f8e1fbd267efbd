//! Measures on synthetic data how fast the program is, for `bench`.
//!
//! ```text
//!  noise ─┬─► input   records ─► batches, on one thread
//!         │   pictures: files of a user ─► batches, on one thread
//!         ├─► host    records ─► batches ─► device, as fast as the host can
//!         ├─► step    model::program: whole training steps
//!         └─► ops     each operation of a step by itself (where there is tracing)
//!                └──► spread: median and quartiles ─► a report with the program's build
//! ```
//!
//! | file | job |
//! | --- | --- |
//! | `build` | which program was measured |
//! | `host` | the host's side of training, as fast as it goes |
//! | `input` | the input pipeline |
//! | `ops` | each operation of the training step, in two formulations |
//! | `pictures` | the input pipeline on a user's pictures, decoding included |
//! | `spread` | median and quartiles of timings |
//! | `step` | the training step of one configuration |

mod build;
mod host;
mod input;
#[cfg(feature = "trace")]
mod ops;
mod pictures;
mod spread;
mod step;

pub use build::Build;
pub use host::{HostBench, HostReport};
pub use input::{InputBench, InputReport, NOISE_NORMALIZATION, noise_options, noise_records};
#[cfg(feature = "trace")]
pub use ops::{OpsBench, OpsReport, Pair};
pub use pictures::{PicturesBench, PicturesReport};
pub use spread::Spread;
pub use step::{StepBench, StepReport, synthetic_batch};
