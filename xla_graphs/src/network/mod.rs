//! The networks.
//!
//! ```text
//!  architecture ─► resnet: stem ─► units ─► batch norm ─► pooling ─► dense ─► logits
//!   block           │               │
//!                   └─ parts ───────┴─ unit        BN-ReLU-convolution, several times, and a shortcut
//!                       │                 unit_loop   equal units, as a loop over one of them
//!                       └─ fused          both on the kernels of the CPU
//! ```
//!
//! Another network is another [`Architecture`]; another kind of unit is another [`Block`].

mod architecture;
mod block;
mod fused;
mod parts;
mod precision;
mod resnet;
mod unit;
mod unit_loop;

pub use architecture::{Architecture, Downsampling, Stage, Stem};
pub use block::Block;
pub use precision::Precision;
pub use resnet::{ResNet, Saved, Units};
pub use unit::{Layer, Shortcut, Unit};
