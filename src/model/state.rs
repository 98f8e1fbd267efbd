//! The training state on the host: every tensor's values, in the order of the layout.

/// Values of all state tensors ([`xla_graphs::Layout::state`]), f32, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct HostState {
    values: Vec<Vec<f32>>,
}

impl HostState {
    /// A state with `values[i]` for the layout's tensor i.
    pub fn new(values: Vec<Vec<f32>>) -> Self {
        Self { values }
    }

    /// The values of each tensor, in the order of the layout.
    pub fn values(&self) -> &[Vec<f32>] {
        &self.values
    }

    /// The values themselves.
    pub fn into_values(self) -> Vec<Vec<f32>> {
        self.values
    }
}
