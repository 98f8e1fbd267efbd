//! First values for 3x3 kernels that pass their input on ("Dirac" kernels: Zagoruyko and Komodakis,
//! [DiracNets](https://arxiv.org/abs/1706.00388), 2017; PyTorch's `nn.init.dirac_`).

use xla_graphs::table::{FIRST_KERNEL, Role};
use xla_graphs::{Layout, TensorSpec};

use crate::model::state::HostState;

/// Rows and columns of a kernel.
const SIDE: usize = 3;

/// `state` with other values in each kernel `[3, 3, C, O]` of the network but the first: output channel c < min(C, O) is input
/// channel c. Where O is larger than C, the filters of the other channels stay as they are.
pub fn begin(layout: &Layout, state: HostState) -> HostState {
    let mut values = state.into_values();
    for (spec, kernel) in layout.state().iter().zip(&mut values) {
        if let Some([inputs, outputs]) = channels(spec) {
            pass_on(kernel, inputs, outputs);
        }
    }
    HostState::new(values)
}

/// The channels of `spec`, if it is a kernel that can pass them on.
fn channels(spec: &TensorSpec) -> Option<[usize; 2]> {
    match (spec.role, &spec.dims[..]) {
        (Role::Weight { .. }, &[SIDE, SIDE, inputs, outputs]) if spec.name != FIRST_KERNEL => {
            Some([inputs, outputs])
        }
        _ => None,
    }
}

fn pass_on(kernel: &mut [f32], inputs: usize, outputs: usize) {
    let both = inputs.min(outputs);
    for filters in kernel.chunks_exact_mut(outputs) {
        filters[..both].fill(0.0);
    }
    let centre = SIDE * SIDE / 2 * inputs;
    for c in 0..both {
        kernel[(centre + c) * outputs + c] = 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::initialise::initial_state;
    use xla_graphs::ops::Lowering;
    use xla_graphs::{Architecture, ResNet};

    /// What a 3x3 convolution with zeros around the image makes of one `[height, width, inputs]`.
    fn convolve(
        kernel: &[f32],
        image: &[f32],
        [height, width]: [usize; 2],
        inputs: usize,
    ) -> Vec<f32> {
        let outputs = kernel.len() / (SIDE * SIDE * inputs);
        let mut out = vec![0.0; height * width * outputs];
        for (i, j, a, b) in places(height, width) {
            let (y, x) = (i + a, j + b);
            if !(1..=height).contains(&y) || !(1..=width).contains(&x) {
                continue;
            }
            for c in 0..inputs {
                for o in 0..outputs {
                    let weight = kernel[((a * SIDE + b) * inputs + c) * outputs + o];
                    let pixel = image[((y - 1) * width + x - 1) * inputs + c];
                    out[(i * width + j) * outputs + o] += weight * pixel;
                }
            }
        }
        out
    }

    /// Each pixel with each place of a kernel.
    fn places(height: usize, width: usize) -> impl Iterator<Item = (usize, usize, usize, usize)> {
        let pixels = (0..height).flat_map(move |i| (0..width).map(move |j| (i, j)));
        pixels.flat_map(|(i, j)| {
            (0..SIDE * SIDE).map(move |place| (i, j, place / SIDE, place % SIDE))
        })
    }

    #[test]
    fn a_convolution_passes_on_the_channels_that_both_sides_have() {
        let (size, pixels) = ([3, 4], 12);
        for (inputs, outputs) in [(3, 3), (2, 5), (4, 3)] {
            let mut kernel = vec![0.5; SIDE * SIDE * inputs * outputs];
            pass_on(&mut kernel, inputs, outputs);
            let image: Vec<f32> = (0..pixels * inputs).map(|value| value as f32).collect();
            let out = convolve(&kernel, &image, size, inputs);
            let rows = out.chunks_exact(outputs).zip(image.chunks_exact(inputs));
            for (got, expected) in rows {
                let both = inputs.min(outputs);
                assert_eq!(got[..both], expected[..both], "{inputs} to {outputs}");
            }
            let others = kernel
                .chunks_exact(outputs)
                .flat_map(|row| &row[inputs.min(outputs)..]);
            assert!(others.into_iter().all(|value| *value == 0.5));
        }
    }

    #[test]
    fn only_the_3x3_kernels_of_the_units_change() {
        let architecture = Architecture::resnet_v2(11).unwrap();
        let network = ResNet::new(&architecture, 10, Lowering::Native).unwrap();
        let layout = Layout::new(network.tensors(), &["momentum"]);
        let random = initial_state(&layout, 0);
        let changed = begin(&layout, initial_state(&layout, 0));
        let mut names = Vec::new();
        for (index, spec) in layout.state().iter().enumerate() {
            if random.values()[index] != changed.values()[index] {
                names.push(spec.name.as_str());
            }
        }
        let expected = [1, 2, 3].map(|stage| format!("stage{stage}/unit01/conv2/kernel"));
        assert_eq!(names, expected);
    }
}
