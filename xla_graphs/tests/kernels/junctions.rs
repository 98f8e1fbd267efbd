//! Where two branches meet on the way back.

use xla::{PrimitiveType, XlaOp};
use xla_graphs::Result;
use xla_graphs::collective::Replicas;
use xla_graphs::ops::batch_norm::BatchNorm;
use xla_graphs::ops::kernels::{self, BehindNorm, Features, Gradient, Junction};
use xla_graphs::tensors::Tensors;

use crate::chain::{Chain, Shape};
use crate::common::{Graph, NO_KERNELS};

/// The chain's input with the moving statistics of `bn`.
fn with_moving_statistics(t: &Tensors, images: PrimitiveType, bn: &BatchNorm) -> Result<Features> {
    let mean = t.get(&format!("{}/moving_mean", bn.name))?;
    let variance = t.get(&format!("{}/moving_variance", bn.name))?;
    Features::new(&t.get("x")?.convert(images)?, mean, variance)
}

/// What arrives at the result of the last layer of `chain`, out of two branches.
fn junction(chain: &Chain, t: &Tensors, images: PrimitiveType, joined: bool) -> Result<Junction> {
    let (bn, _) = &chain.layers[0];
    let behind = |dz: &str| -> Result<BehindNorm> {
        let x = with_moving_statistics(t, images, bn)?;
        let sums = t.get("b0/gamma")?.concat_in_dim(&[t.get("b0/beta")?], 0)?;
        Ok(BehindNorm::new(bn, &x, &t.get(dz)?.convert(images)?, &sums))
    };
    match joined {
        true => behind("dy")?.join(&behind("skip")?, Replicas(1), &mut Tensors::new()),
        false => Ok(behind("dy")?.with_skip(&t.get("skip")?.convert(images)?)),
    }
}

/// The gradients of the last layer of `chain` from a junction, which is put together on its own or with the layer.
fn from_junction(
    chain: &Chain,
    t: &Tensors,
    images: PrimitiveType,
    joined: bool,
    alone: bool,
) -> Result<Vec<XlaOp>> {
    let (bn, conv) = &chain.layers[1];
    let (layer, one) = ((bn, conv), Replicas(1));
    let x = with_moving_statistics(t, images, bn)?;
    let junction = junction(chain, t, images, joined)?;
    let mut gradients = Tensors::new();
    let (dz, dy) = if alone {
        let dy = junction.sum(t)?;
        let of_result = Gradient::Plain(dy.clone());
        let dz = kernels::backward(t, bn, conv, &x, &of_result, one, &mut gradients)?;
        (dz, dy)
    } else {
        kernels::backward_from_junction(t, layer, &x, junction, one, &mut gradients)?
    };
    let mut results = vec![dy, dz.with_skip(&x.zeros()?).sum(t)?];
    for result in &mut results {
        *result = result.convert(PrimitiveType::F32)?;
    }
    results.extend(gradients.iter().map(|(_, value)| value.clone()));
    Ok(results)
}

#[test]
fn a_junction_gives_the_same_bits_alone_and_in_front_of_a_layer() {
    cpu_kernels::register().unwrap();
    if !cpu_kernels::supported() {
        println!("skipped: {NO_KERNELS}");
        return;
    }
    for side in [1, 3] {
        // A layer in front of a norm over the same images: both take all inputs of the chain.
        let chain = Chain::new([19, 3, 5, 32], [Shape(1, 1, 32), Shape(side, 1, 32)]);
        let inputs = chain.inputs();
        for images in [PrimitiveType::F32, PrimitiveType::Bf16] {
            for joined in [false, true] {
                let run = |alone| {
                    let trace = |t: &Tensors| from_junction(&chain, t, images, joined, alone);
                    Graph::new(&inputs, trace).run(&inputs)
                };
                let (apart, together) = (run(true), run(false));
                assert_eq!(apart.len(), 4);
                assert_eq!(
                    apart, together,
                    "{side}x{side}, {images:?}, joined {joined}"
                );
            }
        }
    }
}
