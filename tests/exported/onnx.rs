//! Runs an ONNX model as the operators' documentation defines them.

use std::collections::HashMap;

use resnet_xla::export::onnx::messages::{Model, Node, Tensor};

use crate::array::{self, Array, Geometry};

/// The output of `model` for `images`: both its only ones.
pub fn run(model: &Model, images: Array) -> Array {
    let graph = model.graph.as_ref().unwrap();
    let constants = graph.constants.iter();
    let mut values: HashMap<&str, Array> = constants
        .map(|tensor| (tensor.name.as_str(), constant(tensor)))
        .collect();
    values.insert(&graph.inputs[0].name, images);
    for node in &graph.nodes {
        let inputs = node.inputs.iter().map(|name| &values[name.as_str()]);
        let output = apply(node, &inputs.collect::<Vec<_>>());
        assert!(
            values.insert(&node.outputs[0], output).is_none(),
            "{node:?}"
        );
    }
    values.remove(graph.outputs[0].name.as_str()).unwrap()
}

fn constant(tensor: &Tensor) -> Array {
    let dims = tensor.dims.iter().map(|dim| *dim as usize).collect();
    let (values, rest) = tensor.bytes.as_chunks();
    assert!(rest.is_empty());
    let values = values
        .iter()
        .map(|value| f64::from(f32::from_le_bytes(*value)));
    Array::new(dims, values.collect())
}

fn apply(node: &Node, inputs: &[&Array]) -> Array {
    match (node.operator.as_str(), inputs) {
        ("Cast", [x]) => (*x).clone(),
        ("Sub", [x, y]) => array::with_row(x, y, |x, y| x - y),
        ("Mul", [x, y]) => array::with_row(x, y, |x, y| x * y),
        ("Add", [x, y]) => array::sum(x, y),
        ("Relu", [x]) => x.map(|value| value.max(0.0)),
        ("Transpose", [x]) => array::transpose(x, ints(node, "perm")),
        ("Conv", [x, kernel]) => conv(node, x, kernel),
        ("BatchNormalization", [x, gamma, beta, mean, variance]) => {
            array::batch_norm(x, [gamma, beta, mean, variance], epsilon(node))
        }
        ("MaxPool", [x]) => {
            let [side, other]: [usize; 2] = ints(node, "kernel_shape");
            assert_eq!(side, other);
            let has_pads = node.attributes.iter().any(|found| found.name == "pads");
            array::max_pool(x, side, &geometry(node, has_pads))
        }
        ("GlobalAveragePool", [x]) => {
            let means = array::means(x);
            Array::new([&means.dims[..], &[1, 1]].concat(), means.values)
        }
        ("Flatten", [x]) => {
            let row = x.dims[1..].iter().product();
            Array::new(vec![x.dims[0], row], x.values.clone())
        }
        ("Gemm", [x, kernel, bias]) => array::dense(x, kernel, bias),
        (other, _) => panic!("{other}"),
    }
}

fn conv(node: &Node, x: &Array, kernel: &Array) -> Array {
    assert_eq!(ints::<2>(node, "kernel_shape"), kernel.dims[2..]);
    array::conv(x, kernel, &geometry(node, true))
}

/// Strides and, if it has any, the padding of a node.
fn geometry(node: &Node, has_pads: bool) -> Geometry {
    let [top, left, bottom, right] = match has_pads {
        true => ints(node, "pads"),
        false => [0; 4],
    };
    Geometry {
        strides: ints(node, "strides"),
        before: [top, left],
        after: [bottom, right],
    }
}

fn ints<const N: usize>(node: &Node, name: &str) -> [usize; N] {
    let found = node.attributes.iter().find(|found| found.name == name);
    let ints = found.unwrap().ints.iter().map(|int| *int as usize);
    ints.collect::<Vec<_>>().try_into().unwrap()
}

fn epsilon(node: &Node) -> f64 {
    let [attribute] = &node.attributes[..] else {
        panic!("{node:?}")
    };
    assert_eq!(attribute.name, "epsilon");
    attribute.float.unwrap().into()
}
