//! Optimisers against second implementations in f64, and against Keras's own steps.

mod common;

use common::{Graph, Input, input};
use xla_graphs::average;
use xla_graphs::optimiser::{Optimiser, Update, adam, muon, nesterov, sgd};
use xla_graphs::table::Role;
use xla_graphs::{Init, TensorSpec};

const RATE: f64 = 0.1;
const MOMENTUM: f64 = 0.8;

fn tensor(name: &str, dims: &[usize]) -> TensorSpec {
    TensorSpec {
        name: name.to_owned(),
        dims: dims.to_vec(),
        init: Init::Zeros,
        role: Role::Weight { decays: true },
    }
}

/// The inputs, and weights and slots after each of two steps, with the gradients `g1` and `g2`.
fn two_steps(optimiser: &Optimiser, tensors: &[TensorSpec]) -> ([Vec<f64>; 3], [Vec<Vec<f64>>; 2]) {
    let len = tensors.iter().map(TensorSpec::len).sum();
    let inputs = ["w", "g1", "g2"].map(|name| input(name, &[len]));
    let wide = |values: &[f32]| values.iter().map(|v| f64::from(*v)).collect::<Vec<f64>>();
    let given = [0, 1, 2].map(|index| wide(&inputs[index].values));
    (given, two_steps_from(&inputs, optimiser, tensors))
}

/// Weights and slots after each of two steps from the `inputs` `w`, `g1` and `g2`.
fn two_steps_from(
    inputs: &[Input; 3],
    optimiser: &Optimiser,
    tensors: &[TensorSpec],
) -> [Vec<Vec<f64>>; 2] {
    let tensors: Vec<&TensorSpec> = tensors.iter().collect();
    let graph = Graph::new(inputs, |t| {
        let mut weights = t.get("w")?.clone();
        let mut slots = vec![weights.zeros_like()?; optimiser.slots().len()];
        let mut outputs = Vec::new();
        for (gradient, number) in [("g1", 1f32), ("g2", 2f32)] {
            let next = optimiser.update(&Update {
                tensors: &tensors,
                weights: &weights,
                slots: &slots,
                gradient: t.get(gradient)?,
                learning_rate: &weights.builder().c0(RATE as f32)?,
                step_count: Some(&weights.builder().c0(number)?),
            })?;
            (weights, slots) = (next.weights, next.slots);
            outputs.push(weights.clone());
            outputs.extend(slots.clone());
        }
        Ok(outputs)
    });
    let wide = |values: &Vec<f32>| values.iter().map(|v| f64::from(*v)).collect::<Vec<f64>>();
    let outputs: Vec<Vec<f64>> = graph.run(inputs).iter().map(wide).collect();
    let (first, second) = outputs.split_at(outputs.len() / 2);
    [first.to_vec(), second.to_vec()]
}

fn assert_near(what: &str, got: &[f64], expected: &[f64], bound: f64) {
    assert_eq!(got.len(), expected.len());
    for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert!(
            (got - expected).abs() < bound,
            "{what}[{index}]: {got}, expected {expected}"
        );
    }
}

/// Printed by tests/fixtures/optimiser_steps.py.
#[test]
fn two_steps_are_those_that_keras_takes() {
    let tensors = [tensor("a/kernel", &[4])];
    let values = |name, values: [f32; 4]| Input {
        name,
        dims: vec![4],
        values: values.to_vec(),
    };
    let inputs = [
        values("w", [0.5, -0.25, 0.125, 1.0]),
        values("g1", [0.1, -0.2, 0.3, -0.4]),
        values("g2", [-0.05, 0.15, 0.25, 0.35]),
    ];
    for (optimiser, expected) in [
        (
            sgd(MOMENTUM as f32),
            [
                [0.49000001, -0.23000000, 0.09500000, 1.03999996],
                [0.48700002, -0.22900000, 0.04600000, 1.03699994],
            ],
        ),
        (
            nesterov(MOMENTUM as f32),
            [
                [0.48199999, -0.21400000, 0.07099999, 1.07200003],
                [0.48460001, -0.22820000, 0.00679999, 1.03460002],
            ],
        ),
        (
            adam(MOMENTUM),
            [
                [0.40000379, -0.15000221, 0.02500168, 1.09999859],
                [0.37891957, -0.14685936, -0.07358440, 1.09556389],
            ],
        ),
    ] {
        let steps = two_steps_from(&inputs, &optimiser, &tensors);
        for (got, expected) in steps.iter().zip(expected) {
            // Keras loses digits of 1 - 0.999^t in f32: Adam's steps of 0.1 are off by 1e-5 of their size.
            assert_near("weight", &got[0], &expected, 2e-6);
        }
    }
}

#[test]
fn nesterov_looks_ahead_as_keras_does() {
    let tensors = [tensor("a/kernel", &[3, 5])];
    let ([w, g1, g2], [first, second]) = two_steps(&nesterov(MOMENTUM as f32), &tensors);
    // Keras: velocity = momentum * velocity - rate * g; w = w + momentum * velocity - rate * g.
    let mut weights = w;
    let mut velocity = vec![0.0; weights.len()];
    for (g, got) in [(g1, first), (g2, second)] {
        for index in 0..weights.len() {
            velocity[index] = MOMENTUM * velocity[index] - RATE * g[index];
            weights[index] += MOMENTUM * velocity[index] - RATE * g[index];
        }
        assert_near("weight", &got[0], &weights, 1e-6);
        assert_near("velocity", &got[1], &velocity, 1e-6);
    }
}

#[test]
fn adam_divides_by_the_size_of_its_gradients_as_keras_does() {
    let tensors = [tensor("a/kernel", &[3, 5])];
    let ([w, g1, g2], [first, second]) = two_steps(&adam(MOMENTUM), &tensors);
    let mut weights = w;
    let (mut m, mut v) = (vec![0.0; weights.len()], vec![0.0; weights.len()]);
    for (t, g, got) in [(1, g1, first), (2, g2, second)] {
        // Keras: alpha = rate * sqrt(1 - b2^t) / (1 - b1^t); w = w - alpha * m / (sqrt(v) + 1e-7).
        let rate = RATE * (1.0 - 0.999f64.powi(t)).sqrt() / (1.0 - MOMENTUM.powi(t));
        for index in 0..weights.len() {
            m[index] += (1.0 - MOMENTUM) * (g[index] - m[index]);
            v[index] += (1.0 - 0.999) * (g[index] * g[index] - v[index]);
            weights[index] -= rate * m[index] / (v[index].sqrt() + 1e-7);
        }
        assert_near("weight", &got[0], &weights, 1e-6);
        assert_near("first moment", &got[1], &m, 1e-6);
        assert_near("second moment", &got[2], &v, 1e-7);
    }
}

#[test]
fn an_average_that_equals_the_weights_stays_as_it_is() {
    let inputs = [input("w", &[1000])];
    for kept in [0.5, 0.9, 0.999, 0.999_999] {
        let graph = Graph::new(&inputs, |t| {
            Ok(vec![average::moved(t.get("w")?, t.get("w")?, kept)?])
        });
        assert_eq!(graph.run(&inputs)[0], inputs[0].values, "{kept}");
    }
}

/// A matrix as rows.
type Matrix = Vec<Vec<f64>>;

fn product(a: &Matrix, b: &Matrix) -> Matrix {
    let cell = |row: &Vec<f64>, j: usize| (0..b.len()).map(|k| row[k] * b[k][j]).sum();
    a.iter()
        .map(|row| (0..b[0].len()).map(|j| cell(row, j)).collect())
        .collect()
}

fn transposed(a: &Matrix) -> Matrix {
    (0..a[0].len())
        .map(|j| a.iter().map(|row| row[j]).collect())
        .collect()
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|v| v * v).sum::<f64>().sqrt()
}

/// Three Newton-Schulz rounds of X Xᵀ, whatever the shape: the same map of singular values.
fn orthogonal(flat: &[f64], columns: usize) -> Vec<f64> {
    let size = norm(flat);
    let mut x: Matrix = flat
        .chunks(columns)
        .map(|row| row.iter().map(|v| v / size).collect())
        .collect();
    for _ in 0..3 {
        let a = product(&x, &transposed(&x));
        let (ax, aax) = (product(&a, &x), product(&a, &product(&a, &x)));
        for (i, row) in x.iter_mut().enumerate() {
            for (j, value) in row.iter_mut().enumerate() {
                *value = 3.4445 * *value - 4.7750 * ax[i][j] + 2.0315 * aax[i][j];
            }
        }
    }
    x.concat()
}

#[test]
fn muon_turns_hidden_kernels_by_orthogonal_matrices_and_moves_the_rest_as_nesterov() {
    let tensors = [
        // More rows than columns, fewer, as many inputs as the first convolution, that one, the classifier, a vector.
        tensor("tall/kernel", &[3, 3, 2, 4]),
        tensor("wide/kernel", &[1, 1, 4, 6]),
        tensor("narrow/kernel", &[3, 3, 3, 3]),
        tensor("conv_in/kernel", &[3, 3, 3, 4]),
        tensor("dense/kernel", &[6, 5]),
        tensor("dense/bias", &[5]),
    ];
    let ([w, g1, g2], [first, second]) = two_steps(&muon(MOMENTUM as f32, 2.0), &tensors);
    let mut weights = w;
    let mut velocity = vec![0.0; weights.len()];
    for (g, got) in [(g1, first), (g2, second)] {
        let mut direction = Vec::new();
        for (v, g) in velocity.iter_mut().zip(&g) {
            *v = MOMENTUM * *v + g;
            direction.push(g + MOMENTUM * *v);
        }
        let mut start = 0;
        for tensor in &tensors {
            let part = start..start + tensor.len();
            let (w, d) = (&mut weights[part.clone()], &direction[part]);
            start += tensor.len();
            let (scale, step): (f64, Vec<f64>) = match tensor.name.as_str() {
                "tall/kernel" | "wide/kernel" | "narrow/kernel" => {
                    let columns = tensor.dims[3];
                    ((columns as f64).sqrt() / norm(w), orthogonal(d, columns))
                }
                _ => (1.0, d.iter().map(|d| 2.0 * d).collect()),
            };
            for (w, step) in w.iter_mut().zip(step) {
                *w = *w * scale - RATE * step;
            }
        }
        assert_near("weight", &got[0], &weights, 1e-5);
        assert_near("velocity", &got[1], &velocity, 1e-5);
    }
}
