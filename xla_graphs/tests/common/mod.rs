//! Runs traced graphs on the CPU and compares gradients with central differences.

#![allow(dead_code, reason = "each test file uses its part of this module")]

use std::sync::LazyLock;

use xla::{
    ElementType, PjRtBuffer, PjRtClient, PjRtLoadedExecutable, XlaBuilder, XlaComputation, XlaOp,
};
use xla_graphs::ops::Lowering;
use xla_graphs::tensors::Tensors;
use xla_graphs::{Init, Layout, Result};

/// Half the distance between the two points of a central difference.
const STEP: f32 = 1e-2;
/// Largest difference between a gradient and its central difference, relative to the largest
/// element of the gradient. f32 sums of a few hundred terms over a distance of 0.02 allow no less.
const TOLERANCE: f64 = 5e-3;
/// Elements of each input that are tried; the rest would only take time.
const TRIED: usize = 24;

static CLIENT: LazyLock<PjRtClient> = LazyLock::new(|| PjRtClient::cpu().unwrap());

/// A named f32 input of a graph.
#[derive(Clone)]
pub struct Input {
    pub name: &'static str,
    pub dims: Vec<usize>,
    pub values: Vec<f32>,
}

/// An input with pseudo-random values in [-1, 1), different for each name.
pub fn input(name: &'static str, dims: &[usize]) -> Input {
    let mut seed = name
        .bytes()
        .fold(1u32, |h, b| h.wrapping_mul(31) ^ u32::from(b));
    let values = (0..dims.iter().product())
        .map(|_| next(&mut seed))
        .collect();
    Input {
        name,
        dims: dims.to_vec(),
        values,
    }
}

/// A linear congruential generator: good enough to avoid special values.
fn next(seed: &mut u32) -> f32 {
    *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    (*seed >> 8) as f32 / (1 << 23) as f32 - 1.0
}

/// Compiles `computation` for the CPU.
pub fn compile(computation: &XlaComputation) -> PjRtLoadedExecutable {
    CLIENT.compile(computation).unwrap()
}

/// Runs a step whose inputs are `before`, labels, `after`; returns its outputs.
pub fn execute_computation(
    executable: &PjRtLoadedExecutable,
    before: &[Input],
    labels: &[i32],
    after: &[Input],
) -> Vec<Vec<f32>> {
    let mut buffers: Vec<PjRtBuffer> = before.iter().map(upload).collect();
    let labels = CLIENT.buffer_from_host_buffer(labels, &[labels.len()], None);
    buffers.push(labels.unwrap());
    buffers.extend(after.iter().map(upload));
    execute(executable, &buffers)
}

fn upload(input: &Input) -> PjRtBuffer {
    CLIENT
        .buffer_from_host_buffer(&input.values, &input.dims, None)
        .unwrap()
}

fn execute(executable: &PjRtLoadedExecutable, buffers: &[PjRtBuffer]) -> Vec<Vec<f32>> {
    let outputs = executable.execute_b(buffers).unwrap().pop().unwrap();
    let read = |buffer: &PjRtBuffer| buffer.to_literal_sync().unwrap().to_vec().unwrap();
    outputs.iter().map(read).collect()
}

/// A compiled graph of named inputs.
pub struct Graph {
    executable: PjRtLoadedExecutable,
}

impl Graph {
    /// Traces `trace`, which gets the inputs by name and returns the outputs.
    pub fn new(inputs: &[Input], trace: impl FnOnce(&Tensors) -> Result<Vec<XlaOp>>) -> Self {
        let builder = XlaBuilder::new("test");
        let mut tensors = Tensors::new();
        for (index, input) in inputs.iter().enumerate() {
            let dims: Vec<i64> = input.dims.iter().map(|&d| d as i64).collect();
            let op = builder.parameter(index as i64, ElementType::F32, &dims, input.name);
            tensors.insert(input.name, op.unwrap());
        }
        let outputs = trace(&tensors).unwrap();
        let computation = builder.build(&builder.tuple(&outputs).unwrap()).unwrap();
        Self {
            executable: compile(&computation),
        }
    }

    /// The outputs for `inputs`.
    pub fn run(&self, inputs: &[Input]) -> Vec<Vec<f32>> {
        let buffers: Vec<PjRtBuffer> = inputs.iter().map(upload).collect();
        execute(&self.executable, &buffers)
    }
}

/// Checks gradients of `forward` against central differences.
///
/// The function whose gradient is taken is Σ forward(inputs) · dy for a fixed random dy.
/// `backward` gets the inputs and dy, and returns the gradient of each input named in `wrt`.
pub fn check_gradients(
    inputs: &[Input],
    wrt: &[&'static str],
    forward: impl Fn(&Tensors) -> Result<XlaOp>,
    backward: impl Fn(&Tensors, &XlaOp) -> Result<Tensors>,
) {
    let mut dims = Vec::new();
    let forward_graph = Graph::new(inputs, |tensors| {
        let y = forward(tensors)?;
        dims = y.dims()?;
        Ok(vec![y])
    });
    let dy = input("dy", &dims);
    let mut all = inputs.to_vec();
    all.push(dy.clone());
    let backward_graph = Graph::new(&all, |tensors| {
        let gradients = backward(tensors, tensors.get("dy")?)?;
        wrt.iter()
            .map(|name| gradients.get(name).cloned())
            .collect()
    });
    let gradients = backward_graph.run(&all);

    let objective = |inputs: &[Input]| -> f64 {
        let y = forward_graph.run(inputs).remove(0);
        y.iter()
            .zip(&dy.values)
            .map(|(&y, &d)| f64::from(y) * f64::from(d))
            .sum()
    };
    for (name, gradient) in wrt.iter().zip(gradients) {
        let index = inputs.iter().position(|i| i.name == *name).unwrap();
        check_one(inputs, index, &gradient, &objective);
    }
}

fn check_one(
    inputs: &[Input],
    index: usize,
    gradient: &[f32],
    objective: &impl Fn(&[Input]) -> f64,
) {
    let name = inputs[index].name;
    assert_eq!(
        gradient.len(),
        inputs[index].values.len(),
        "{name}: length of the gradient"
    );
    let scale = gradient
        .iter()
        .fold(1e-3f64, |m, g| m.max(f64::from(g.abs())));
    let every = gradient.len().div_ceil(TRIED);
    for element in (0..gradient.len()).step_by(every) {
        let at = |shift: f32| {
            let mut shifted = inputs.to_vec();
            shifted[index].values[element] += shift;
            // What the sum really came to in f32.
            (
                objective(&shifted),
                f64::from(shifted[index].values[element]),
            )
        };
        let ((high, x_high), (low, x_low)) = (at(STEP), at(-STEP));
        let numeric = (high - low) / (x_high - x_low);
        let error = (numeric - f64::from(gradient[element])).abs() / scale;
        assert!(
            error < TOLERANCE,
            "{name}[{element}]: gradient {}, central difference {numeric}, error {error:.1e} of {scale}",
            gradient[element]
        );
    }
}

/// The formulations that the tests run through; the kernels only where the processor has what they
/// need.
pub fn lowerings() -> Vec<Lowering> {
    cpu_kernels::register();
    if cpu_kernels::supported() {
        return vec![Lowering::Dots, Lowering::Kernels];
    }
    println!("skipped for the fused kernels: this processor has no AVX2");
    vec![Lowering::Dots]
}

/// A state with random kernels of about the right size and everything else as training starts.
pub fn initial(layout: &Layout) -> Vec<Vec<f32>> {
    let values = |(index, spec): (usize, &xla_graphs::TensorSpec)| {
        let scale = match spec.init {
            Init::Zeros => return vec![0.0; spec.len()],
            Init::Ones => return vec![1.0; spec.len()],
            Init::HeNormal { fan_in } => (6.0 / fan_in as f32).sqrt(),
            Init::GlorotUniform { fan_in, fan_out } => (6.0 / (fan_in + fan_out) as f32).sqrt(),
        };
        let name: &'static str = Box::leak(format!("{index}").into_boxed_str());
        input(name, &[spec.len()])
            .values
            .iter()
            .map(|v| v * scale)
            .collect()
    };
    layout.state().iter().enumerate().map(values).collect()
}

pub fn array(name: &'static str, dims: &[usize], values: &[f32]) -> Input {
    Input {
        name,
        dims: dims.to_vec(),
        values: values.to_vec(),
    }
}

/// The flat arrays of tensors.
pub fn arrays(layout: &Layout, values: &[Vec<f32>]) -> Vec<Input> {
    let flat = layout.join(values);
    flat.iter()
        .map(|values| array("", &[values.len()], values))
        .collect()
}
