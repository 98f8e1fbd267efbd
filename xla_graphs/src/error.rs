//! What can go wrong while a graph is traced.

use kernel_contract::PlanError;

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, GraphError>;

/// An error met while tracing a network.
#[derive(Debug, thiserror::Error)]
pub enum GraphError {
    /// The requested depth belongs to no network of the family.
    #[error(
        "depth {got} is not of the form 9n+2 with n >= 1 (pre-activation bottleneck network); \
         use for example 11, 20, 29, 56, 110, 164 or 1001"
    )]
    Depth { got: usize },

    /// Numbers of which there is no network.
    #[error("the network's {what}: expected {expected}, got {got}")]
    Shape {
        what: &'static str,
        expected: String,
        got: String,
    },

    /// A layer asked for a tensor that the layout does not have.
    #[error("tensor `{name}` is not among the {known} tensors of this computation")]
    MissingTensor { name: String, known: usize },

    /// A flat array would have no element.
    #[error("the network has no tensor of this kind to put into an array")]
    NoTensors,

    /// The training step has no such input ([`crate::Optimiser::needs_step_count`]).
    #[error("the optimiser needs the number of the step, which it was not given")]
    NoStepCount,

    /// A tensor has more or fewer axes than an operation takes.
    #[error("expected dimensions {expected}, got {got:?}")]
    Rank {
        expected: &'static str,
        got: Vec<usize>,
    },

    /// A network, or a stage of it, is empty.
    #[error("{what}: expected at least one {of}, got none")]
    Empty { what: String, of: &'static str },

    /// A value does not hold the tensors that it is read as.
    #[error("the tensors from `{first}` on: expected {expected}, got {got}")]
    Block {
        first: String,
        expected: String,
        got: String,
    },

    /// A kernel of the CPU would read past the end of an array.
    #[error("`{layer}`: {what} needs {expected} values of its array, which has {got}")]
    Bounds {
        layer: String,
        what: &'static str,
        expected: usize,
        got: usize,
    },

    /// No kernel of the CPU computes the layer.
    #[error("`{layer}` as a call of {kernel}: {reason}. Lowering::Dots has no such limit")]
    Kernel {
        layer: String,
        kernel: &'static str,
        reason: PlanError,
    },

    /// The crate was built without the feature `trace`.
    #[error("this build traces no computations; it runs those that `export --program` wrote")]
    NoTracing,
    /// XLA's own form of a computation has changed.
    #[error(
        "XLA describes the computation in another way than this program knows; build it with the runtime that ./setup \
         puts in place"
    )]
    Proto,

    /// XLA refused an operation; the message is XLA's own.
    #[error("XLA: {0}")]
    Xla(String),
}

#[cfg(feature = "trace")]
impl From<xla::Error> for GraphError {
    fn from(error: xla::Error) -> Self {
        // The binding's own text appends a C++ backtrace that says nothing about our graph.
        match error {
            xla::Error::XlaError { msg, .. } => Self::Xla(msg),
            other => Self::Xla(other.to_string()),
        }
    }
}
