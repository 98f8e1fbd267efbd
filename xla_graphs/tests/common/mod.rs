//! Runs traced graphs on the CPU and compares gradients with central differences.

#![allow(dead_code, reason = "each test file uses its part of this module")]

use std::sync::LazyLock;

use xla::{
    ElementType, HloModuleProto, PjRtBuffer, PjRtClient, PjRtLoadedExecutable, XlaBuilder,
    XlaComputation, XlaOp,
};
use xla_graphs::ops::{Lowering, kernels};
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

/// The largest difference between two computations of the same values, relative to the largest value of their kind. Both
/// take the same sums in another order. A sum of n terms is off by about √n units in the last place, 2^-24 of the largest
/// terms, in the worst case by n: of the most terms in these tests, 35 · 12 · 12, that is 4e-6 and 3e-4. Nothing makes a
/// small difference large, see [`without_kinks`]. What is no rounding, such as the border of an image left out, is many
/// times the bound.
pub const ROUNDING: f32 = 5e-4;

/// Has XLA compile in a tenth of the time, to slower code. It runs before `main`: no other thread is there yet that
/// could read the environment.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = before_main;

extern "C" fn before_main() {
    const FAST: &str = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false";
    // These compare with graphs that say where bf16 is rounded; XLA leaves such roundings out where it may.
    let exact = match env!("CARGO_CRATE_NAME") {
        "kernels" | "unit_loop" => "--xla_allow_excess_precision=false",
        _ => "",
    };
    let more = std::env::var("RESNET_XLA_TEST_XLA_FLAGS").unwrap_or_default();
    // SAFETY: the process has this thread alone.
    unsafe { std::env::set_var("XLA_FLAGS", format!("{FAST} {exact} {more}").trim()) };
}

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

/// Compiles the computation of `hlo`, a serialised `HloModuleProto`, for the CPU.
pub fn compile(hlo: &[u8]) -> PjRtLoadedExecutable {
    let module = HloModuleProto::parse_proto(hlo, true).unwrap();
    CLIENT
        .compile(&XlaComputation::from_proto(&module))
        .unwrap()
}

/// The computation of `hlo` as XLA writes it down.
pub fn text(hlo: &[u8]) -> String {
    let module = HloModuleProto::parse_proto(hlo, true).unwrap();
    module.to_string().unwrap()
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
    execute(executable, &buffers).unwrap()
}

fn upload(input: &Input) -> PjRtBuffer {
    CLIENT
        .buffer_from_host_buffer(&input.values, &input.dims, None)
        .unwrap()
}

fn execute(
    executable: &PjRtLoadedExecutable,
    buffers: &[PjRtBuffer],
) -> xla::Result<Vec<Vec<f32>>> {
    let outputs = executable.execute_b(buffers)?.pop().unwrap();
    let read = |buffer: &PjRtBuffer| buffer.to_literal_sync()?.to_vec();
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
            executable: compile(&kernels::complete(&computation).unwrap()),
        }
    }

    /// The outputs for `inputs`.
    pub fn run(&self, inputs: &[Input]) -> Vec<Vec<f32>> {
        self.try_run(inputs).unwrap()
    }

    /// The outputs for `inputs`, or what XLA or a kernel says against them.
    pub fn try_run(&self, inputs: &[Input]) -> xla::Result<Vec<Vec<f32>>> {
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
    // A gradient that is zero is found up to the rounding of a value near 1, times 30 behind a batch norm without any
    // variance, over the distance: 1e-4.
    let scale = gradient
        .iter()
        .fold(0.1f64, |m, g| m.max(f64::from(g.abs())));
    let every = gradient.len().div_ceil(TRIED);
    let mut most = 0f64;
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
        most = most.max(error);
    }
    println!("{name}: largest error {most:.1e}");
}

/// Why [`cpu_kernels::supported`] says no.
pub const NO_KERNELS: &str = "this processor has no AVX2, or RESNET_XLA_ISA says generic";

/// The formulations that the tests run through; the kernels only where the processor has what they
/// need.
pub fn lowerings() -> Vec<Lowering> {
    cpu_kernels::register().unwrap();
    if cpu_kernels::supported() {
        return vec![Lowering::Dots, Lowering::Kernels];
    }
    println!("skipped: the fused kernels: {NO_KERNELS}");
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

/// `state` with every batch norm shifting its channels so far, in turn up and down, that no activation lies near zero: each
/// ReLU lets all of a channel through or nothing. Where activations lie within rounding of zero, some are on the other
/// side of the kink in another program; that takes a whole pixel out of a gradient's sum or puts it in, and no bound holds.
pub fn without_kinks(layout: &Layout, mut state: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
    let specs = layout.network().iter().zip(&mut state);
    for (_, beta) in specs.filter(|(spec, _)| spec.name.ends_with("/beta")) {
        shift_away_from_zero(beta);
    }
    state
}

/// See [`without_kinks`].
pub fn shift_away_from_zero(beta: &mut [f32]) {
    const SHIFT: f32 = 8.0;
    for (channel, beta) in beta.iter_mut().enumerate() {
        *beta = if channel % 2 == 0 { SHIFT } else { -SHIFT };
    }
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
