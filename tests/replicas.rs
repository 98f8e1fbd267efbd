//! One batch shared by several replicas: eight virtual devices on the CPU.

mod program;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::slice;
use std::sync::{Arc, LazyLock};

use ndarray::s;
use program::in_process::open_cpu;
use program::runs::quick_run;
use program::{fail, predict, run, succeed, text};
use resnet_xla::data::{
    self, Augment, Batch, BatchSource, Dataset, DatasetKind, Normalization, PictureOptions, Split,
    TrainingOptions,
};
use resnet_xla::device::Device;
use resnet_xla::device::backend::DeviceArray;
use resnet_xla::model::choose::BatchNormMode;
use resnet_xla::model::choose::UnitsChoice;
use resnet_xla::model::choose::{self, ModelSettings};
use resnet_xla::model::initialise::initial_state;
use resnet_xla::model::metrics::BatchMetrics;
use resnet_xla::model::network::Network;
use resnet_xla::model::program::Program;
use resnet_xla::model::state::HostState;
use resnet_xla::model::sum;
use serde_json::Value;
use xla_graphs::Layout;

const BATCH: usize = 16;
const LEARNING_RATE: f64 = 0.002;
/// So strong that a wrong factor of the penalty's gradient is no rounding error.
const L2: f64 = 0.01;
/// The largest difference between two computations of one step from the same state, relative to the largest value of its
/// kind (see [`apart`]). Both take the same sums in another order. A sum of n terms is off by about √n units in the last
/// place, 2^-24 of the largest terms, in the worst case by n: of the most terms here, 16 · 32 · 32, that is 8e-6 and 1e-3.
/// Nothing makes a small difference large ([`without_kinks`]). What is no rounding, a mean over the wrong images or a
/// factor of the number of replicas, is a hundred times the bound.
const ROUNDING: f64 = 1e-3;

/// All tests of this process share the client. It is made before any of them uses XLA.
static DEVICE: LazyLock<Device> = LazyLock::new(|| open_cpu(8, program::COMPILE_FAST));

static SAMPLE: LazyLock<Dataset> = LazyLock::new(|| {
    data::load(
        DatasetKind::Sample,
        Path::new(""),
        PictureOptions::default(),
    )
    .unwrap()
});

fn program(batch_size: usize, replicas: usize, batch_norm: BatchNormMode) -> Program<'static> {
    let settings = settings(batch_size, replicas, batch_norm);
    let model = choose::build(&settings, DEVICE.kind).unwrap();
    Program::new(&DEVICE, model)
}

fn settings(batch_size: usize, replicas: usize, batch_norm: BatchNormMode) -> ModelSettings {
    ModelSettings {
        replicas,
        batch_norm,
        l2: L2,
        ..ModelSettings::tutorial(11, batch_size)
    }
}

/// The first `count` training batches of the sample.
fn batches(count: u64) -> Vec<Batch> {
    let options = TrainingOptions {
        augment: Augment::Keras,
        cutout: 0,
        mix: None,
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

/// A state in which every batch norm shifts its channels so far, in turn up and down, that no activation lies near zero:
/// each ReLU lets all of a channel through or nothing. Where activations lie within rounding of zero, some are on the other
/// side of the kink in another program; that takes a whole pixel out of a gradient's sum or puts it in, and no bound holds.
fn without_kinks(layout: &Layout, state: &HostState) -> HostState {
    const SHIFT: f32 = 10.0;
    let mut values = state.clone().into_values();
    let specs = layout.network().iter().zip(&mut values);
    for (_, beta) in specs.filter(|(spec, _)| spec.name.ends_with("/beta")) {
        for (channel, beta) in beta.iter_mut().enumerate() {
            *beta = if channel % 2 == 0 { SHIFT } else { -SHIFT };
        }
    }
    HostState::new(values)
}

/// The largest difference of two states after a step, relative to the largest value among all tensors of a kind: some
/// gradients, of a shift in front of a batch norm, are zero but for rounding.
fn apart(layout: &Layout, a: &HostState, b: &HostState) -> f64 {
    let mut kinds = BTreeMap::<String, (f32, f32)>::new();
    let pairs = a.values().iter().zip(b.values());
    for (spec, (a, b)) in layout.state().iter().zip(pairs) {
        let momentum = spec.name.starts_with("momentum/");
        let kind = spec.name.rsplit('/').next().unwrap();
        let (most, scale) = kinds.entry(format!("{kind} {momentum}")).or_default();
        for (a, b) in a.iter().zip(b) {
            assert!(a.is_finite(), "{}: {a}", spec.name);
            *most = most.max((a - b).abs());
            *scale = scale.max(b.abs());
        }
    }
    let relative = kinds.values().map(|(most, scale)| f64::from(most / scale));
    relative.fold(0.0, f64::max)
}

fn losses_apart(a: &BatchMetrics, b: &BatchMetrics) -> f64 {
    (a.loss() / b.loss() - 1.0).abs()
}

/// What one step from `state` on `batch` makes of both programs: how far their states and losses are apart.
fn step_apart(a: &Program, b: &Program, state: &HostState, batch: &Batch) -> f64 {
    let [(a_metrics, a_end), (b_metrics, b_end)] =
        [a, b].map(|program| train(program, state, slice::from_ref(batch)));
    assert_eq!(a_metrics[0].count, batch.count as f64);
    let states = apart(a.layout(), &a_end, &b_end);
    f64::max(states, losses_apart(&a_metrics[0], &b_metrics[0]))
}

#[test]
fn the_sum_that_processes_speak_through_is_the_same_on_every_replica() {
    // The second ones add up to the most that half a word is.
    let values = |replica: usize| [replica as f32, 65535.0 / 8.0, 0.5];
    let inputs = (0..8).map(|replica| DEVICE.upload(&values(replica), &[3], replica).unwrap());
    let inputs: Vec<_> = inputs.collect();
    let inputs: Vec<Vec<&dyn DeviceArray>> = inputs.iter().map(|one| vec![one.as_ref()]).collect();
    let sum = DEVICE.compile(&sum::over_replicas(3), 8).unwrap();
    let outputs = sum.run(&inputs).unwrap();
    assert_eq!(outputs.len(), 8);
    for output in outputs {
        assert_eq!(output[0].to_f32().unwrap(), [28.0, 65535.0, 4.0]);
    }
}

#[test]
fn with_shared_statistics_the_number_of_replicas_changes_nothing_but_rounding() {
    let one = program(BATCH, 1, BatchNormMode::Sync);
    let several = [2, 4, 8].map(|replicas| program(BATCH, replicas, BatchNormMode::Sync));
    let local = program(BATCH, 4, BatchNormMode::Local);
    let mut state = without_kinks(one.layout(), &initial_state(one.layout(), 0));
    // Each step begins where that of one replica ended: what is rounding stays that.
    for batch in batches(3) {
        for several in &several {
            let (replicas, found) = (
                several.model().replicas.0,
                step_apart(several, &one, &state, &batch),
            );
            println!("{replicas} replicas: {found:.1e}");
            assert!(found < ROUNDING, "{replicas} replicas: {found:.1e}");
        }
        // What the statistics cover does matter.
        let found = step_apart(&local, &one, &state, &batch);
        println!("local statistics: {found:.1e}");
        assert!(found > 10.0 * ROUNDING, "{found:.1e}");
        state = train(&one, &state, &[batch]).1;
    }
}

#[test]
fn units_in_a_loop_share_their_statistics_too() {
    let program = |replicas, units| {
        let settings = ModelSettings {
            network: Network::resnet_v2(29),
            units: Some(units),
            ..settings(BATCH, replicas, BatchNormMode::Sync)
        };
        let model = choose::build(&settings, DEVICE.kind).unwrap();
        Program::new(&DEVICE, model)
    };
    let batch = &batches(1)[0];
    let unrolled = program(1, UnitsChoice::Unrolled);
    let state = without_kinks(unrolled.layout(), &initial_state(unrolled.layout(), 0));
    for replicas in [1, 2, 4] {
        let looped = program(replicas, UnitsChoice::Loop);
        let found = step_apart(&looped, &unrolled, &state, batch);
        println!("a loop on {replicas} replicas: {found:.1e}");
        assert!(found < ROUNDING, "{replicas}: {found:.1e}");
    }
}

#[test]
fn with_local_statistics_a_step_is_the_mean_of_the_steps_on_each_share() {
    const REPLICAS: usize = 4;
    let local = program(BATCH, REPLICAS, BatchNormMode::Local);
    let single = program(BATCH / REPLICAS, 1, BatchNormMode::Local);
    let mut before = without_kinks(local.layout(), &initial_state(local.layout(), 0));
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
        let found = apart(local.layout(), &got, &expected);
        println!("states: {found:.1e}");
        assert!(found < ROUNDING, "{found:.1e}");
        let sum = |part: fn(&BatchMetrics) -> f64| -> f64 {
            steps.iter().map(|(metrics, _)| part(&metrics[0])).sum()
        };
        let cross_entropy = sum(|m| m.cross_entropy_sum);
        assert!((metrics[0].cross_entropy_sum / cross_entropy - 1.0).abs() < ROUNDING);
        assert_eq!(metrics[0].count, sum(|m| m.count));
        before = expected;
    }
}

/// The images of one of the replicas, `images` each.
fn share(batch: &Batch, replica: usize, images: usize) -> Batch {
    let part = replica * images..(replica + 1) * images;
    let len = SAMPLE.spec.image_len();
    Batch {
        images: batch.images[part.start * len..part.end * len].to_vec(),
        labels: batch.labels[part.clone()].to_vec(),
        weights: batch.weights[part].to_vec(),
        count: images,
        ..Batch::default()
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
        images: test.clone().split_at(IMAGES).0.images,
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
        let evaluate = |program: &Program, weights| {
            let evaluation = program.eval_step(weights, &batch).unwrap();
            evaluation.read().unwrap()
        };
        let (expected, expected_logits) = evaluate(&one, &ones);
        let (got, logits) = evaluate(&eight, &eights);
        // Two logits may be within rounding of each other: each program is right about its own.
        assert_eq!(
            (got.count, got.correct),
            (batch.count as f64, correct(&logits, &batch))
        );
        assert!(losses_apart(&got, &expected) < ROUNDING);
        assert_eq!(logits.len(), BATCH * SAMPLE.spec.classes());
        let predicted = eight.predict_step(&eights, &batch.images).unwrap();
        let scale = expected_logits.iter().fold(0f32, |m, z| m.max(z.abs()));
        for got in [logits, predicted] {
            let mut pairs = got.iter().zip(&expected_logits);
            assert!(pairs.all(|(a, b)| (a - b).abs() < ROUNDING as f32 * scale));
        }
    }
}

/// How many of the images of `batch`, padding apart, have their largest logit at the label.
fn correct(logits: &[f32], batch: &Batch) -> f64 {
    let rows = logits.chunks(SAMPLE.spec.classes());
    let rows = rows.zip(&batch.labels).take(batch.count);
    let hits = rows.filter(|(row, label)| {
        let largest = row.iter().copied().fold(f32::MIN, f32::max);
        row.iter().position(|&z| z == largest) == Some(**label as usize)
    });
    hits.count() as f64
}

/// The arguments of a run of two epochs of 4 steps on the sample. With so small a rate the weights stay what they are, so
/// that runs with other rounding have the same losses.
fn short<'a>(out_dir: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let options = "--batch-size 16 --lr 1e-7 --epochs 2 --steps-per-epoch 4 --eval-steps 2";
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
    assert!(log.contains("resuming with 4 replicas; it was 2"), "{log}");
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
            (resumed / whole - 1.0).abs() < ROUNDING,
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
    let loss = |scores: &Value| scores["loss"].as_f64().unwrap();
    assert!((loss(&eight) / loss(&one) - 1.0).abs() < ROUNDING);
    // Ten images on four devices: two of padding.
    let picture = folder.path().join("p.png");
    let to = ["--out", text(&picture)];
    let (one, four) = (
        predict(&out, &to),
        predict(&out, &[&to[..], &["--replicas", "4"]].concat()),
    );
    assert_eq!((one.len(), four.len()), (10, 10));
    for (one, four) in one.iter().zip(&four) {
        assert_eq!(
            (&one["image"], &one["true"]),
            (&four["image"], &four["true"])
        );
        // Of the most probable class; which one that is may be a matter of rounding.
        let [one, four] = [one, four].map(|image| image["predictions"][0]["probability"].as_f64());
        assert!((four.unwrap() / one.unwrap() - 1.0).abs() < ROUNDING);
    }
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
    assert!(message.contains("from 1 to 1024, or all"), "{message}");
}
