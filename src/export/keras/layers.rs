//! The layers of a network as Keras's. Kernels and images have the same order of axes in both.

use std::collections::HashMap;

use serde_json::{Value, json};
use xla_graphs::ops::batch_norm::BatchNorm;
use xla_graphs::ops::conv::{Conv, Padding};
use xla_graphs::ops::dense::Dense;
use xla_graphs::ops::overlapping_pool;
use xla_graphs::ops::widen::Widen;

use crate::data::{CHANNELS, Normalization};
use crate::export::Exported;
use crate::export::translate::{Translate, features};

/// The model's configuration, and the variables of its layers.
pub struct Layers {
    pub config: Value,
    pub variables: Vec<Variables>,
}

/// The variables of a layer.
pub struct Variables {
    /// The layer as a file of weights calls it: by its kind, numbered.
    pub layer: String,
    /// The names of our tensors, in the order of the layer's variables.
    pub tensors: Vec<String>,
}

/// What a layer gives.
#[derive(Clone)]
struct Output {
    layer: String,
    /// Without the axis of the images.
    dims: Vec<usize>,
}

/// Translates layers, from the first to the last.
struct Translation {
    l2: f64,
    layers: Vec<Value>,
    variables: Vec<Variables>,
    /// How many layers of each kind have variables.
    counts: HashMap<&'static str, usize>,
}

/// The whole network, from raw pixels to logits.
pub fn of(exported: &Exported) -> Layers {
    let network = &exported.network;
    let mut translation = Translation {
        l2: exported.info.l2,
        layers: Vec::new(),
        variables: Vec::new(),
        counts: HashMap::new(),
    };
    let images = translation.images(exported.info.spec.side);
    let normalised = translation.normalise(&exported.info.normalization, &images);
    let features = features(&mut translation, network, &normalised);
    let logits = translation.classify(&network.dense, &features);
    let name = exported.info.network().to_string();
    let model = json!({
        "name": name.to_lowercase().replace(' ', "_"),
        "trainable": true,
        "layers": translation.layers,
        "input_layers": [images.layer, 0, 0],
        "output_layers": [logits.layer, 0, 0],
    });
    Layers {
        config: object("keras.src.models.functional", "Functional", model),
        variables: translation.variables,
    }
}

impl Translation {
    fn images(&mut self, side: usize) -> Output {
        let name = "images";
        let dims = vec![side, side, CHANNELS];
        let config = json!({"batch_shape": shape(&dims), "dtype": "float32"});
        self.layer("InputLayer", name, config, json!([]), dims)
    }

    /// Pixels from 0 to 255 as the network was trained on them: times a factor, plus an offset.
    fn normalise(&mut self, normalization: &Normalization, x: &Output) -> Output {
        let scale = normalization.scale();
        let offset = [0, 1, 2].map(|c| -normalization.mean[c] * scale[c]);
        let config = json!({"scale": scale, "offset": offset});
        self.after("Rescaling", "normalised", config, x, x.dims.clone())
    }

    /// Logits of the means of the features' channels.
    fn classify(&mut self, dense: &Dense, features: &Output) -> Output {
        let kind = "GlobalAveragePooling2D";
        let means = self.after(kind, "means", json!({}), features, vec![dense.inputs]);
        self.has("dense", &dense.name, &["kernel", "bias"]);
        let config = json!({"units": dense.outputs, "kernel_regularizer": self.penalty()});
        self.after("Dense", &dense.name, config, &means, vec![dense.outputs])
    }

    /// `x` for the layer called `layer`, whose window of `side` pixels moves by `stride`, and what Keras calls the padding
    /// that is left to do: "same" has the odd pixel on the far side, so others are zeros that come before.
    fn padded(
        &mut self,
        layer: &str,
        padding: Padding,
        (side, stride): (usize, usize),
        x: &Output,
    ) -> (Output, &'static str) {
        let pads = |padding: Padding| [0, 1].map(|axis| padding.of(x.dims[axis], side, stride));
        if pads(padding) == pads(Padding::Far) {
            return (x.clone(), "same");
        }
        let [rows, columns] = pads(padding);
        let config = json!({"padding": [rows, columns], "data_format": "channels_last"});
        let sum = |size: usize, (low, high): (i64, i64)| size + (low + high) as usize;
        let dims = vec![sum(x.dims[0], rows), sum(x.dims[1], columns), x.dims[2]];
        let name = format!("{layer}/zeros");
        let zeros = self.after("ZeroPadding2D", &name, config, x, dims);
        (zeros, "valid")
    }

    fn penalty(&self) -> Value {
        object("keras.regularizers", "L2", json!({"l2": self.l2}))
    }

    /// Notes that the next layer, of `kind`, has the tensors `constants` of our layer `name`.
    fn has(&mut self, kind: &'static str, name: &str, constants: &[&str]) {
        let count = self.counts.entry(kind).or_default();
        self.variables.push(Variables {
            layer: match count {
                0 => kind.to_owned(),
                _ => format!("{kind}_{count}"),
            },
            tensors: constants
                .iter()
                .map(|constant| format!("{name}/{constant}"))
                .collect(),
        });
        *count += 1;
    }

    /// Adds a layer of `class` that takes `x` and gives `dims`.
    fn after(
        &mut self,
        class: &str,
        name: &str,
        config: Value,
        x: &Output,
        dims: Vec<usize>,
    ) -> Output {
        let calls = json!([{"args": [tensor(x)], "kwargs": {}}]);
        self.layer(class, name, config, calls, dims)
    }

    /// Adds a layer of `class` with the `calls` that give it its inputs.
    fn layer(
        &mut self,
        class: &str,
        name: &str,
        mut config: Value,
        calls: Value,
        dims: Vec<usize>,
    ) -> Output {
        // Keras allows no slash in a name.
        let layer = name.replace('/', ".");
        config["name"] = json!(layer);
        let mut entry = object("keras.layers", class, config);
        entry["name"] = json!(layer);
        entry["inbound_nodes"] = calls;
        self.layers.push(entry);
        Output { layer, dims }
    }
}

impl Translate for Translation {
    type Images = Output;

    fn batch_norm(&mut self, bn: &BatchNorm, x: &Output) -> Output {
        let constants = ["gamma", "beta", "moving_mean", "moving_variance"];
        self.has("batch_normalization", &bn.name, &constants);
        let config = json!({"axis": -1, "epsilon": bn.epsilon});
        self.after("BatchNormalization", &bn.name, config, x, x.dims.clone())
    }

    fn relu(&mut self, behind: &str, x: &Output) -> Output {
        let name = format!("{behind}/relu");
        self.after("ReLU", &name, json!({}), x, x.dims.clone())
    }

    fn convolve(&mut self, conv: &Conv, x: &Output) -> Output {
        self.has("conv2d", &conv.name, &["kernel"]);
        let sides = (conv.side, conv.stride);
        let (padded, padding) = self.padded(&conv.name, conv.padding, sides, x);
        let config = json!({
            "filters": conv.outputs,
            "kernel_size": [conv.side, conv.side],
            "strides": [conv.stride, conv.stride],
            "padding": padding,
            "use_bias": false,
            "kernel_initializer": "he_normal",
            "kernel_regularizer": self.penalty(),
        });
        let side = |axis: usize| conv.output_side(x.dims[axis]);
        let dims = vec![side(0), side(1), conv.outputs];
        self.after("Conv2D", &conv.name, config, &padded, dims)
    }

    fn add(&mut self, unit: &str, y: &Output, shortcut: &Output) -> Output {
        let calls = json!([{"args": [[tensor(shortcut), tensor(y)]], "kwargs": {}}]);
        self.layer(
            "Add",
            &format!("{unit}/sum"),
            json!({}),
            calls,
            y.dims.clone(),
        )
    }

    fn pool_stem(&mut self, padding: Padding, x: &Output) -> Output {
        let (side, stride) = (overlapping_pool::SIDE, overlapping_pool::STRIDE);
        // Zeros are no larger than what a ReLU gives.
        let (padded, padding) = self.padded("conv_in/max", padding, (side, stride), x);
        let config =
            json!({"pool_size": [side, side], "strides": [stride, stride], "padding": padding});
        let side = |axis: usize| overlapping_pool::output_side(x.dims[axis]);
        let dims = vec![side(0), side(1), x.dims[2]];
        self.after("MaxPooling2D", "conv_in/max", config, &padded, dims)
    }

    fn widen(&mut self, unit: &str, widen: &Widen, x: &Output) -> Output {
        let stride = widen.stride;
        let config = json!({"pool_size": [1, 1], "strides": [stride, stride], "padding": "valid"});
        let side = |axis: usize| x.dims[axis].div_ceil(stride);
        let dims = vec![side(0), side(1), widen.inputs];
        let name = format!("{unit}/shortcut");
        let seen = self.after("MaxPooling2D", &format!("{name}/seen"), config, x, dims);
        // Of images with their channels first it would pad the last two axes, which here are columns and channels.
        let more = widen.outputs - widen.inputs;
        let config = json!({"padding": [[0, 0], [0, more]], "data_format": "channels_first"});
        let dims = vec![seen.dims[0], seen.dims[1], widen.outputs];
        self.after("ZeroPadding2D", &name, config, &seen, dims)
    }

    fn pool(&mut self, unit: &str, x: &Output) -> Output {
        let config = json!({"pool_size": [2, 2], "strides": [2, 2], "padding": "valid"});
        let dims = vec![x.dims[0] / 2, x.dims[1] / 2, x.dims[2]];
        self.after("MaxPooling2D", &format!("{unit}/max"), config, x, dims)
    }
}

/// An object as Keras writes it.
fn object(module: &str, class: &str, config: Value) -> Value {
    json!({"module": module, "class_name": class, "config": config, "registered_name": null})
}

/// The output of a layer as the input of another.
fn tensor(output: &Output) -> Value {
    json!({
        "class_name": "__keras_tensor__",
        "config": {
            "shape": shape(&output.dims),
            "dtype": "float32",
            "keras_history": [output.layer, 0, 0],
        },
    })
}

/// Any number of images, then `dims`.
fn shape(dims: &[usize]) -> Value {
    let free = std::iter::once(Value::Null);
    free.chain(dims.iter().map(|dim| json!(dim))).collect()
}
