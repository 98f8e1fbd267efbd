//! The equal units of a stage as a loop, against the same units traced one by one.

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use common::{
    ROUNDING, array, arrays, compile, execute_computation, initial, input, lowerings, without_kinks,
};
use xla_graphs::collective::Replicas;
use xla_graphs::network::{Block, Units};
use xla_graphs::ops::{Lowering, batch_norm};
use xla_graphs::table::Role;
use xla_graphs::{
    Architecture, Model, Precision, ResNet, TensorSpec, eval_step, optimiser, predict_step,
    train_step,
};

const LABELS: [i32; 4] = [3, 0, 9, 3];
const CLASSES: usize = 10;
const SIDE: usize = 8;
/// Three units a stage: one alone, and a loop that goes round twice.
const DEPTH: usize = 29;

fn model(depth: usize, lowering: Lowering, units: Units) -> Model {
    model_of(
        &Architecture::resnet_v2(depth).unwrap(),
        SIDE,
        lowering,
        units,
    )
}

fn model_of(
    architecture: &Architecture,
    image_side: usize,
    lowering: Lowering,
    units: Units,
) -> Model {
    let network = ResNet::new(architecture, CLASSES, lowering).unwrap();
    Model {
        network: network.with_units(units),
        batch: LABELS.len(),
        image_side,
        replicas: Replicas(1),
        sync_batch_norm: true,
        l2: 1e-2,
        bn_momentum: batch_norm::MOMENTUM,
        label_smoothing: 0.0,
        mixes_labels: false,
        weight_decay: 0.0,
        averaging: None,
        optimiser: optimiser::sgd(0.9),
    }
}

/// Checks values against those of the unrolled units; `scale`: the largest value of their kind.
fn assert_close(what: &str, got: &[f32], expected: &[f32], scale: f32) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
        let error = (got - expected).abs() / scale;
        assert!(
            error < ROUNDING,
            "{what}[{index}]: loop {got}, unrolled {expected}: {error:.1e}"
        );
    }
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |most, value| most.max(value.abs()))
}

/// Tensors of one kind, such as the momentum of a `beta`. Some gradients, of a shift in front of a batch norm, are zero but
/// for rounding: it is the others of the kind that say how large rounding is.
fn kind(spec: &TensorSpec) -> (bool, &str) {
    let name = spec.name.rsplit('/').next().unwrap();
    (matches!(spec.role, Role::Slot(_)), name)
}

/// The outputs of `trace` for each kind of tracing the network of `model`: unrolled, loop.
fn both(
    model: impl Fn(Units) -> Model,
    trace: impl Fn(&Model) -> Vec<u8>,
    run: impl Fn(&Model, &xla::PjRtLoadedExecutable) -> Vec<Vec<f32>>,
) -> [Vec<Vec<f32>>; 2] {
    [Units::Unrolled, Units::Loop].map(|units| {
        let model = model(units);
        run(&model, &compile(&trace(&model)))
    })
}

#[test]
fn a_training_step_is_the_same_as_a_loop() {
    for lowering in lowerings().into_iter().chain([Lowering::Tpu]) {
        check_training(|units| model(DEPTH, lowering, units));
    }
}

#[test]
fn a_training_step_in_bf16_is_the_same_as_a_loop() {
    for lowering in lowerings() {
        check_training(|units| {
            let mut model = model(DEPTH, lowering, units);
            model.network = model.network.with_precision(Precision::Bf16);
            model
        });
    }
}

#[test]
fn evaluation_and_prediction_are_the_same_as_a_loop() {
    for lowering in lowerings() {
        check_evaluation(|units| model(DEPTH, lowering, units));
    }
}

#[test]
fn units_of_version_1_are_the_same_as_a_loop() {
    for (block, width) in [(Block::Basic, 8), (Block::Bottleneck, 32)] {
        let architecture = Architecture::v1(block, &[3, 3], &[width, 2 * width]).unwrap();
        let model = |units| model_of(&architecture, 4 * SIDE, Lowering::Dots, units);
        check_training(model);
        check_evaluation(model);
    }
}

/// Checks that the training step of `model` is the same as a loop and unrolled.
fn check_training(model: impl Fn(Units) -> Model) {
    let [expected, got] = both(
        &model,
        |model| train_step(model).unwrap(),
        |model, executable| {
            let layout = model.layout();
            let mut inputs = arrays(&layout, &without_kinks(&layout, initial(&layout)));
            inputs.push(images(model));
            let lr = [array("lr", &[], &[0.1])];
            let mut outputs = execute_computation(executable, &inputs, &LABELS, &lr);
            let metrics = outputs.pop().unwrap();
            let mut after = layout.split(&outputs);
            after.push(metrics);
            after
        },
    );
    let layout = model(Units::Loop).layout();
    let mut scales = BTreeMap::new();
    for (spec, expected) in layout.state().iter().zip(&expected) {
        let scale = scales.entry(kind(spec)).or_insert(0f32);
        *scale = scale.max(largest(expected));
    }
    for ((spec, got), expected) in layout.state().iter().zip(&got).zip(&expected) {
        // The momentum after a first step is the gradient, but for a factor.
        assert_close(&spec.name, got, expected, scales[&kind(spec)]);
        if matches!(spec.role, Role::Slot(_)) && !spec.name.ends_with("/beta") {
            assert!(largest(got) > 0.0, "{} did not move", spec.name);
        }
    }
    let [got, expected] = [&got, &expected].map(|outputs| outputs.last().unwrap());
    assert_close("metrics", got, expected, largest(expected));
}

/// Checks that the evaluation step of `model` is the same as a loop and unrolled.
fn check_evaluation(model: impl Fn(Units) -> Model) {
    let network = |model: &Model| {
        let layout = model.layout();
        let mut inputs = arrays(&layout, &initial(&layout)[..layout.network().len()]);
        inputs.push(images(model));
        inputs
    };
    let [expected, got] = both(
        model,
        |model| eval_step(model).unwrap(),
        |model, executable| {
            let weights = [array("weights", &[LABELS.len()], &[1.0; LABELS.len()])];
            execute_computation(executable, &network(model), &LABELS, &weights)
        },
    );
    for (name, output) in [("metrics", 0), ("logits", 1)] {
        let expected = &expected[output];
        assert_close(name, &got[output], expected, largest(expected));
    }
}

fn images(model: &Model) -> common::Input {
    let dims = model.image_dims();
    let values = input("images", &[dims.iter().product()]).values;
    array("images", &dims, &values)
}

#[test]
fn a_program_with_loops_has_as_many_layers_at_any_depth() {
    let count = |depth, units, operation: &str| {
        let model = model(depth, Lowering::Native, units);
        let steps = [train_step, eval_step, predict_step];
        steps.map(|trace| {
            let text = common::text(&trace(&model).unwrap());
            text.matches(&format!(" {operation}(")).count()
        })
    };
    // Forward and backward through three stages, or forward alone.
    assert_eq!(count(38, Units::Loop, "while"), [6, 3, 3]);
    assert_eq!(count(38, Units::Unrolled, "while"), [0, 0, 0]);
    let convolutions = count(38, Units::Loop, "convolution");
    assert_eq!(count(164, Units::Loop, "convolution"), convolutions);
    // A loop that goes round once would be no gain.
    assert_eq!(count(20, Units::Loop, "while"), [0, 0, 0]);
}

/// Has XLA write each program that it compiles into the working folder, as text.
const DUMP: &str = "--xla_dump_to=. --xla_dump_hlo_as_text";
/// Further settings of XLA's for these tests, see `common`.
const FLAGS: &str = "RESNET_XLA_TEST_XLA_FLAGS";

#[test]
fn in_the_rounds_of_a_compiled_loop_only_kernels_make_images() {
    let flags = env::var(FLAGS).unwrap_or_default();
    if flags.contains(DUMP) {
        for lowering in lowerings() {
            compile(&train_step(&model(DEPTH, lowering, Units::Loop)).unwrap());
        }
        return;
    }
    if !lowerings().contains(&Lowering::Kernels) {
        return;
    }
    // XLA reads its settings once: another process compiles.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled_loops");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let output = Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "in_the_rounds_of_a_compiled_loop_only_kernels_make_images",
        ])
        .env(FLAGS, format!("{flags} {DUMP}"))
        .current_dir(&folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let [dots, kernels] = &compiled_programs(&folder)[..] else {
        panic!("expected a program of each formulation: {output:?}");
    };

    let made = |program| {
        let rounds = rounds(program);
        // Forward and backward through three stages.
        assert_eq!(rounds.len(), 6);
        let lines = rounds.into_iter().flatten();
        let images = lines.filter(|line| makes_images(line));
        images.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(made(kernels), Vec::<String>::new());
    // XLA's own operations do: such lines are found.
    assert!(!made(dots).is_empty());
}

/// The programs that XLA wrote into `folder` after all its passes, in the order in which they were compiled.
fn compiled_programs(folder: &Path) -> Vec<String> {
    let files = fs::read_dir(folder).unwrap();
    let files = files.map(|file| file.unwrap().path().into_os_string().into_string().unwrap());
    let mut files: Vec<String> = files
        .filter(|file| file.ends_with("cpu_after_optimizations.txt"))
        .collect();
    files.sort();
    files
        .iter()
        .map(|file| fs::read_to_string(file).unwrap())
        .collect()
}

/// The instructions of each loop's body.
fn rounds(program: &str) -> Vec<Vec<&str>> {
    let names = program.split("body=").skip(1);
    let names = names.map(|rest| rest.split(',').next().unwrap());
    let body = |name: &str| {
        let begins = format!("\n{name} (");
        let (_, body) = program.split_once(&begins).unwrap();
        body.lines()
            .skip(1)
            .take_while(|line| *line != "}")
            .collect()
    };
    names.map(body).collect()
}

/// Whether an instruction writes a batch of images, `[N, H, W, C]`, or rows of such, and neither calls a kernel nor only gives
/// a name to what is there.
fn makes_images(line: &str) -> bool {
    const KERNELS_AND_NAMES: [&str; 4] = [
        " custom-call(",
        " get-tuple-element(",
        " bitcast(",
        " parameter(",
    ];
    let Some((_, result)) = line.split_once(" = ") else {
        return false;
    };
    let dims = result.split(['[', ']']).nth(1).unwrap_or_default();
    let dims: Vec<usize> = dims.split(',').filter_map(|dim| dim.parse().ok()).collect();
    let has_images = matches!(dims[..], [n, _, _, _] | [_, n, _, _, _] if n == LABELS.len());
    has_images && !KERNELS_AND_NAMES.iter().any(|name| result.contains(name))
}

#[test]
fn each_stage_of_an_architecture_has_as_many_units_as_it_says() {
    let mut architecture = Architecture::resnet_v2(11).unwrap();
    architecture.stages.truncate(2);
    architecture.stages[1].units = 4;
    let network = ResNet::new(&architecture, CLASSES, Lowering::Native).unwrap();
    assert_eq!(network.depth, 1 + 5 * 3 + 1);
    let names: Vec<&str> = network.units.iter().map(|unit| &unit.name[..]).collect();
    let expected = [
        "stage1/unit01",
        "stage2/unit01",
        "stage2/unit02",
        "stage2/unit03",
        "stage2/unit04",
    ];
    assert_eq!(names, expected);
    let model = Model {
        network: network.with_units(Units::Loop),
        ..model(11, Lowering::Native, Units::Loop)
    };
    let text = common::text(&train_step(&model).unwrap());
    // The last three units, forward and back.
    assert_eq!(text.matches(" while(").count(), 2);
}

#[test]
fn an_architecture_with_nothing_in_it_is_refused() {
    let refused = |architecture: &Architecture| {
        let network = ResNet::new(architecture, CLASSES, Lowering::Native);
        network.unwrap_err().to_string()
    };
    let mut architecture = Architecture::resnet_v2(11).unwrap();
    architecture.stages[1].units = 0;
    assert_eq!(
        refused(&architecture),
        "stage 2 of the network: expected at least one unit, got none"
    );
    architecture.stages.clear();
    assert_eq!(
        refused(&architecture),
        "the network: expected at least one stage, got none"
    );
}

#[test]
fn replicas_meet_in_the_batch_norms_of_a_loop() {
    let model = Model {
        replicas: Replicas(8),
        ..model(164, Lowering::Native, Units::Loop)
    };
    let text = common::text(&train_step(&model).unwrap());
    // Two units of three batch norms in each stage, and one at the end, forward and back.
    assert_eq!(
        text.matches(" all-reduce(").count(),
        1 + 2 * (3 * 2 * 3 + 1)
    );
}
