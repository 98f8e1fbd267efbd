//! The kernels, their names, and the header of their plans.

/// Numbers in a plan's header: magic, version, kernel, length of the whole plan.
pub const HEADER: usize = 4;
/// The first number of every plan: "RNXL" in ASCII.
pub const MAGIC: i32 = 0x524e_584c;
/// Raise it whenever a plan, a result or the meaning of a kernel changes.
pub const VERSION: i32 = 7;

/// The name of the attribute that holds a call's plan, as an array of s32.
pub const PLAN: &str = "plan";

/// Channels that a kernel works on at a time. Each layer has a multiple of it.
pub const LANES: usize = 16;

/// The kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    LayerForward,
    LayerBackward,
    NormBackward,
    Unwritten,
    Inference,
}

impl Kernel {
    pub const ALL: [Self; 5] = [
        Self::LayerForward,
        Self::LayerBackward,
        Self::NormBackward,
        Self::Unwritten,
        Self::Inference,
    ];

    /// The name under which XLA knows the kernel.
    pub fn name(self) -> &'static str {
        match self {
            Self::LayerForward => "resnet_layer_forward",
            Self::LayerBackward => "resnet_layer_backward",
            Self::NormBackward => "resnet_norm_backward",
            Self::Unwritten => "resnet_unwritten",
            Self::Inference => "resnet_inference",
        }
    }
}
