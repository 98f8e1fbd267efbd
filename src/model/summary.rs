//! The layer table of a network, in the manner of Keras's `model.summary()`.

use std::fmt::Write;

use serde::Serialize;
use xla_graphs::network::{Shortcut, Unit, Version};
use xla_graphs::ops::batch_norm::BatchNorm;
use xla_graphs::ops::conv::Conv;
use xla_graphs::ops::overlapping_pool;
use xla_graphs::table::TensorSpec;
use xla_graphs::{Layout, ResNet};

use crate::data::CHANNELS;
use crate::model::choose::beyond_kernels;

/// Bytes of an f32 activation.
const BYTES: usize = 4;

/// One row of the table; everything is for one image.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Layer {
    pub name: String,
    pub kind: String,
    /// Dimensions of the output.
    pub output: Vec<usize>,
    pub parameters: usize,
    /// Floating-point operations of the forward pass in inference; a multiplication and an addition
    /// count as two.
    pub flops: usize,
    /// Memory of the output in f32, which training keeps for the backward pass.
    pub activation_bytes: usize,
}

/// The table and its sums.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    pub depth: usize,
    pub layers: Vec<Layer>,
    pub total_parameters: usize,
    pub trainable_parameters: usize,
    pub flops: usize,
    pub activation_bytes: usize,
}

impl Summary {
    /// The summary of `network` for images of `side` rows and columns.
    pub fn of(network: &ResNet, side: usize) -> Self {
        let layers = layers(network, side);
        let layout = Layout::new(network.tensors(), &[]);
        Self {
            depth: network.depth,
            total_parameters: layout.total_parameters(),
            trainable_parameters: layout.trainable_parameters(),
            flops: layers.iter().map(|layer| layer.flops).sum(),
            activation_bytes: layers.iter().map(|layer| layer.activation_bytes).sum(),
            layers,
        }
    }
}

/// The layers that hold parameters or change the shape, in the order in which data meets them.
pub fn layers(network: &ResNet, mut side: usize) -> Vec<Layer> {
    let mut layers = vec![conv(&network.stem, &mut side)];
    layers.extend(network.bn_in.iter().map(|bn| activation(bn, side)));
    if network.stem_pools {
        side = overlapping_pool::output_side(side);
        let output = vec![side, side, network.stem.outputs];
        // The largest of nine.
        let flops = 8 * output.iter().product::<usize>();
        layers.push(layer("max_pool", "max pooling 3x3", output, 0, flops));
    }
    for unit in &network.units {
        unit_layers(unit, &mut side, &mut layers);
    }
    let channels = network.dense.inputs;
    layers.extend(network.bn_out.iter().map(|bn| activation(bn, side)));
    let pooled = side * side * channels;
    layers.push(layer(
        "avg_pool",
        "average pooling",
        vec![channels],
        0,
        pooled,
    ));
    let dense = &network.dense;
    layers.push(layer(
        &dense.name,
        "dense",
        vec![dense.outputs],
        elements(&dense.tensors()),
        // The bias is the sum's first term.
        2 * dense.inputs * dense.outputs,
    ));
    layers
}

fn unit_layers(unit: &Unit, side: &mut usize, layers: &mut Vec<Layer>) {
    let mut shortcut_side = *side;
    for (index, layer) in unit.layers.iter().enumerate() {
        let is_last = index + 1 == unit.layers.len();
        match unit.version {
            Version::V1 => {
                layers.push(conv(&layer.conv, side));
                layers.push(match is_last {
                    true => batch_norm(&layer.bn, *side),
                    false => activation(&layer.bn, *side),
                });
            }
            Version::V2 => {
                layers.push(activation(&layer.bn, *side));
                layers.push(conv(&layer.conv, side));
            }
        }
    }
    layers.extend(
        unit.shortcut
            .projection()
            .map(|c| conv(c, &mut shortcut_side)),
    );
    layers.extend(unit.shortcut_bn.iter().map(|bn| batch_norm(bn, *side)));
    let mut push = |part: &str, kind: &str, side: usize, flops_a_value: usize| {
        let output = vec![side, side, unit.outputs()];
        let flops = flops_a_value * output.iter().product::<usize>();
        layers.push(layer(
            &format!("{}/{part}", unit.name),
            kind,
            output,
            0,
            flops,
        ));
    };
    match (unit.version, &unit.shortcut) {
        (_, Shortcut::None) => {}
        (Version::V1, _) => push("add", "add, ReLU", *side, 2),
        (Version::V2, _) => push("add", "add", *side, 1),
    }
    if unit.pools {
        *side /= 2;
        // The largest of four.
        push("max_pool", "max pooling 2x2", *side, 3);
    }
}

/// The row of a convolution; `side` becomes the side of its output.
fn conv(conv: &Conv, side: &mut usize) -> Layer {
    *side = conv.output_side(*side);
    let stride = if conv.stride > 1 {
        format!(", stride {}", conv.stride)
    } else {
        String::new()
    };
    let output = vec![*side, *side, conv.outputs];
    let terms = conv.side * conv.side * conv.inputs;
    let flops = 2 * terms * output.iter().product::<usize>();
    let kind = format!("conv {0}x{0}{stride}", conv.side);
    layer(&conv.name, &kind, output, elements(&conv.tensors()), flops)
}

/// A batch norm with a ReLU behind it.
fn activation(bn: &BatchNorm, side: usize) -> Layer {
    let norm = batch_norm(bn, side);
    Layer {
        kind: format!("{}, ReLU", norm.kind),
        // The maximum with 0.
        flops: norm.flops + norm.output.iter().product::<usize>(),
        ..norm
    }
}

fn batch_norm(bn: &BatchNorm, side: usize) -> Layer {
    let output = vec![side, side, bn.channels];
    // Times a factor, plus an offset.
    let flops = 2 * output.iter().product::<usize>();
    let parameters = elements(&bn.tensors());
    layer(&bn.name, "batch norm", output, parameters, flops)
}

fn layer(name: &str, kind: &str, output: Vec<usize>, parameters: usize, flops: usize) -> Layer {
    Layer {
        name: name.to_owned(),
        kind: kind.to_owned(),
        activation_bytes: BYTES * output.iter().product::<usize>(),
        output,
        parameters,
        flops,
    }
}

fn elements(tensors: &[TensorSpec]) -> usize {
    tensors.iter().map(TensorSpec::len).sum()
}

/// The table of the network called `name` as text, 80 columns wide where its numbers allow it, ending with the parameter counts as Keras states them.
pub fn table(name: &str, network: &ResNet, side: usize) -> String {
    let summary = Summary::of(network, side);
    let mut text = format!("{name}, one image\n\n");
    let widest = |text: fn(&Layer) -> String, least: usize| {
        let lengths = summary.layers.iter().map(|layer| text(layer).len());
        lengths.max().unwrap_or(0).max(least)
    };
    let outputs = widest(|layer| shape(&layer.output), 13);
    let counts = widest(|layer| grouped(layer.parameters), 7);
    // Writing to a String cannot fail.
    let mut line = |[name, kind, output, parameters, mflops, kib]: [&str; 6]| {
        let _ = writeln!(
            text,
            "{name:<22} {kind:<18} {output:<outputs$} {parameters:>counts$} {mflops:>7} {kib:>6}"
        );
    };
    line(["Layer", "Type", "Output", "Params", "MFLOPs", "KiB"]);
    let input = [side, side, CHANNELS];
    line([
        "input",
        "image",
        &shape(&input),
        "0",
        "0.00",
        &kib(BYTES * input.iter().product::<usize>()),
    ]);
    for layer in &summary.layers {
        line([
            &layer.name,
            &layer.kind,
            &shape(&layer.output),
            &grouped(layer.parameters),
            &format!("{:.2}", layer.flops as f64 / 1e6),
            &kib(layer.activation_bytes),
        ]);
    }
    let _ = write!(
        text,
        "\nForward pass: {:.1} MFLOPs (a multiplication and an addition are two)\n\
         Activations: {:.1} MiB in f32; a training step keeps them for each image\n\
         Total params: {}\nTrainable params: {}\nNon-trainable params: {}\n{}",
        summary.flops as f64 / 1e6,
        summary.activation_bytes as f64 / 1024.0 / 1024.0,
        grouped(summary.total_parameters),
        grouped(summary.trainable_parameters),
        grouped(summary.total_parameters - summary.trainable_parameters),
        beyond_kernels(network).map_or(String::new(), |reason| {
            format!("On a CPU by XLA's operations: {reason}\n")
        })
    );
    text
}

fn kib(bytes: usize) -> String {
    format!("{:.1}", bytes as f64 / 1024.0)
}

fn shape(dims: &[usize]) -> String {
    let dims: Vec<_> = dims.iter().map(usize::to_string).collect();
    format!("({})", dims.join(", "))
}

/// 1727482 as `1,727,482`.
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use xla_graphs::Architecture;
    use xla_graphs::network::Block;
    use xla_graphs::ops::Lowering;

    fn network(depth: usize) -> ResNet {
        let architecture = Architecture::resnet_v2(depth).unwrap();
        ResNet::new(&architecture, 10, Lowering::Native).unwrap()
    }

    #[test]
    fn resnet_164_has_the_tutorials_parameter_count() {
        let table = table("ResNet-164 v2", &network(164), 32);
        assert!(table.contains("Total params: 1,727,482\n"), "{table}");
    }

    #[test]
    fn the_rows_add_up_to_the_total() {
        for depth in [11, 20, 164] {
            let network = network(depth);
            let sum: usize = layers(&network, 32).iter().map(|l| l.parameters).sum();
            let layout = Layout::new(network.tensors(), &[]);
            assert_eq!(sum, layout.total_parameters());
        }
    }

    #[test]
    fn resnet_164_has_the_operations_that_the_literature_states() {
        // Liu et al. 2017, "Learning Efficient Convolutional Networks through Network Slimming", table 1: 4.99e8.
        let flops = Summary::of(&network(164), 32).flops as f64;
        assert!((flops / 4.99e8 - 1.0).abs() < 0.01, "{flops}");
    }

    #[test]
    fn operations_and_memory_of_a_layer_are_those_of_a_calculation_by_hand() {
        let layers = layers(&network(11), 32);
        let of = |name: &str| {
            let layer = layers.iter().find(|layer| layer.name == name).unwrap();
            (layer.flops, layer.activation_bytes)
        };
        // 27 products and their sum for each of 32 * 32 * 16 outputs, of 4 bytes.
        assert_eq!(of("conv_in"), (2 * 27 * 16_384, 65_536));
        // Stride 2: 16 * 16 positions, 64 inputs, 128 outputs.
        assert_eq!(of("stage2/unit01/shortcut"), (2 * 64 * 32_768, 131_072));
        assert_eq!(of("bn_out"), (3 * 16_384, 65_536));
        assert_eq!(of("dense"), (2 * 2_560, 40));
    }

    #[test]
    fn a_network_of_version_1_has_its_batch_norms_behind_the_convolutions() {
        let architecture = Architecture::v1(Block::Basic, &[2, 2, 2, 2], &[64, 128, 256, 512]);
        let network = ResNet::new(&architecture.unwrap(), 1000, Lowering::Native).unwrap();
        let all = layers(&network, 224);
        let rows: Vec<_> = all
            .iter()
            .map(|row| (&row.name[..], &row.kind[..]))
            .collect();
        let first = [
            ("conv_in", "conv 7x7, stride 2"),
            ("bn_in", "batch norm, ReLU"),
            ("max_pool", "max pooling 3x3"),
            ("stage1/unit01/conv1", "conv 3x3"),
            ("stage1/unit01/bn1", "batch norm, ReLU"),
            ("stage1/unit01/conv2", "conv 3x3"),
            ("stage1/unit01/bn2", "batch norm"),
            ("stage1/unit01/add", "add, ReLU"),
        ];
        assert_eq!(rows[..first.len()], first);
        let names = rows.iter().map(|row| row.0).collect::<Vec<_>>().join(" ");
        let part =
            "stage2/unit01/bn2 stage2/unit01/shortcut stage2/unit01/bn_skip stage2/unit01/add";
        assert!(names.contains(part), "{names}");
        assert!(
            names.ends_with("stage4/unit02/add avg_pool dense"),
            "{names}"
        );
        // Torchvision's documentation of these weights has 1.81 billion multiplications and additions.
        let products: usize = all
            .iter()
            .filter(|row| row.kind.starts_with("conv"))
            .map(|row| row.flops)
            .sum();
        assert!(
            (products as f64 / 2.0 / 1.81e9 - 1.0).abs() < 0.01,
            "{products}"
        );
        let table = table("ResNet-18-ImageNet v1", &network, 224);
        let reason = "On a CPU by XLA's operations: batch norms come behind convolutions";
        assert!(table.contains(reason), "{table}");
    }

    #[test]
    fn the_table_fits_80_columns() {
        let table = table("ResNet-164 v2", &network(164), 32);
        let widest = table.lines().map(str::len).max().unwrap();
        assert!(widest <= 80, "{widest}");
    }

    #[test]
    fn the_stages_end_at_32_16_and_8_pixels() {
        let layers = layers(&network(164), 32);
        let output = |name: &str| {
            let layer = layers.iter().find(|l| l.name == name);
            layer.map(|l| l.output.clone())
        };
        assert_eq!(output("stage1/unit18/add"), Some(vec![32, 32, 64]));
        assert_eq!(output("stage2/unit01/shortcut"), Some(vec![16, 16, 128]));
        assert_eq!(output("stage3/unit18/add"), Some(vec![8, 8, 256]));
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(
            [0, 999, 1000, 1727482].map(grouped),
            ["0", "999", "1,000", "1,727,482"]
        );
    }
}
