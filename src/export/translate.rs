//! The layers of every network, in the order in which data meets them, for a format that translates each of them.

use xla_graphs::ResNet;
use xla_graphs::network::{Shortcut, Unit};
use xla_graphs::ops::batch_norm::BatchNorm;
use xla_graphs::ops::conv::Conv;
use xla_graphs::ops::widen::Widen;

/// How a format writes each kind of layer.
pub trait Translate {
    /// Images in what is written.
    type Images: Clone;

    /// relu(bn(x)).
    fn activate(&mut self, bn: &BatchNorm, x: &Self::Images) -> Self::Images;

    fn convolve(&mut self, conv: &Conv, x: &Self::Images) -> Self::Images;

    /// The result `y` of the layers of the unit called `unit`, and its `shortcut`.
    fn add(&mut self, unit: &str, y: &Self::Images, shortcut: &Self::Images) -> Self::Images;

    /// Maxima of squares of 3x3 pixels with stride 2, padded as convolutions are, behind the first convolution.
    fn pool_stem(&mut self, x: &Self::Images) -> Self::Images;

    /// Every stride-th pixel, and channels of zeros: the shortcut of the unit called `unit`.
    fn widen(&mut self, unit: &str, widen: &Widen, x: &Self::Images) -> Self::Images;

    /// Maxima of squares of 2x2 pixels, without an odd last row and column, at the end of the unit called `unit`.
    fn pool(&mut self, unit: &str, x: &Self::Images) -> Self::Images;
}

/// What the classifier takes the means of, from normalised `images`.
pub fn features<T: Translate>(to: &mut T, network: &ResNet, images: &T::Images) -> T::Images {
    let mut x = to.convolve(&network.stem, images);
    if network.stem_pools {
        x = to.pool_stem(&x);
    }
    for unit in &network.units {
        x = translate(to, unit, &x);
    }
    to.activate(&network.bn_out, &x)
}

fn translate<T: Translate>(to: &mut T, unit: &Unit, x: &T::Images) -> T::Images {
    // A unit has at least one layer.
    let first = to.activate(&unit.layers[0].bn, x);
    let mut activation = first.clone();
    for (layer, next) in unit.layers.iter().zip(&unit.layers[1..]) {
        let y = to.convolve(&layer.conv, &activation);
        activation = to.activate(&next.bn, &y);
    }
    // Keras numbers the layers of a kind by their distance from the end: a shortcut is as far from it as the last
    // convolution, and comes first because the sum has it first.
    let shortcut = match &unit.shortcut {
        Shortcut::Projection(projection) => Some(to.convolve(projection, &first)),
        Shortcut::Identity => Some(x.clone()),
        Shortcut::Zeros(widen) => Some(to.widen(&unit.name, widen, x)),
        Shortcut::None => None,
    };
    let last = &unit.layers[unit.layers.len() - 1];
    let mut y = to.convolve(&last.conv, &activation);
    if let Some(shortcut) = shortcut {
        y = to.add(&unit.name, &y, &shortcut);
    }
    match unit.pools {
        true => to.pool(&unit.name, &y),
        false => y,
    }
}

/// The shortcut of [`Translate::widen`] as the kernel `[1, 1, in, out]` of a convolution: ones where the channels are the
/// same. A format without a plain way to add channels takes it.
pub fn widening_kernel(widen: &Widen) -> Vec<f32> {
    let mut kernel = vec![0.0; widen.inputs * widen.outputs];
    for channel in 0..widen.inputs {
        kernel[channel * widen.outputs + channel] = 1.0;
    }
    kernel
}
