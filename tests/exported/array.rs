//! Arrays of f64, and the layers of a network as their definitions say: a loop each, nothing clever. Images are NCHW,
//! kernels OIHW.

/// Values in row-major order.
#[derive(Clone)]
pub struct Array {
    pub dims: Vec<usize>,
    pub values: Vec<f64>,
}

impl Array {
    pub fn new(dims: Vec<usize>, values: Vec<f64>) -> Self {
        assert_eq!(dims.iter().product::<usize>(), values.len());
        Self { dims, values }
    }

    pub fn map(&self, function: impl Fn(f64) -> f64) -> Self {
        let values = self.values.iter().map(|value| function(*value));
        Self::new(self.dims.clone(), values.collect())
    }

    /// Sizes of an array of four dimensions.
    pub fn sizes(&self) -> [usize; 4] {
        self.dims.clone().try_into().unwrap()
    }

    /// The value at `place` of an array of four dimensions.
    pub fn at(&self, place: [usize; 4]) -> f64 {
        let axes = self.dims.iter().zip(place);
        self.values[axes.fold(0, |index, (dim, at)| index * dim + at)]
    }

    /// An array of `dims` with the values that `value` gives for each place.
    pub fn from_fn(dims: [usize; 4], mut value: impl FnMut([usize; 4]) -> f64) -> Self {
        let mut values = Vec::new();
        for a in 0..dims[0] {
            for b in 0..dims[1] {
                for c in 0..dims[2] {
                    for d in 0..dims[3] {
                        values.push(value([a, b, c, d]));
                    }
                }
            }
        }
        Self::new(dims.to_vec(), values)
    }
}

/// `function` of each value of `x` and the value of `row` in the same place of the last dimension.
pub fn with_row(x: &Array, row: &Array, function: impl Fn(f64, f64) -> f64) -> Array {
    assert_eq!(row.dims, x.dims[3..]);
    let row = row.values.iter().cycle();
    let values = x.values.iter().zip(row).map(|(x, y)| function(*x, *y));
    Array::new(x.dims.clone(), values.collect())
}

pub fn sum(x: &Array, y: &Array) -> Array {
    assert_eq!(x.dims, y.dims);
    let values = x.values.iter().zip(&y.values).map(|(x, y)| x + y);
    Array::new(x.dims.clone(), values.collect())
}

/// The axes of `x` in another `order`.
pub fn transpose(x: &Array, order: [usize; 4]) -> Array {
    let dims = [0, 1, 2, 3].map(|axis: usize| x.dims[order[axis]]);
    Array::from_fn(dims, |place| {
        let mut from = [0; 4];
        for (axis, at) in order.iter().zip(place) {
            from[*axis] = at;
        }
        x.at(from)
    })
}

/// Strides and padding of a convolution: rows, then columns.
pub struct Geometry {
    pub strides: [usize; 2],
    pub before: [usize; 2],
    pub after: [usize; 2],
}

pub fn conv(x: &Array, kernel: &Array, geometry: &Geometry) -> Array {
    let [n, channels, h, w] = x.sizes();
    let [outputs, inputs, kh, kw] = kernel.sizes();
    assert_eq!(channels, inputs);
    let Geometry {
        strides,
        before,
        after,
    } = geometry;
    let rows = (h + before[0] + after[0] - kh) / strides[0] + 1;
    let columns = (w + before[1] + after[1] - kw) / strides[1] + 1;
    Array::from_fn([n, outputs, rows, columns], |[n, o, i, j]| {
        let mut sum = 0.0;
        for a in 0..kh {
            for b in 0..kw {
                let row = (i * strides[0] + a).wrapping_sub(before[0]);
                let column = (j * strides[1] + b).wrapping_sub(before[1]);
                if row >= h || column >= w {
                    continue;
                }
                for c in 0..channels {
                    sum += x.at([n, c, row, column]) * kernel.at([o, c, a, b]);
                }
            }
        }
        sum
    })
}

/// `constants`: gamma, beta, mean, variance.
pub fn batch_norm(x: &Array, constants: [&Array; 4], epsilon: f64) -> Array {
    Array::from_fn(x.sizes(), |place| {
        let [gamma, beta, mean, variance] = constants.map(|values| values.values[place[1]]);
        (x.at(place) - mean) / (variance + epsilon).sqrt() * gamma + beta
    })
}

/// Maxima of squares of `side` pixels; padding is never one.
pub fn max_pool(x: &Array, side: usize, geometry: &Geometry) -> Array {
    let [n, channels, h, w] = x.sizes();
    let outputs = [(h, 0), (w, 1)].map(|(size, axis)| {
        let whole = size + geometry.before[axis] + geometry.after[axis];
        (whole - side) / geometry.strides[axis] + 1
    });
    Array::from_fn([n, channels, outputs[0], outputs[1]], |[n, c, i, j]| {
        let mut most = f64::NEG_INFINITY;
        for (a, b) in (0..side * side).map(|pixel| (pixel / side, pixel % side)) {
            let row = (geometry.strides[0] * i + a).wrapping_sub(geometry.before[0]);
            let column = (geometry.strides[1] * j + b).wrapping_sub(geometry.before[1]);
            if row < h && column < w {
                most = most.max(x.at([n, c, row, column]));
            }
        }
        most
    })
}

/// Zeros behind the last of the channels, until there are so many.
pub fn with_channels(x: &Array, channels: usize) -> Array {
    let [n, inputs, h, w] = x.sizes();
    Array::from_fn([n, channels, h, w], |[n, c, i, j]| match c < inputs {
        true => x.at([n, c, i, j]),
        false => 0.0,
    })
}

/// Zeros before and after the rows and the columns.
pub fn with_border(x: &Array, rows: [usize; 2], columns: [usize; 2]) -> Array {
    let [n, channels, h, w] = x.sizes();
    let (height, width) = (h + rows[0] + rows[1], w + columns[0] + columns[1]);
    Array::from_fn([n, channels, height, width], |[n, c, i, j]| {
        let (row, column) = (i.wrapping_sub(rows[0]), j.wrapping_sub(columns[0]));
        match row < h && column < w {
            true => x.at([n, c, row, column]),
            false => 0.0,
        }
    })
}

/// Of each channel: `[N, C]`.
pub fn means(x: &Array) -> Array {
    let [n, channels, h, w] = x.sizes();
    let area = h * w;
    let means = x
        .values
        .chunks(area)
        .map(|channel| channel.iter().sum::<f64>() / area as f64);
    Array::new(vec![n, channels], means.collect())
}

/// `[N, in]` times `[in, out]`, plus `[out]`.
pub fn dense(x: &Array, kernel: &Array, bias: &Array) -> Array {
    let (inputs, outputs) = (kernel.dims[0], kernel.dims[1]);
    let mut values = Vec::new();
    for row in x.values.chunks(inputs) {
        for output in 0..outputs {
            let products = row.iter().zip(kernel.values.chunks(outputs));
            let product: f64 = products.map(|(x, weights)| x * weights[output]).sum();
            values.push(product + bias.values[output]);
        }
    }
    Array::new(vec![x.dims[0], outputs], values)
}
