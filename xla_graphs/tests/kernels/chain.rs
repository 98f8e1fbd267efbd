//! Two layers, as kernels and composed of XLA's operations.

use xla::{PrimitiveType, XlaOp};
use xla_graphs::Result;
use xla_graphs::collective::Replicas;
use xla_graphs::ops::batch_norm::{BatchNorm, EPSILON};
use xla_graphs::ops::conv::{Conv, Padding};
use xla_graphs::ops::kernels::{self, Features, Gradient, Inference};
use xla_graphs::ops::{Lowering, relu};
use xla_graphs::tensors::Tensors;

use crate::common::{Input, input, shift_away_from_zero};

/// Side and stride of a convolution and its output channels.
#[derive(Clone, Copy)]
pub struct Shape(pub usize, pub usize, pub usize);

/// Two layers, one behind the other.
pub struct Chain {
    pub layers: [(BatchNorm, Conv); 2],
    pub x_dims: [usize; 4],
}

impl Chain {
    pub fn new(x_dims: [usize; 4], shapes: [Shape; 2]) -> Self {
        let mut inputs = x_dims[3];
        let layers = [0, 1].map(|index| {
            let Shape(side, stride, outputs) = shapes[index];
            let bn = BatchNorm {
                name: format!("b{index}"),
                channels: inputs,
                epsilon: EPSILON,
                lowering: Lowering::Native,
            };
            let conv = Conv {
                name: format!("c{index}"),
                side,
                stride,
                inputs,
                outputs,
                padding: Padding::Far,
                lowering: Lowering::Native,
            };
            inputs = outputs;
            (bn, conv)
        });
        Self { layers, x_dims }
    }

    pub fn y_dims(&self) -> [usize; 4] {
        let [n, mut h, mut w, _] = self.x_dims;
        for (_, conv) in &self.layers {
            (h, w) = (conv.output_side(h), conv.output_side(w));
        }
        [n, h, w, self.layers[1].1.outputs]
    }

    /// Both sides round differently, and no activation may lie so near zero that its gradient depends on that. What the
    /// first norm makes of `x` has both signs in every channel and a gap between them; the second norm's input has not,
    /// and its channels are shifted away from zero.
    pub fn inputs(&self) -> Vec<Input> {
        let mut x = input("x", &self.x_dims);
        for value in &mut x.values {
            *value += value.signum();
        }
        let mut inputs = vec![
            x,
            input("skip", &self.y_dims()),
            input("dy", &self.y_dims()),
        ];
        for (bn, conv) in &self.layers {
            for spec in bn.tensors().into_iter().chain(conv.tensors()) {
                let mut tensor = input(Box::leak(spec.name.into_boxed_str()), &spec.dims);
                match tensor.name {
                    "b0/beta" => tensor.values.iter_mut().for_each(|v| *v *= 0.1),
                    "b0/gamma" => tensor.values.iter_mut().for_each(|v| *v += v.signum()),
                    "b1/beta" => shift_away_from_zero(&mut tensor.values),
                    name if name.ends_with("variance") => {
                        tensor.values.iter_mut().for_each(|v| *v = v.abs() + 0.5);
                    }
                    _ => {}
                }
                inputs.push(tensor);
            }
        }
        inputs
    }

    /// The results that both sides give, in order.
    pub fn names(&self) -> Vec<String> {
        let mut names = vec!["y".to_owned(), "inferred".to_owned(), "dx".to_owned()];
        for index in 0..2 {
            for tensor in [
                "b/gamma",
                "b/beta",
                "b/moving_mean",
                "b/moving_variance",
                "c/kernel",
            ] {
                names.push(tensor.replacen('/', &format!("{index}/"), 1));
            }
        }
        names
    }

    /// With the roundings of images of type `images`: of all that is stored, and of the factors of products.
    pub fn composed(&self, t: &Tensors, images: PrimitiveType) -> Result<Vec<XlaOp>> {
        let rounded =
            |x: &XlaOp| -> Result<XlaOp> { Ok(x.convert(images)?.convert(PrimitiveType::F32)?) };
        let mut factors = Tensors::new();
        for (name, value) in t.iter() {
            let is_factor = !name.starts_with('b');
            factors.insert(
                name,
                if is_factor {
                    rounded(value)?
                } else {
                    value.clone()
                },
            );
        }
        let (t, one) = (&factors, Replicas(1));
        let (mut batch, mut gradients) = (Tensors::new(), Tensors::new());
        let [(bn0, conv0), (bn1, conv1)] = &self.layers;
        let (z0, saved0) = bn0.forward(t, t.get("x")?, one, &mut batch)?;
        let a0 = rounded(&relu::forward(&z0)?)?;
        let h = rounded(&conv0.forward(t, &a0)?)?;
        let (z1, saved1) = bn1.forward(t, &h, one, &mut batch)?;
        let a1 = rounded(&relu::forward(&z1)?)?;
        let y = rounded(&(conv1.forward(t, &a1)? + t.get("skip")?)?)?;

        let infer = |bn: &BatchNorm, conv: &Conv, x: &XlaOp| -> Result<XlaOp> {
            let a = rounded(&relu::forward(&bn.infer(t, x)?)?)?;
            rounded(&conv.forward(t, &a)?)
        };
        let inferred = infer(bn1, conv1, &infer(bn0, conv0, t.get("x")?)?)?;

        let da1 = conv1.backward(t, &a1, t.get("dy")?, &mut gradients)?;
        let dz1 = rounded(&relu::backward(&a1, &da1)?)?;
        let dh = rounded(&bn1.backward(t, &saved1, &dz1, one, &mut gradients)?)?;
        let da0 = conv0.backward(t, &a0, &dh, &mut gradients)?;
        let dz0 = rounded(&relu::backward(&a0, &da0)?)?;
        let dx = rounded(&bn0.backward(t, &saved0, &dz0, one, &mut gradients)?)?;

        let mut results = vec![y, inferred, dx];
        for (bn, conv) in &self.layers {
            for tensor in ["gamma", "beta"] {
                results.push(gradients.get(&format!("{}/{tensor}", bn.name))?.clone());
            }
            for tensor in ["moving_mean", "moving_variance"] {
                results.push(batch.get(&format!("{}/{tensor}", bn.name))?.clone());
            }
            results.push(gradients.get(&format!("{}/kernel", conv.name))?.clone());
        }
        Ok(results)
    }

    /// The same on the kernels, with images of type `images`, f32 or bf16.
    pub fn fused(&self, t: &Tensors, images: PrimitiveType) -> Result<Vec<XlaOp>> {
        let one = Replicas(1);
        let (mut batch, mut gradients) = (Tensors::new(), Tensors::new());
        let [(bn0, conv0), (bn1, conv1)] = &self.layers;
        let stored = |name| -> Result<XlaOp> { Ok(t.get(name)?.convert(images)?) };
        let (x, skip, dy) = (stored("x")?, stored("skip")?, stored("dy")?);
        bn0.forward(t, &x, one, &mut batch)?;
        let mean = batch.get("b0/moving_mean")?;
        let x = Features::new(&x, mean, batch.get("b0/moving_variance")?)?;
        let h = kernels::forward(t, bn0, conv0, &x, None, one)?;
        let added = h.with_images(&skip)?;
        let y = kernels::forward(t, bn1, conv1, &h, Some(&added), one)?.images()?;

        let images = x.images()?;
        let (mut call, value) = Inference::new(t, &images)?;
        let value = call.layer((bn0, conv0, false), value, None)?;
        call.layer((bn1, conv1, false), value, None)?;
        let inferred = call.result()?;

        x.record(bn0, &mut batch)?;
        h.record(bn1, &mut batch)?;
        let dy = Gradient::Plain(dy);
        let dz1 = kernels::backward(t, bn1, conv1, &h, &dy, one, &mut gradients)?;
        let dz1 = Gradient::BehindNorm(Box::new(dz1));
        let dz0 = kernels::backward(t, bn0, conv0, &x, &dz1, one, &mut gradients)?;
        let dx = dz0.with_skip(&x.zeros()?).sum(t)?;

        let mut results = vec![y, inferred, dx];
        for result in &mut results {
            *result = result.convert(PrimitiveType::F32)?;
        }
        for (bn, conv) in &self.layers {
            let half = |pair: &XlaOp, which: i64| {
                let channels = bn.channels as i64;
                pair.slice_in_dim(which * channels, (which + 1) * channels, 1, 0)
            };
            let sums = gradients.block(&format!("{}/gamma", bn.name))?;
            let moments = batch.block(&format!("{}/moving_mean", bn.name))?;
            results.extend([half(sums, 0)?, half(sums, 1)?]);
            results.extend([half(moments, 0)?, half(moments, 1)?]);
            results.push(gradients.get(&format!("{}/kernel", conv.name))?.clone());
        }
        Ok(results)
    }
}
