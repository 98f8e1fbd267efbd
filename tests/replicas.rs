//! One batch shared by several replicas: eight virtual devices on the CPU.

mod program;

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use ndarray::s;
use program::runs::quick_run;
use program::{fail, run, succeed, text};
use resnet_xla::config::{BatchNormMode, DeviceChoice, UnitsChoice};
use resnet_xla::data::{
    self, Augment, Batch, BatchSource, CLASSES, Dataset, DatasetKind, IMAGE_LEN, Normalization,
    Split, TrainingOptions,
};
use resnet_xla::device::Device;
use resnet_xla::initialise::initial_state;
use resnet_xla::metrics::BatchMetrics;
use resnet_xla::model::{self, ModelSettings};
use resnet_xla::program::Program;
use resnet_xla::replicas::ReplicaChoice;
use resnet_xla::runtime;
use resnet_xla::state::HostState;
use serde_json::Value;

const BATCH: usize = 16;
/// So low that the rounding of one step is not amplified beyond comparison by those after it.
const LEARNING_RATE: f64 = 0.002;

/// All tests of this process share the client. It is made before any of them uses XLA.
static DEVICE: LazyLock<Device> = LazyLock::new(|| {
    runtime::add_xla_flags(program::COMPILE_FAST);
    let eight = NonZeroUsize::new(8).map(ReplicaChoice::Count);
    Device::open(DeviceChoice::Cpu, None, eight).unwrap()
});

static SAMPLE: LazyLock<Dataset> =
    LazyLock::new(|| data::load(DatasetKind::Sample, Path::new("")).unwrap());

fn program(batch_size: usize, replicas: usize, batch_norm: BatchNormMode) -> Program<'static> {
    let settings = settings(batch_size, replicas, batch_norm);
    let model = model::build(&settings, DEVICE.kind).unwrap();
    Program::new(&DEVICE, model)
}

fn settings(batch_size: usize, replicas: usize, batch_norm: BatchNormMode) -> ModelSettings {
    ModelSettings {
        depth: 11,
        batch_size,
        replicas,
        precision: None,
        units: None,
        batch_norm,
        l2: 1e-4,
        momentum: 0.9,
    }
}

/// The first `count` training batches of the sample.
fn batches(count: u64) -> Vec<Batch> {
    let options = TrainingOptions {
        augment: Augment::Keras,
        seed: 0,
        batch_size: BATCH,
        shuffle: true,
        steps_per_epoch: None,
    };
    let normalization = Normalization::of(&SAMPLE.train);
    let source = BatchSource::training(Arc::new(SAMPLE.train.clone()), normalization, options);
    (0..count).map(|step| filled(&source, step)).collect()
}

fn filled(source: &BatchSource, step: u64) -> Batch {
    let mut batch = Batch::default();
    source.fill(step, &mut batch);
    batch
}

/// The metrics of each step from `initial` on, and the state at the end, the same on all replicas.
fn train(
    program: &Program,
    initial: &HostState,
    batches: &[Batch],
) -> (Vec<BatchMetrics>, HostState) {
    let mut state = program.upload_state(initial).unwrap();
    let mut metrics = Vec::new();
    for batch in batches {
        let pending;
        let inputs = program.upload_batch(batch, LEARNING_RATE).unwrap();
        (state, pending) = program.train_step(state, &inputs).unwrap();
        metrics.push(pending.read().unwrap());
    }
    let end = program.download_state(&state).unwrap();
    for replica in 1..program.model().replicas.0 {
        let other = program.download_replica(&state, replica).unwrap();
        assert!(other == end, "replica {replica} has another state");
    }
    (metrics, end)
}

/// The largest difference of two losses of a step, relative to the loss.
fn losses_apart(a: &[BatchMetrics], b: &[BatchMetrics]) -> f64 {
    let pairs = a.iter().zip(b);
    pairs.fold(0.0, |most, (a, b)| {
        f64::max(most, (a.loss() / b.loss() - 1.0).abs())
    })
}

/// The largest difference of the values of a tensor, relative to its largest value, over all tensors.
fn states_apart(a: &HostState, b: &HostState) -> f64 {
    let largest = |values: &mut dyn Iterator<Item = f32>| {
        f64::from(values.fold(0.0, |most: f32, value| most.max(value.abs())))
    };
    let pairs = a.values().iter().zip(b.values());
    pairs.fold(0.0, |most, (a, b)| {
        let difference = largest(&mut a.iter().zip(b).map(|(a, b)| a - b));
        let scale = largest(&mut a.iter().copied()).max(f64::MIN_POSITIVE);
        f64::max(most, difference / scale)
    })
}

/// The distance from `b` to `a`, relative to the way that training took from `start` to `b`.
fn ends_apart(a: &HostState, b: &HostState, start: &HostState) -> f64 {
    let distance = |a: &HostState, b: &HostState| -> f64 {
        let pairs = a.values().iter().flatten().zip(b.values().iter().flatten());
        let squares = pairs.map(|(a, b)| f64::from(a - b).powi(2));
        squares.sum::<f64>().sqrt()
    };
    distance(a, b) / distance(b, start)
}

/// What training itself makes of a rounding error: each step starts where the last one ended, and an
/// activation within rounding of zero may fall on either side of the ReLU's kink.
fn with_one_kernel_a_rounding_off(initial: &HostState) -> HostState {
    let mut values = initial.clone().into_values();
    for value in &mut values[0] {
        *value *= 1.0 + f32::EPSILON;
    }
    HostState::new(values)
}

#[test]
fn with_shared_statistics_the_number_of_replicas_changes_nothing_but_rounding() {
    let batches = batches(20);
    let one = program(BATCH, 1, BatchNormMode::Sync);
    let initial = initial_state(one.layout(), 0);
    let (metrics, end) = train(&one, &initial, &batches);
    let (nudged_metrics, nudged_end) =
        train(&one, &with_one_kernel_a_rounding_off(&initial), &batches);
    let allowed_losses = 3.0 * losses_apart(&nudged_metrics, &metrics);
    let allowed_ends = 3.0 * ends_apart(&nudged_end, &end, &initial);
    println!("allowed: losses {allowed_losses:.1e}, ends {allowed_ends:.1e}");
    assert!(allowed_losses < 1e-3 && allowed_ends < 1e-2);
    for replicas in [2, 4, 8] {
        let several = program(BATCH, replicas, BatchNormMode::Sync);
        let (several_metrics, several_end) = train(&several, &initial, &batches);
        let losses = losses_apart(&several_metrics, &metrics);
        let ends = ends_apart(&several_end, &end, &initial);
        println!("{replicas} replicas: losses {losses:.1e}, ends {ends:.1e}");
        assert!(losses < allowed_losses, "{replicas} replicas: {losses}");
        assert!(ends < allowed_ends, "{replicas} replicas: {ends}");
        assert!(several_metrics.iter().all(|m| m.count == BATCH as f64));
        // Before the first update there is nothing that could have grown.
        assert!(losses_apart(&several_metrics[..1], &metrics[..1]) < 1e-6);
    }
    // What the statistics cover does matter: with its own, replicas end far away.
    let local = program(BATCH, 4, BatchNormMode::Local);
    let (local_metrics, local_end) = train(&local, &initial, &batches);
    let losses = losses_apart(&local_metrics, &metrics);
    let ends = ends_apart(&local_end, &end, &initial);
    println!("local statistics: losses {losses:.1e}, ends {ends:.1e}");
    assert!(losses > 10.0 * allowed_losses && ends > 10.0 * allowed_ends);
}

#[test]
fn units_in_a_loop_share_their_statistics_too() {
    let program = |replicas, units| {
        let settings = ModelSettings {
            depth: 29,
            units: Some(units),
            ..settings(BATCH, replicas, BatchNormMode::Sync)
        };
        let model = model::build(&settings, DEVICE.kind).unwrap();
        Program::new(&DEVICE, model)
    };
    let batches = batches(2);
    let unrolled = program(1, UnitsChoice::Unrolled);
    let initial = initial_state(unrolled.layout(), 0);
    let (metrics, end) = train(&unrolled, &initial, &batches);
    for replicas in [1, 2, 4] {
        let looped = program(replicas, UnitsChoice::Loop);
        let (looped_metrics, looped_end) = train(&looped, &initial, &batches);
        let losses = losses_apart(&looped_metrics, &metrics);
        let ends = ends_apart(&looped_end, &end, &initial);
        println!("a loop on {replicas} replicas: losses {losses:.1e}, ends {ends:.1e}");
        assert!(losses < 1e-5 && ends < 1e-3, "{replicas}: {losses} {ends}");
    }
}

#[test]
fn with_local_statistics_a_step_is_the_mean_of_the_steps_on_each_share() {
    const REPLICAS: usize = 4;
    let local = program(BATCH, REPLICAS, BatchNormMode::Local);
    let single = program(BATCH / REPLICAS, 1, BatchNormMode::Local);
    let mut before = initial_state(local.layout(), 0);
    for batch in batches(4) {
        let steps: Vec<_> = (0..REPLICAS)
            .map(|replica| {
                train(
                    &single,
                    &before,
                    &[share(&batch, replica, BATCH / REPLICAS)],
                )
            })
            .collect();
        // The update is linear in the gradient, so its mean is the update by the mean gradient.
        let states: Vec<&HostState> = steps.iter().map(|(_, state)| state).collect();
        let expected = mean(&states);
        let (metrics, got) = train(&local, &before, &[batch]);
        let apart = states_apart(&got, &expected);
        assert!(apart < 1e-5, "{apart}");
        let sum = |part: fn(&BatchMetrics) -> f64| -> f64 {
            steps.iter().map(|(metrics, _)| part(&metrics[0])).sum()
        };
        let cross_entropy = sum(|m| m.cross_entropy_sum);
        assert!((metrics[0].cross_entropy_sum / cross_entropy - 1.0).abs() < 1e-6);
        assert_eq!(metrics[0].correct, sum(|m| m.correct));
        before = expected;
    }
}

/// The images of one of the replicas, `images` each.
fn share(batch: &Batch, replica: usize, images: usize) -> Batch {
    let part = replica * images..(replica + 1) * images;
    Batch {
        images: batch.images[part.start * IMAGE_LEN..part.end * IMAGE_LEN].to_vec(),
        labels: batch.labels[part.clone()].to_vec(),
        weights: batch.weights[part].to_vec(),
        count: images,
    }
}

/// The mean of states, value by value.
fn mean(states: &[&HostState]) -> HostState {
    let tensors = states[0].values().len();
    let tensor = |index: usize| {
        let all: Vec<&Vec<f32>> = states.iter().map(|state| &state.values()[index]).collect();
        let at = |element: usize| {
            let sum: f64 = all.iter().map(|values| f64::from(values[element])).sum();
            (sum / states.len() as f64) as f32
        };
        (0..all[0].len()).map(at).collect()
    };
    HostState::new((0..tensors).map(tensor).collect())
}

#[test]
fn eight_replicas_give_the_same_bits_every_time() {
    let batches = batches(5);
    for batch_norm in [BatchNormMode::Sync, BatchNormMode::Local] {
        let eight = program(BATCH, 8, batch_norm);
        let initial = initial_state(eight.layout(), 0);
        let (first_metrics, first) = train(&eight, &initial, &batches);
        let (second_metrics, second) = train(&eight, &initial, &batches);
        assert_eq!(first_metrics, second_metrics);
        assert!(first == second, "{batch_norm:?}");
    }
}

#[test]
fn evaluation_and_prediction_are_shared_and_padding_counts_nowhere() {
    const IMAGES: usize = 37;
    let test = &SAMPLE.test;
    let split = Arc::new(Split {
        images: test.images.slice(s![..IMAGES, .., .., ..]).to_owned(),
        labels: test.labels.slice(s![..IMAGES]).to_owned(),
    });
    let source = BatchSource::evaluation(split, Normalization::of(&SAMPLE.train), BATCH);
    let [one, eight] = [1, 8].map(|replicas| program(BATCH, replicas, BatchNormMode::Sync));
    // Trained a little, so that images differ in what is made of them.
    let (_, state) = train(&one, &initial_state(one.layout(), 0), &batches(3));
    let network = one.layout().network().len();
    let weights = HostState::new(state.into_values()[..network].to_vec());
    let [ones, eights] = [&one, &eight].map(|program| program.upload_weights(&weights).unwrap());
    for step in 0..source.steps_per_epoch() {
        let batch = filled(&source, step);
        let (expected, expected_logits) = one.eval_step(&ones, &batch).unwrap();
        let (got, logits) = eight.eval_step(&eights, &batch).unwrap();
        assert_eq!(
            (got.count, got.correct),
            (batch.count as f64, expected.correct)
        );
        assert!((got.loss() / expected.loss() - 1.0).abs() < 1e-6);
        assert_eq!(logits.len(), BATCH * CLASSES);
        let predicted = eight.predict_step(&eights, &batch.images).unwrap();
        let scale = expected_logits.iter().fold(0f32, |m, z| m.max(z.abs()));
        for got in [logits, predicted] {
            let mut pairs = got.iter().zip(&expected_logits);
            assert!(pairs.all(|(a, b)| (a - b).abs() < 1e-5 * scale));
        }
    }
}

/// The arguments of a run of two epochs of 4 steps on the sample.
fn short<'a>(out_dir: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let options = "--batch-size 16 --lr 0.002 --epochs 2 --steps-per-epoch 4 --eval-steps 2";
    [&quick_run(out_dir, options), more].concat()
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn a_run_says_its_replicas_and_goes_on_with_another_number_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let (reference, out) = (folder.path().join("reference"), folder.path().join("run"));
    succeed(&short(&reference, &[]));
    succeed(&short(&out, &["--replicas", "2", "--max-steps", "4"]));
    let half = json(&out.join("result.json"));
    assert_eq!((&half["replicas"], &half["steps"]), (&2.into(), &4.into()));

    let output = run(&[
        "--resume",
        "--replicas",
        "4",
        "--max-steps",
        "8",
        "--out-dir",
        text(&out),
    ]);
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    assert!(log.contains("going on with 4 replicas; it was 2"), "{log}");
    assert!(log.contains("4 images a replica"), "{log}");
    assert_eq!(json(&out.join("env.json"))["replicas"], 4);
    let config = fs::read_to_string(out.join("config.toml")).unwrap();
    assert!(config.contains("replicas = 4"), "{config}");

    let (whole, resumed) = (
        json(&reference.join("result.json")),
        json(&out.join("result.json")),
    );
    assert_eq!(
        (&whole["replicas"], &resumed["replicas"]),
        (&1.into(), &4.into())
    );
    for key in ["loss", "val_loss"] {
        let [whole, resumed] = [&whole, &resumed].map(|result| result[key].as_f64().unwrap());
        assert!(
            (resumed / whole - 1.0).abs() < 1e-3,
            "{key}: {resumed} {whole}"
        );
    }

    let eval = [
        "eval",
        "--device",
        "cpu",
        "--steps",
        "2",
        "--json",
        "--checkpoint",
        text(&out),
    ];
    let scores = |replicas| {
        let printed = succeed(&[&eval[..], &["--replicas", replicas]].concat());
        serde_json::from_str::<Value>(&printed).unwrap()
    };
    let (one, eight) = (scores("1"), scores("8"));
    assert_eq!(one["confusion"], eight["confusion"]);
    // Ten images on four devices: two of padding.
    let picture = folder.path().join("p.png");
    let predict = [
        "predict",
        "--device",
        "cpu",
        "--checkpoint",
        text(&out),
        "--out",
        text(&picture),
    ];
    assert_eq!(
        succeed(&[&predict[..], &["--replicas", "4"]].concat()),
        succeed(&predict)
    );
}

#[test]
fn with_local_statistics_a_run_keeps_its_number_of_replicas() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let local = ["--bn", "local", "--replicas", "2", "--max-steps", "1"];
    succeed(&short(&out, &local));
    let message = fail(&["--resume", "--replicas", "4", "--out-dir", text(&out)], 2);
    assert!(
        message.contains("`replicas` was 2 and is now 4"),
        "{message}"
    );
    // Without the option it goes on with those it had.
    succeed(&["--resume", "--max-steps", "2", "--out-dir", text(&out)]);
    assert_eq!(json(&out.join("result.json"))["replicas"], 2);
}

#[test]
fn a_batch_that_cannot_be_split_names_both_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    for command in [
        short(&out, &["--replicas", "3"]),
        vec![
            "bench",
            "--device",
            "cpu",
            "--batch-size",
            "16",
            "--replicas",
            "3",
        ],
        vec![
            "eval",
            "--device",
            "cpu",
            "--batch-size",
            "16",
            "--replicas",
            "3",
        ],
    ] {
        let message = fail(&command, 2);
        assert!(message.contains("--batch-size 16"), "{message}");
        assert!(
            message.contains("3 replicas") && message.contains("18"),
            "{message}"
        );
    }
    assert!(!out.exists());
    let message = fail(&["--replicas", "0"], 2);
    assert!(message.contains("1 or more, or all"), "{message}");
}

#[test]
fn the_users_own_number_of_devices_stays() {
    let doctor = |replicas: &str| {
        let mut command = program::program(&["doctor", "--device", "cpu", "--replicas", replicas]);
        let flags = format!(
            "{} --xla_force_host_platform_device_count=4",
            program::COMPILE_FAST
        );
        command.env("XLA_FLAGS", flags).output().unwrap()
    };
    let printed = String::from_utf8(doctor("all").stdout).unwrap();
    assert!(printed.contains("works, 4 replicas"), "{printed}");
    let refused = doctor("8");
    let message = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(4), "{message}");
    assert!(
        message.contains("--replicas 8: expected at most 4"),
        "{message}"
    );
}
