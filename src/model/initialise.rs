//! The first values of the training state.
//!
//! Each tensor has a random stream of its own, chosen by the seed and the tensor's name: the same
//! seed gives the same weights on every device, for any replica count and in any order of work.

use std::f64::consts::TAU;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use xla_graphs::table::Array;
use xla_graphs::{Init, Layout, TensorSpec, average};

use crate::model::state::HostState;

/// Where Keras cuts its truncated normal, in standard deviations.
const TRUNCATION: f64 = 2.0;
/// Standard deviation of a unit normal that is truncated at ±2: dividing by it gives the truncated
/// distribution the variance that was asked for.
const TRUNCATED_DEVIATION: f64 = 0.879_625_661_034_239_8;

/// The state that training starts from: kernels and gammas as Keras initialises them, momentum 0.
pub fn initial_state(layout: &Layout, seed: u64) -> HostState {
    let state = layout.state().par_iter();
    HostState::new(state.map(|tensor| values(tensor, seed)).collect())
}

/// `state`, with the average of each weight, where there is one, at the weight's value.
pub fn begin_averages(layout: &Layout, state: HostState) -> HostState {
    let Some(average) = layout.slot(average::SLOT) else {
        return state;
    };
    let mut arrays = layout.join(state.values());
    arrays[average.index()] = arrays[Array::Weights.index()].clone();
    HostState::new(layout.split(&arrays))
}

fn values(tensor: &TensorSpec, seed: u64) -> Vec<f32> {
    match tensor.init {
        Init::Zeros => vec![0.0; tensor.len()],
        Init::Ones => vec![1.0; tensor.len()],
        Init::HeNormal { fan_in } => {
            let deviation = (2.0 / fan_in as f64).sqrt() / TRUNCATED_DEVIATION;
            let mut stream = stream(tensor, seed);
            draw(tensor.len(), || deviation * truncated_normal(&mut stream))
        }
        Init::GlorotUniform { fan_in, fan_out } => {
            let limit = (6.0 / (fan_in + fan_out) as f64).sqrt();
            let mut stream = stream(tensor, seed);
            draw(tensor.len(), || limit * (2.0 * uniform(&mut stream) - 1.0))
        }
    }
}

fn draw(len: usize, mut next: impl FnMut() -> f64) -> Vec<f32> {
    (0..len).map(|_| next() as f32).collect()
}

fn stream(tensor: &TensorSpec, seed: u64) -> ChaCha8Rng {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update(&tensor.name);
    ChaCha8Rng::from_seed(hash.finalize().into())
}

/// Uniform in [0, 1), all 53 bits of the fraction.
fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// A unit normal (Box-Muller), drawn again until it lies within [`TRUNCATION`].
fn truncated_normal(rng: &mut ChaCha8Rng) -> f64 {
    loop {
        // 1 - u lies in (0, 1], where the logarithm is finite.
        let radius = (-2.0 * (1.0 - uniform(rng)).ln()).sqrt();
        let normal = radius * (TAU * uniform(rng)).cos();
        if normal.abs() <= TRUNCATION {
            return normal;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xla_graphs::ops::Lowering;
    use xla_graphs::table::Role;
    use xla_graphs::{Architecture, ResNet};

    fn tensor(name: &str, init: Init, dims: &[usize]) -> TensorSpec {
        TensorSpec {
            name: name.into(),
            dims: dims.to_vec(),
            init,
            role: Role::Weight { decays: true },
        }
    }

    fn moments(values: &[f32]) -> (f64, f64) {
        let count = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / count;
        let square = |v: &f32| (f64::from(*v) - mean).powi(2);
        (mean, values.iter().map(square).sum::<f64>() / count)
    }

    #[test]
    fn he_normal_has_variance_two_over_fan_in_and_stops_at_two_deviations() {
        let spec = tensor("k", Init::HeNormal { fan_in: 144 }, &[200_000]);
        let values = values(&spec, 7);
        let (mean, variance) = moments(&values);
        let expected: f64 = 2.0 / 144.0;
        // Five standard errors of each estimate.
        assert!(mean.abs() < 5.0 * (expected / 200_000.0).sqrt(), "{mean}");
        assert!(
            (variance / expected - 1.0).abs() < 5.0 * (2.0f64 / 200_000.0).sqrt(),
            "{variance}"
        );
        let limit = 2.0 * expected.sqrt() / 0.879_625_661_034_24;
        let largest = values.iter().fold(0f64, |m, v| m.max(f64::from(v.abs())));
        assert!(
            largest <= limit && largest > 0.99 * limit,
            "{largest} {limit}"
        );
    }

    #[test]
    fn glorot_uniform_fills_its_interval_evenly() {
        let init = Init::GlorotUniform {
            fan_in: 256,
            fan_out: 10,
        };
        let values = values(&tensor("d", init, &[100_000]), 7);
        let limit = (6.0f64 / 266.0).sqrt();
        let (mean, variance) = moments(&values);
        assert!(mean.abs() < 0.01 * limit, "{mean}");
        assert!(
            (variance / (limit * limit / 3.0) - 1.0).abs() < 0.02,
            "{variance}"
        );
        assert!(values.iter().all(|v| f64::from(v.abs()) <= limit));
    }

    #[test]
    fn the_first_values_are_those_of_a_second_implementation() {
        // tests/fixtures/initial_values.py prints them. No device, thread or replica count enters
        // into them: the arguments of `values` are all that they depend on.
        let architecture = Architecture::resnet_v2(164).unwrap();
        let network = ResNet::new(&architecture, 10, Lowering::Native).unwrap();
        let layout = Layout::new(network.tensors(), &["momentum"]);
        for (name, expected) in [
            (
                "conv_in/kernel",
                [
                    -0.269841246,
                    -0.059188793,
                    -0.112929768,
                    -0.409497047,
                    -0.247871611,
                    0.311444424,
                ],
            ),
            (
                "dense/kernel",
                [
                    -0.022270111,
                    -0.022130471,
                    0.135810123,
                    0.108485386,
                    -0.047186797,
                    0.041868672,
                ],
            ),
        ] {
            let spec = layout.network().iter().find(|t| t.name == name).unwrap();
            for (got, expected) in values(spec, 0).iter().zip(expected) {
                let error: f64 = f64::from(*got) - expected;
                assert!(error.abs() < 2e-8, "{name}: {got} {expected}");
            }
        }
    }

    #[test]
    fn averages_begin_with_the_weights_and_other_slots_with_zeros() {
        let architecture = Architecture::resnet_v2(11).unwrap();
        let network = ResNet::new(&architecture, 10, Lowering::Native).unwrap();
        let layout = Layout::new(network.tensors(), &["momentum", "average"]);
        let state = begin_averages(&layout, initial_state(&layout, 0));
        let value = |name: &str| {
            let index = layout.state().iter().position(|t| t.name == name).unwrap();
            &state.values()[index]
        };
        for name in ["conv_in/kernel", "bn_out/gamma", "dense/bias"] {
            assert_eq!(value(&format!("average/{name}")), value(name));
            assert!(value(&format!("momentum/{name}")).iter().all(|v| *v == 0.0));
        }
    }

    #[test]
    fn name_and_seed_choose_the_stream() {
        let init = Init::HeNormal { fan_in: 9 };
        let of = |name: &str, seed| values(&tensor(name, init, &[64]), seed);
        assert_eq!(of("a", 1), of("a", 1));
        assert_ne!(of("a", 1), of("b", 1));
        assert_ne!(of("a", 1), of("a", 2));
    }
}
