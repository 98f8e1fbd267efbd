//! The layer table of a network, in the manner of Keras's `model.summary()`.

use std::fmt::Write;

use xla_graphs::layout::TensorSpec;
use xla_graphs::ops::batch_norm::BatchNorm;
use xla_graphs::ops::conv::Conv;
use xla_graphs::resnet::Unit;
use xla_graphs::{Layout, ResNet};

use crate::data;

/// One row of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    pub name: String,
    pub kind: String,
    /// Dimensions of the output for one image.
    pub output: Vec<usize>,
    pub parameters: usize,
}

/// The layers that hold parameters or change the shape, in the order in which data meets them.
pub fn layers(network: &ResNet) -> Vec<Layer> {
    let mut side = data::SIDE;
    let mut layers = vec![conv(&network.stem, &mut side)];
    for unit in &network.units {
        unit_layers(unit, &mut side, &mut layers);
    }
    let channels = network.bn_out.channels;
    layers.push(batch_norm(&network.bn_out, side));
    layers.push(Layer {
        name: "avg_pool".to_owned(),
        kind: "global average pooling".to_owned(),
        output: vec![channels],
        parameters: 0,
    });
    layers.push(Layer {
        name: network.dense.name.clone(),
        kind: "dense, softmax".to_owned(),
        output: vec![network.dense.outputs],
        parameters: elements(&network.dense.tensors()),
    });
    layers
}

fn unit_layers(unit: &Unit, side: &mut usize, layers: &mut Vec<Layer>) {
    layers.push(batch_norm(&unit.bn1, *side));
    let mut shortcut_side = *side;
    layers.push(conv(&unit.conv1, side));
    layers.push(batch_norm(&unit.bn2, *side));
    layers.push(conv(&unit.conv2, side));
    layers.push(batch_norm(&unit.bn3, *side));
    layers.push(conv(&unit.conv3, side));
    layers.extend(unit.shortcut.as_ref().map(|c| conv(c, &mut shortcut_side)));
    layers.push(Layer {
        name: format!("{}/add", unit.name),
        kind: "add".to_owned(),
        output: vec![*side, *side, unit.conv3.outputs],
        parameters: 0,
    });
}

/// The row of a convolution; `side` becomes the side of its output.
fn conv(conv: &Conv, side: &mut usize) -> Layer {
    *side = conv.output_side(*side);
    let stride = if conv.stride > 1 {
        format!(", stride {}", conv.stride)
    } else {
        String::new()
    };
    Layer {
        name: conv.name.clone(),
        kind: format!("conv {0}x{0}{stride}", conv.side),
        output: vec![*side, *side, conv.outputs],
        parameters: elements(&conv.tensors()),
    }
}

fn batch_norm(bn: &BatchNorm, side: usize) -> Layer {
    Layer {
        name: bn.name.clone(),
        kind: "batch norm, ReLU".to_owned(),
        output: vec![side, side, bn.channels],
        parameters: elements(&bn.tensors()),
    }
}

fn elements(tensors: &[TensorSpec]) -> usize {
    tensors.iter().map(TensorSpec::len).sum()
}

/// The table as text, ending with the parameter counts as Keras states them.
pub fn table(network: &ResNet) -> String {
    let mut text = format!("ResNet-{} v2\n\n", network.depth);
    // Writing to a String cannot fail.
    let mut line = |name: &str, kind: &str, output: &str, parameters: &str| {
        let _ = writeln!(text, "{name:<26} {kind:<24} {output:<16} {parameters:>10}");
    };
    line("Layer", "Type", "Output", "Params");
    line("input", "images", &shape(&[data::SIDE, data::SIDE, 3]), "0");
    for layer in layers(network) {
        let parameters = grouped(layer.parameters);
        line(&layer.name, &layer.kind, &shape(&layer.output), &parameters);
    }
    let layout = Layout::new(network);
    let (total, trainable) = (layout.total_parameters(), layout.trainable_parameters());
    let _ = write!(
        text,
        "\nTotal params: {}\nTrainable params: {}\nNon-trainable params: {}\n",
        grouped(total),
        grouped(trainable),
        grouped(total - trainable)
    );
    text
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
    use xla_graphs::ops::Lowering;

    fn network(depth: usize) -> ResNet {
        ResNet::new(depth, 10, Lowering::Native).unwrap()
    }

    #[test]
    fn resnet_164_has_the_tutorials_parameter_count() {
        let table = table(&network(164));
        assert!(table.contains("Total params: 1,727,482\n"), "{table}");
    }

    #[test]
    fn the_rows_add_up_to_the_total() {
        for depth in [11, 20, 164] {
            let network = network(depth);
            let sum: usize = layers(&network).iter().map(|l| l.parameters).sum();
            assert_eq!(sum, Layout::new(&network).total_parameters());
        }
    }

    #[test]
    fn the_stages_end_at_32_16_and_8_pixels() {
        let layers = layers(&network(164));
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
