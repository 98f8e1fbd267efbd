//! The layers of every network, in the order in which data meets them, for a format that translates each of them.

use xla_graphs::ResNet;
use xla_graphs::network::{Layer, Shortcut, Unit, Version};
use xla_graphs::ops::batch_norm::BatchNorm;
use xla_graphs::ops::conv::{Conv, Padding};
use xla_graphs::ops::widen::Widen;

/// How a format writes each kind of layer.
pub trait Translate {
    /// Images in what is written.
    type Images: Clone;

    fn batch_norm(&mut self, bn: &BatchNorm, x: &Self::Images) -> Self::Images;

    /// The ReLU behind the layer called `behind`.
    fn relu(&mut self, behind: &str, x: &Self::Images) -> Self::Images;

    fn convolve(&mut self, conv: &Conv, x: &Self::Images) -> Self::Images;

    /// The result `y` of the layers of the unit called `unit`, and its `shortcut`.
    fn add(&mut self, unit: &str, y: &Self::Images, shortcut: &Self::Images) -> Self::Images;

    /// Maxima of squares of 3x3 pixels with stride 2, behind the first convolution; with padding on the near side, `x` comes
    /// from a ReLU.
    fn pool_stem(&mut self, padding: Padding, x: &Self::Images) -> Self::Images;

    /// Every stride-th pixel, and channels of zeros: the shortcut of the unit called `unit`.
    fn widen(&mut self, unit: &str, widen: &Widen, x: &Self::Images) -> Self::Images;

    /// Maxima of squares of 2x2 pixels, without an odd last row and column, at the end of the unit called `unit`.
    fn pool(&mut self, unit: &str, x: &Self::Images) -> Self::Images;
}

/// What the classifier takes the means of, from normalised `images`.
pub fn features<T: Translate>(to: &mut T, network: &ResNet, images: &T::Images) -> T::Images {
    let mut x = to.convolve(&network.stem, images);
    if let Some(bn) = &network.bn_in {
        x = activate(to, bn, &x);
    }
    if network.stem_pools {
        x = to.pool_stem(network.stem.padding, &x);
    }
    for unit in &network.units {
        x = match unit.version {
            Version::V1 => translate_v1(to, unit, &x),
            Version::V2 => translate_v2(to, unit, &x),
        };
    }
    match &network.bn_out {
        Some(bn) => activate(to, bn, &x),
        None => x,
    }
}

/// relu(bn(x)).
fn activate<T: Translate>(to: &mut T, bn: &BatchNorm, x: &T::Images) -> T::Images {
    let y = to.batch_norm(bn, x);
    to.relu(&bn.name, &y)
}

fn translate_v1<T: Translate>(to: &mut T, unit: &Unit, x: &T::Images) -> T::Images {
    let normed = |to: &mut T, layer: &Layer, x: &T::Images| {
        let y = to.convolve(&layer.conv, x);
        to.batch_norm(&layer.bn, &y)
    };
    // A unit has at least one layer.
    let (inner, last) = unit.layers.split_at(unit.layers.len() - 1);
    let mut activation = x.clone();
    for layer in inner {
        let y = normed(to, layer, &activation);
        activation = to.relu(&layer.bn.name, &y);
    }
    // The shortcut comes first, as in version 2.
    let shortcut = match &unit.shortcut {
        Shortcut::Projection(projection) => Some(to.convolve(projection, x)),
        Shortcut::Identity => Some(x.clone()),
        Shortcut::Zeros(widen) => Some(to.widen(&unit.name, widen, x)),
        Shortcut::None => None,
    };
    let shortcut = shortcut.map(|shortcut| match &unit.shortcut_bn {
        Some(bn) => to.batch_norm(bn, &shortcut),
        None => shortcut,
    });
    let mut y = normed(to, &last[0], &activation);
    if let Some(shortcut) = shortcut {
        y = to.add(&unit.name, &y, &shortcut);
    }
    to.relu(&unit.name, &y)
}

fn translate_v2<T: Translate>(to: &mut T, unit: &Unit, x: &T::Images) -> T::Images {
    // A unit has at least one layer.
    let first = activate(to, &unit.layers[0].bn, x);
    let mut activation = first.clone();
    for (layer, next) in unit.layers.iter().zip(&unit.layers[1..]) {
        let y = to.convolve(&layer.conv, &activation);
        activation = activate(to, &next.bn, &y);
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
