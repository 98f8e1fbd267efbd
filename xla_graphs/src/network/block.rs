//! What the units of a network are made of.

/// The kinds of units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// 1x1 with the stride, 3x3, 1x1; the first two have a quarter of the unit's output channels.
    Bottleneck,
    /// 3x3 with the stride, 3x3.
    Basic,
    /// One 3x3 with the stride.
    Single,
}

/// A convolution of a unit. A batch norm and a ReLU come before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Convolution {
    /// Side of the square kernel.
    pub side: usize,
    pub stride: usize,
    /// Input channels.
    pub inputs: usize,
    /// Output channels.
    pub outputs: usize,
}

impl Block {
    /// The convolutions of a unit from `inputs` to `outputs` channels: at least one.
    pub fn convolutions(self, inputs: usize, outputs: usize, stride: usize) -> Vec<Convolution> {
        match self {
            Self::Bottleneck => bottleneck(inputs, outputs, stride),
            Self::Basic => vec![
                convolution(3, stride, inputs, outputs),
                convolution(3, 1, outputs, outputs),
            ],
            Self::Single => vec![convolution(3, stride, inputs, outputs)],
        }
    }
}

fn bottleneck(inputs: usize, outputs: usize, stride: usize) -> Vec<Convolution> {
    let inner = outputs / 4;
    vec![
        convolution(1, stride, inputs, inner),
        convolution(3, 1, inner, inner),
        convolution(1, 1, inner, outputs),
    ]
}

fn convolution(side: usize, stride: usize, inputs: usize, outputs: usize) -> Convolution {
    Convolution {
        side,
        stride,
        inputs,
        outputs,
    }
}
