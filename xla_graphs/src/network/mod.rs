//! The networks.
//!
//! ```text
//!  architecture ─► resnet: stem ─► units ─► batch norm ─► pooling ─► dense ─► logits
//!   block           │               │
//!   version         └─ parts ───────┴─ unit        convolutions with batch norms, and a shortcut: v1, v2
//!                       │                 unit_loop   equal units, as a loop over one of them
//!                       │                 kernel_sums a batch norm's sums from gradients of kernels
//!                       └─ fused          both on the kernels of the CPU
//! ```
//!
//! Another network is another [`Architecture`]; another kind of unit is another [`Block`].

#[cfg(feature = "trace")]
mod activation;
mod architecture;
mod block;
#[cfg(feature = "trace")]
mod fused;
#[cfg(feature = "trace")]
mod kernel_sums;
#[cfg(feature = "trace")]
mod parts;
mod precision;
mod resnet;
mod unit;
#[cfg(feature = "trace")]
mod unit_loop;
#[cfg(feature = "trace")]
mod v1;
#[cfg(feature = "trace")]
mod v2;
mod version;

pub use architecture::{Architecture, Downsampling, Stage, Stem};
pub use block::Block;
pub use precision::Precision;
#[cfg(feature = "trace")]
pub use resnet::Saved;
pub use resnet::{ResNet, Units};
pub use unit::{Layer, Shortcut, Unit};
pub use version::Version;
