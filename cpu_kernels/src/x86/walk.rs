//! How a 3x3 kernel goes over an image: along its rows, and in the same way along its columns.

use super::layer::Layer;

/// Taps of the kernel along a side.
pub const TAPS: usize = 3;

/// The kernel's stops along one side of an image with a border of zeros one pixel wide. Each gives a result.
#[derive(Clone, Copy)]
pub struct Walk {
    /// Taps that are used.
    pub taps: usize,
    /// The pixel under the first of them at the first stop, and how far it is from there to the next.
    pub from: usize,
    pub stride: usize,
    pub stops: usize,
    /// The first result, and how far it is from there to the next.
    pub to: usize,
    pub step: usize,
}

impl Walk {
    /// From the input of `layer` to its output: along the rows and along the columns.
    pub fn forward(layer: &Layer) -> [Self; 2] {
        let along = |from, stops| Self {
            taps: TAPS,
            from,
            stride: layer.stride,
            stops,
            to: 0,
            step: 1,
        };
        [
            along(layer.first_row(), layer.output_height()),
            along(layer.first_column(), layer.output_width()),
        ]
    }

    /// From the gradient of the output of `layer` to that of its input, with the taps from the last to the first.
    ///
    /// With stride s, tap a of output i lies on row i·s + a of the input's image with its border. So the rows that are
    /// s apart get their gradients from the same taps, which are s apart too: a walk for each of the [`groups`] of taps.
    pub fn back(layer: &Layer) -> [Vec<Self>; 2] {
        let along = |first: usize, size: usize| {
            let border = TAPS / 2 - first;
            groups(layer.stride)
                .map(|taps| taps.len())
                .enumerate()
                .map(|(group, taps)| {
                    // The first tap of the group leads from output 0 into the border, and from output 1 into the image.
                    let skipped = usize::from(group < border);
                    let to = group + skipped * layer.stride - border;
                    Self {
                        taps,
                        from: 2 + skipped - taps,
                        stride: 1,
                        stops: size.saturating_sub(to).div_ceil(layer.stride),
                        to,
                        step: layer.stride,
                    }
                })
                .collect()
        };
        [
            along(layer.first_row(), layer.height),
            along(layer.first_column(), layer.width),
        ]
    }
}

/// The taps along a side in groups of those that are `stride` apart, each from the last to the first.
pub fn groups(stride: usize) -> impl Iterator<Item = impl ExactSizeIterator<Item = usize> + Clone> {
    (0..TAPS.min(stride)).map(move |first| (first..TAPS).step_by(stride).rev())
}
