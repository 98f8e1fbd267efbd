//! Runs a `.keras` file as Keras's documentation defines its layers, with readers of its own for the archive and the
//! weights.

use std::collections::HashMap;

use serde_json::Value;

use crate::array::{self, Array, Geometry};
use crate::hdf5;
use crate::order;
use crate::zip;

/// A model as its file has it.
pub struct Model {
    pub metadata: Value,
    config: Value,
    /// By path, such as `layers/conv2d/vars/0`.
    variables: HashMap<String, Array>,
}

impl Model {
    pub fn read(bytes: &[u8]) -> Self {
        let files = zip::files(bytes);
        let json = |name: &str| serde_json::from_slice(&files[name]).unwrap();
        Self {
            metadata: json("metadata.json"),
            config: json("config.json"),
            variables: hdf5::arrays(&files["model.weights.h5"]),
        }
    }

    /// The output for `images` `[N, H, W, 3]`.
    pub fn run(&self, images: &Array) -> Array {
        assert_eq!(self.config["class_name"], "Functional");
        let config = &self.config["config"];
        let last = config["output_layers"][0].as_str().unwrap();
        let mut counts = HashMap::new();
        let mut outputs = HashMap::new();
        outputs.insert("", array::transpose(images, [0, 3, 1, 2]));
        for layer in order::of(config["layers"].as_array().unwrap(), last) {
            let class = layer["class_name"].as_str().unwrap();
            let count = counts.entry(class).and_modify(|n| *n += 1).or_insert(0);
            let variables = Variables {
                model: self,
                class,
                number: *count,
            };
            let inputs: Vec<&Array> = inputs(layer).map(|name| &outputs[name]).collect();
            let output = apply(class, &layer["config"], &inputs, &variables);
            let name = layer["name"].as_str().unwrap();
            assert_eq!(layer["config"]["name"], name);
            assert!(outputs.insert(name, output).is_none(), "{name}");
        }
        outputs.remove(last).unwrap()
    }
}

/// The names of the layers that `layer` takes its input from; that of the images has none.
pub fn inputs(layer: &Value) -> impl Iterator<Item = &str> {
    let calls = layer["inbound_nodes"].as_array().unwrap();
    let of_images = calls.is_empty().then_some("");
    let arguments = calls.iter().flat_map(|call| match &call["args"][0] {
        Value::Array(several) => several.iter().collect(),
        one => vec![one],
    });
    let names = arguments.map(|tensor| tensor["config"]["keras_history"][0].as_str().unwrap());
    of_images.into_iter().chain(names)
}

/// The variables of a layer, which Keras finds by its class and how many of that class come before it.
struct Variables<'a> {
    model: &'a Model,
    class: &'a str,
    number: usize,
}

impl Variables<'_> {
    fn get(&self, index: usize) -> &Array {
        let class = match self.class {
            "Conv2D" => "conv2d",
            "BatchNormalization" => "batch_normalization",
            "Dense" => "dense",
            other => panic!("{other} has no variables"),
        };
        let layer = match self.number {
            0 => class.to_owned(),
            number => format!("{class}_{number}"),
        };
        &self.model.variables[&format!("layers/{layer}/vars/{index}")]
    }
}

fn apply(class: &str, config: &Value, inputs: &[&Array], variables: &Variables) -> Array {
    match (class, inputs) {
        ("InputLayer", [images]) => (*images).clone(),
        ("Rescaling", [x]) => rescale(config, x),
        ("Conv2D", [x]) => conv(config, x, variables.get(0)),
        ("BatchNormalization", [x]) => {
            assert_eq!(config["axis"], -1);
            let constants = [0, 1, 2, 3].map(|index| variables.get(index));
            array::batch_norm(x, constants, config["epsilon"].as_f64().unwrap())
        }
        ("ReLU", [x]) => x.map(|value| value.max(0.0)),
        ("Add", [x, y]) => array::sum(x, y),
        ("MaxPooling2D", [x]) => {
            let (sides, strides) = (pair(&config["pool_size"]), pair(&config["strides"]));
            assert_eq!(sides[0], sides[1]);
            array::max_pool(x, sides[0], &geometry(config, x, sides, strides))
        }
        ("ZeroPadding2D", [x]) => {
            let [rows, columns] = [0, 1].map(|axis| pair(&config["padding"][axis]));
            match config["data_format"].as_str() {
                Some("channels_last") => array::with_border(x, rows, columns),
                // It takes the images as [N, channels, rows, columns], and they are [N, rows, columns, channels].
                Some("channels_first") => {
                    assert_eq!((rows, columns[0]), ([0, 0], 0));
                    array::with_channels(x, x.dims[1] + columns[1])
                }
                other => panic!("{other:?}"),
            }
        }
        ("GlobalAveragePooling2D", [x]) => array::means(x),
        ("Dense", [x]) => {
            assert_eq!(config["units"], variables.get(1).dims[0]);
            array::dense(x, variables.get(0), variables.get(1))
        }
        (other, _) => panic!("{other}"),
    }
}

fn rescale(config: &Value, x: &Array) -> Array {
    let of_channel = |key: &str, channel: usize| config[key][channel].as_f64().unwrap();
    Array::from_fn(x.sizes(), |place| {
        x.at(place) * of_channel("scale", place[1]) + of_channel("offset", place[1])
    })
}

fn conv(config: &Value, x: &Array, kernel: &Array) -> Array {
    assert_eq!(config["use_bias"], false);
    let (sides, strides) = (pair(&config["kernel_size"]), pair(&config["strides"]));
    assert_eq!(sides, kernel.dims[..2]);
    assert_eq!(config["filters"], kernel.dims[3]);
    let kernel = array::transpose(kernel, [3, 2, 0, 1]);
    array::conv(x, &kernel, &geometry(config, x, sides, strides))
}

/// Strides and padding of a window with these sides, as `config` names the padding.
fn geometry(config: &Value, x: &Array, sides: [usize; 2], strides: [usize; 2]) -> Geometry {
    match config["padding"].as_str() {
        Some("same") => same(x, sides, strides),
        Some("valid") => Geometry {
            strides,
            before: [0, 0],
            after: [0, 0],
        },
        other => panic!("{other:?}"),
    }
}

/// The padding "same" of a window with these sides, as TensorFlow defines it: the larger half of an odd number of pixels
/// after.
fn same(x: &Array, sides: [usize; 2], strides: [usize; 2]) -> Geometry {
    let total = [0, 1].map(|axis| {
        let size = x.dims[2 + axis];
        let covered = (size.div_ceil(strides[axis]) - 1) * strides[axis] + sides[axis];
        covered.saturating_sub(size)
    });
    let before = total.map(|total| total / 2);
    Geometry {
        strides,
        before,
        after: [total[0] - before[0], total[1] - before[1]],
    }
}

fn pair(value: &Value) -> [usize; 2] {
    [0, 1].map(|index| value[index].as_u64().unwrap() as usize)
}
