//! Optimisers against second implementations in f64.

mod common;

use common::{Graph, Input, input};
use xla_graphs::optimiser::{Optimiser, Update, muon, nesterov};
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

/// Weights and slot after each of two steps, with the gradients `g1` and `g2`; and the inputs.
fn two_steps(optimiser: &Optimiser, tensors: &[TensorSpec]) -> ([Vec<f64>; 3], [[Vec<f64>; 2]; 2]) {
    let len = tensors.iter().map(TensorSpec::len).sum();
    let tensors: Vec<&TensorSpec> = tensors.iter().collect();
    let inputs: Vec<Input> = ["w", "g1", "g2"].map(|name| input(name, &[len])).to_vec();
    let graph = Graph::new(&inputs, |t| {
        let weights = t.get("w")?;
        let mut state = [weights.clone(), weights.zeros_like()?];
        let mut outputs = Vec::new();
        for gradient in ["g1", "g2"] {
            let next = optimiser.update(&Update {
                tensors: &tensors,
                weights: &state[0],
                slots: &state[1..],
                gradient: t.get(gradient)?,
                learning_rate: &weights.builder().c0(RATE as f32)?,
                step_count: None,
            })?;
            state = [next.weights, next.slots[0].clone()];
            outputs.extend(state.clone());
        }
        Ok(outputs)
    });
    let wide = |values: &Vec<f32>| values.iter().map(|v| f64::from(*v)).collect::<Vec<f64>>();
    let [w1, v1, w2, v2] = graph.run(&inputs).try_into().unwrap();
    let given = [0, 1, 2].map(|index| wide(&inputs[index].values));
    (given, [[wide(&w1), wide(&v1)], [wide(&w2), wide(&v2)]])
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

#[test]
fn nesterov_looks_ahead_as_keras_does() {
    let tensors = [tensor("a/kernel", &[3, 5])];
    let ([w, g1, g2], [first, second]) = two_steps(&nesterov(MOMENTUM as f32), &tensors);
    // Keras: velocity = momentum * velocity - rate * g; w = w + momentum * velocity - rate * g.
    let mut weights = w;
    let mut velocity = vec![0.0; weights.len()];
    for (g, [got_w, got_v]) in [(g1, first), (g2, second)] {
        for index in 0..weights.len() {
            velocity[index] = MOMENTUM * velocity[index] - RATE * g[index];
            weights[index] += MOMENTUM * velocity[index] - RATE * g[index];
        }
        assert_near("weight", &got_w, &weights, 1e-6);
        assert_near("velocity", &got_v, &velocity, 1e-6);
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
        // More rows than columns, fewer, the first convolution, the classifier, a vector.
        tensor("tall/kernel", &[3, 3, 2, 4]),
        tensor("wide/kernel", &[1, 1, 4, 6]),
        tensor("conv_in/kernel", &[3, 3, 3, 4]),
        tensor("dense/kernel", &[6, 5]),
        tensor("dense/bias", &[5]),
    ];
    let ([w, g1, g2], [first, second]) = two_steps(&muon(MOMENTUM as f32, 2.0), &tensors);
    let mut weights = w;
    let mut velocity = vec![0.0; weights.len()];
    for (g, [got_w, got_v]) in [(g1, first), (g2, second)] {
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
                "tall/kernel" | "wide/kernel" => {
                    let columns = tensor.dims[3];
                    ((columns as f64).sqrt() / norm(w), orthogonal(d, columns))
                }
                _ => (1.0, d.iter().map(|d| 2.0 * d).collect()),
            };
            for (w, step) in w.iter_mut().zip(step) {
                *w = *w * scale - RATE * step;
            }
        }
        assert_near("weight", &got_w, &weights, 1e-5);
        assert_near("velocity", &got_v, &velocity, 1e-5);
    }
}
