//! What each kernel is told, as a struct and as the numbers of an s32 vector.
//!
//! ```text
//!  | magic | version | kernel | length | fields of the plan, in the order of `write` and `read` |
//!  '------------- header -------------'
//! ```

use crate::layer::{Layer, check_channels};
use crate::numbers::{Reader, Writer};
use crate::{Kernel, LANES};

/// Numbers in a plan's header: magic, version, kernel, length of the whole plan.
pub const HEADER: usize = 4;
/// The first number of every plan: "RNXL" in ASCII.
pub const MAGIC: i32 = 0x524e_584c;
/// Raise it whenever a plan, a result or the meaning of a kernel changes.
pub const VERSION: i32 = 1;

/// Why numbers are not a plan, or a plan does not become numbers.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The graph's sizes do not fit the plan's numbers.
    #[error("{number} is more than a kernel can count: use a smaller --batch-size")]
    TooLarge { number: usize },

    #[error("it begins with {got:#x} instead of {MAGIC:#x}: it is not a plan of this program")]
    Magic { got: i32 },

    #[error(
        "expected version {VERSION} of the plans, got {got}: the graph and the kernels were built \
         from different sources; build both anew"
    )]
    Version { got: i32 },

    #[error("expected the plan of kernel {expected}, got that of kernel {got}")]
    Kernel { expected: i32, got: i32 },

    #[error("expected {expected} numbers, got {got}")]
    Length { expected: usize, got: usize },

    /// The plan ends before its last field.
    #[error("it ends before its last field")]
    Short,

    /// No kernel computes this.
    #[error("{what}: expected {expected}, got {got}")]
    Value {
        what: &'static str,
        expected: &'static str,
        got: String,
    },
}

/// What a kernel is told.
pub trait Plan: Sized {
    const KERNEL: Kernel;

    /// Refuses what the kernel cannot compute.
    fn check(&self) -> Result<(), PlanError>;

    fn write(&self, out: &mut Writer) -> Result<(), PlanError>;

    /// The reverse of [`Self::write`].
    fn read(numbers: &mut Reader) -> Result<Self, PlanError>;

    /// The plan as numbers, with its header.
    fn encode(&self) -> Result<Vec<i32>, PlanError> {
        self.check()?;
        let mut out = Writer(vec![MAGIC, VERSION, Self::KERNEL as i32, 0]);
        self.write(&mut out)?;
        let mut numbers = out.0;
        // A plan has a few dozen numbers.
        numbers[HEADER - 1] = numbers.len() as i32;
        Ok(numbers)
    }

    /// The plan in `numbers`, header first.
    fn decode(numbers: &[i32]) -> Result<Self, PlanError> {
        let (header, fields) = numbers.split_first_chunk().ok_or(PlanError::Short)?;
        let expected = length(header)?;
        if numbers.len() != expected {
            let got = numbers.len();
            return Err(PlanError::Length { expected, got });
        }
        let (expected, got) = (Self::KERNEL as i32, header[2]);
        if got != expected {
            return Err(PlanError::Kernel { expected, got });
        }
        let mut fields = Reader(fields);
        let plan = Self::read(&mut fields)?;
        if !fields.0.is_empty() {
            return Err(PlanError::Length {
                expected: numbers.len() - fields.0.len(),
                got: numbers.len(),
            });
        }
        plan.check()?;
        Ok(plan)
    }
}

/// How many numbers the plan has that begins with `header`.
pub fn length(header: &[i32; HEADER]) -> Result<usize, PlanError> {
    let [magic, version, _, length] = *header;
    if magic != MAGIC {
        return Err(PlanError::Magic { got: magic });
    }
    if version != VERSION {
        return Err(PlanError::Version { got: version });
    }
    usize::try_from(length).map_err(|_| PlanError::Short)
}

/// Where an array begins: at value `offset` of an operand, and `per_round` further on for each round
/// of a loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// The operand's number among the arrays.
    pub operand: usize,
    pub offset: usize,
    pub per_round: usize,
}

impl Start {
    fn write(&self, out: &mut Writer) -> Result<(), PlanError> {
        out.numbers(&[self.operand, self.offset, self.per_round])
    }

    fn read(numbers: &mut Reader) -> Result<Self, PlanError> {
        Ok(Self {
            operand: numbers.number()?,
            offset: numbers.number()?,
            per_round: numbers.number()?,
        })
    }
}

impl Layer {
    fn write(&self, out: &mut Writer) -> Result<(), PlanError> {
        out.numbers(&[
            self.images,
            self.height,
            self.width,
            self.inputs,
            self.outputs,
            self.side,
            self.stride,
        ])
    }

    fn read(numbers: &mut Reader) -> Result<Self, PlanError> {
        Ok(Self {
            images: numbers.number()?,
            height: numbers.number()?,
            width: numbers.number()?,
            inputs: numbers.number()?,
            outputs: numbers.number()?,
            side: numbers.number()?,
            stride: numbers.number()?,
        })
    }
}

/// A batch norm: `[C]` each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Norm {
    pub mean: Start,
    pub variance: Start,
    pub gamma: Start,
    pub beta: Start,
}

impl Norm {
    fn write(&self, out: &mut Writer) -> Result<(), PlanError> {
        let all = [self.mean, self.variance, self.gamma, self.beta];
        all.iter().try_for_each(|start| start.write(out))
    }

    fn read(numbers: &mut Reader) -> Result<Self, PlanError> {
        Ok(Self {
            mean: Start::read(numbers)?,
            variance: Start::read(numbers)?,
            gamma: Start::read(numbers)?,
            beta: Start::read(numbers)?,
        })
    }
}

/// A gradient that has not yet been taken through a batch norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BehindNorm {
    pub norm: Norm,
    /// Σ dz · x̂, `[C]`.
    pub dgamma: Start,
    /// Σ dz, `[C]`.
    pub dbeta: Start,
    /// Values that each sum runs over.
    pub count: usize,
    /// The gradient of the batch norm's result, `[N, H, W, C]`.
    pub dz: Start,
    /// The batch norm's input, `[N, H, W, C]`.
    pub x: Start,
}

impl BehindNorm {
    fn write(&self, out: &mut Writer) -> Result<(), PlanError> {
        self.norm.write(out)?;
        self.dgamma.write(out)?;
        self.dbeta.write(out)?;
        out.number(self.count)?;
        self.dz.write(out)?;
        self.x.write(out)
    }

    fn read(numbers: &mut Reader) -> Result<Self, PlanError> {
        Ok(Self {
            norm: Norm::read(numbers)?,
            dgamma: Start::read(numbers)?,
            dbeta: Start::read(numbers)?,
            count: numbers.number()?,
            dz: Start::read(numbers)?,
            x: Start::read(numbers)?,
        })
    }
}

/// y = conv(relu(norm(x))) + skip.
///
/// The result is y `[N, h, w, O]`, then the mean and the variance of its channels, `[O]` each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerForward {
    pub layer: Layer,
    pub norm: Norm,
    /// `[side, side, C, O]`.
    pub kernel: Start,
    /// `[N, H, W, C]`.
    pub x: Start,
    /// `[N, h, w, O]`; of a 1x1 convolution alone.
    pub skip: Option<Start>,
}

impl LayerForward {
    /// Values of the result.
    pub fn result_len(&self) -> usize {
        self.layer.output_values() + 2 * self.layer.outputs
    }
}

impl Plan for LayerForward {
    const KERNEL: Kernel = Kernel::LayerForward;

    fn check(&self) -> Result<(), PlanError> {
        self.layer.check()?;
        match self.skip {
            Some(_) if self.layer.side != 1 => Err(PlanError::Value {
                what: "the skip",
                expected: "one beside a 1x1 convolution",
                got: format!("one beside a {0}x{0} convolution", self.layer.side),
            }),
            _ => Ok(()),
        }
    }

    fn write(&self, out: &mut Writer) -> Result<(), PlanError> {
        self.layer.write(out)?;
        self.norm.write(out)?;
        self.kernel.write(out)?;
        self.x.write(out)?;
        out.number(self.skip.is_some().into())?;
        self.skip.iter().try_for_each(|skip| skip.write(out))
    }

    fn read(numbers: &mut Reader) -> Result<Self, PlanError> {
        Ok(Self {
            layer: Layer::read(numbers)?,
            norm: Norm::read(numbers)?,
            kernel: Start::read(numbers)?,
            x: Start::read(numbers)?,
            skip: match numbers.yes_or_no("whether there is a skip")? {
                true => Some(Start::read(numbers)?),
                false => None,
            },
        })
    }
}

/// The gradient of a layer's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputGradient {
    /// `[N, h, w, O]`.
    Plain(Start),
    /// Not yet taken through the batch norm of the next layer.
    BehindNorm(BehindNorm),
}

/// The gradients of [`LayerForward`]; the skip's is dy itself.
///
/// The result is dz, the gradient of the normalisation's result before the ReLU, `[N, H, W, C]`, then
/// dgamma and dbeta, `[C]` each, then the kernel's gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerBackward {
    pub layer: Layer,
    pub norm: Norm,
    /// `[side, side, C, O]`.
    pub kernel: Start,
    /// `[N, H, W, C]`.
    pub x: Start,
    pub dy: OutputGradient,
}

impl LayerBackward {
    /// Where dgamma begins in the result, followed by dbeta.
    pub fn sums_at(&self) -> usize {
        self.layer.input_values()
    }

    /// Where the kernel's gradient begins in the result.
    pub fn kernel_at(&self) -> usize {
        self.sums_at() + 2 * self.layer.inputs
    }

    /// Values of the result.
    pub fn result_len(&self) -> usize {
        self.kernel_at() + self.layer.kernel_len()
    }
}

impl Plan for LayerBackward {
    const KERNEL: Kernel = Kernel::LayerBackward;

    fn check(&self) -> Result<(), PlanError> {
        self.layer.check()
    }

    fn write(&self, out: &mut Writer) -> Result<(), PlanError> {
        self.layer.write(out)?;
        self.norm.write(out)?;
        self.kernel.write(out)?;
        self.x.write(out)?;
        match &self.dy {
            OutputGradient::Plain(dy) => {
                out.number(0)?;
                dy.write(out)
            }
            OutputGradient::BehindNorm(behind) => {
                out.number(1)?;
                behind.write(out)
            }
        }
    }

    fn read(numbers: &mut Reader) -> Result<Self, PlanError> {
        Ok(Self {
            layer: Layer::read(numbers)?,
            norm: Norm::read(numbers)?,
            kernel: Start::read(numbers)?,
            x: Start::read(numbers)?,
            dy: match numbers.yes_or_no("whether the gradient is behind a batch norm")? {
                true => OutputGradient::BehindNorm(BehindNorm::read(numbers)?),
                false => OutputGradient::Plain(Start::read(numbers)?),
            },
        })
    }
}

/// The backward pass through a batch norm: dx `[pixels, C]`, with what else flows to the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NormBackward {
    pub pixels: usize,
    pub channels: usize,
    pub behind: BehindNorm,
    /// Whether `added` belongs to the gradient of the batch norm's result, or else to its input's.
    pub joined: bool,
    /// `[pixels, C]`.
    pub added: Start,
}

impl NormBackward {
    /// Values of the result.
    pub fn result_len(&self) -> usize {
        self.pixels * self.channels
    }

    /// The result in lanes.
    pub fn lanes(&self) -> usize {
        self.result_len() / LANES
    }
}

impl Plan for NormBackward {
    const KERNEL: Kernel = Kernel::NormBackward;

    fn check(&self) -> Result<(), PlanError> {
        check_channels("channels", self.channels)
    }

    fn write(&self, out: &mut Writer) -> Result<(), PlanError> {
        out.numbers(&[self.pixels, self.channels])?;
        self.behind.write(out)?;
        out.number(self.joined.into())?;
        self.added.write(out)
    }

    fn read(numbers: &mut Reader) -> Result<Self, PlanError> {
        Ok(Self {
            pixels: numbers.number()?,
            channels: numbers.number()?,
            behind: BehindNorm::read(numbers)?,
            joined: numbers.yes_or_no("whether two gradients are joined")?,
            added: Start::read(numbers)?,
        })
    }
}

/// A copy of part of an array: `count` values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub start: Start,
    pub count: usize,
}

impl Plan for Part {
    const KERNEL: Kernel = Kernel::Part;

    fn check(&self) -> Result<(), PlanError> {
        Ok(())
    }

    fn write(&self, out: &mut Writer) -> Result<(), PlanError> {
        self.start.write(out)?;
        out.number(self.count)
    }

    fn read(numbers: &mut Reader) -> Result<Self, PlanError> {
        Ok(Self {
            start: Start::read(numbers)?,
            count: numbers.number()?,
        })
    }
}

/// An array whose values are not set: whoever takes it must write before reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unwritten {
    /// Sets this array apart from others of the same size: XLA makes one array of equal calls.
    pub number: usize,
}

impl Plan for Unwritten {
    const KERNEL: Kernel = Kernel::Unwritten;

    fn check(&self) -> Result<(), PlanError> {
        Ok(())
    }

    fn write(&self, out: &mut Writer) -> Result<(), PlanError> {
        out.number(self.number)
    }

    fn read(numbers: &mut Reader) -> Result<Self, PlanError> {
        Ok(Self {
            number: numbers.number()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use super::*;

    /// Starts that differ in all their numbers.
    struct Starts(usize);

    impl Starts {
        fn next(&mut self) -> Start {
            self.0 += 3;
            Start {
                operand: self.0,
                offset: self.0 + 1,
                per_round: self.0 + 2,
            }
        }

        fn norm(&mut self) -> Norm {
            Norm {
                mean: self.next(),
                variance: self.next(),
                gamma: self.next(),
                beta: self.next(),
            }
        }

        fn behind(&mut self) -> BehindNorm {
            BehindNorm {
                norm: self.norm(),
                dgamma: self.next(),
                dbeta: self.next(),
                count: 77,
                dz: self.next(),
                x: self.next(),
            }
        }
    }

    fn layer(side: usize, stride: usize) -> Layer {
        Layer {
            images: 5,
            height: 7,
            width: 9,
            inputs: 16,
            outputs: 48,
            side,
            stride,
        }
    }

    fn forward(layer: Layer, has_skip: bool) -> LayerForward {
        let mut starts = Starts(0);
        LayerForward {
            layer,
            norm: starts.norm(),
            kernel: starts.next(),
            x: starts.next(),
            skip: has_skip.then(|| starts.next()),
        }
    }

    fn backward(dy: OutputGradient) -> LayerBackward {
        let mut starts = Starts(100);
        LayerBackward {
            layer: layer(3, 1),
            norm: starts.norm(),
            kernel: starts.next(),
            x: starts.next(),
            dy,
        }
    }

    fn comes_back<P: Plan + Debug + PartialEq>(plan: &P) {
        assert_eq!(&P::decode(&plan.encode().unwrap()).unwrap(), plan);
    }

    #[test]
    fn every_plan_comes_back_from_its_numbers() {
        comes_back(&forward(layer(1, 2), true));
        comes_back(&forward(layer(3, 1), false));
        comes_back(&backward(OutputGradient::Plain(Starts(50).next())));
        comes_back(&backward(OutputGradient::BehindNorm(Starts(50).behind())));
        for joined in [false, true] {
            comes_back(&NormBackward {
                pixels: 11,
                channels: 32,
                behind: Starts(0).behind(),
                joined,
                added: Starts(90).next(),
            });
        }
        comes_back(&Part {
            start: Starts(0).next(),
            count: 9,
        });
        comes_back(&Unwritten { number: 2 });
    }

    #[test]
    fn a_part_is_these_numbers() {
        let part = Part {
            start: Start {
                operand: 1,
                offset: 20,
                per_round: 300,
            },
            count: 4000,
        };
        // "RNXL", version 1, the fourth kernel, eight numbers in all.
        let expected = [0x524e_584c, 1, 3, 8, 1, 20, 300, 4000];
        assert_eq!(part.encode().unwrap(), expected);
    }

    #[test]
    fn a_header_that_is_not_the_kernels_own_is_refused() {
        let good = Unwritten { number: 2 }.encode().unwrap();
        let with = |place: usize, number: i32| {
            let mut numbers = good.clone();
            numbers[place] = number;
            Unwritten::decode(&numbers).unwrap_err()
        };
        assert_eq!(with(0, 0), PlanError::Magic { got: 0 });
        assert_eq!(with(1, 2), PlanError::Version { got: 2 });
        let (expected, got) = (Kernel::Unwritten as i32, Kernel::Part as i32);
        assert_eq!(with(2, got), PlanError::Kernel { expected, got });
        let (expected, got) = (6, 5);
        assert_eq!(with(3, 6), PlanError::Length { expected, got });
        assert_eq!(with(3, -1), PlanError::Short);
        assert_eq!(Unwritten::decode(&good[..3]), Err(PlanError::Short));
    }

    #[test]
    fn a_plan_with_too_few_or_too_many_fields_is_refused() {
        let with = |change: &dyn Fn(&mut Vec<i32>)| {
            let mut numbers = forward(layer(1, 1), true).encode().unwrap();
            change(&mut numbers);
            numbers[HEADER - 1] = numbers.len() as i32;
            LayerForward::decode(&numbers).unwrap_err()
        };
        let short = with(&|numbers| {
            numbers.pop();
        });
        assert_eq!(short, PlanError::Short);
        let long = with(&|numbers| numbers.push(0));
        assert!(matches!(long, PlanError::Length { .. }), "{long}");
        let negative = with(&|numbers| numbers[HEADER] = -1);
        assert!(negative.to_string().contains("0 or more, got -1"));
    }

    #[test]
    fn what_no_kernel_computes_is_refused_on_both_sides() {
        let refused = |plan: LayerForward, reason: &str| {
            assert_eq!(plan.encode().unwrap_err().to_string(), reason);
            // As a graph from elsewhere could ask for it.
            let mut out = Writer(vec![MAGIC, VERSION, Kernel::LayerForward as i32, 0]);
            plan.write(&mut out).unwrap();
            let mut numbers = out.0;
            numbers[HEADER - 1] = numbers.len() as i32;
            let error = LayerForward::decode(&numbers).unwrap_err();
            assert_eq!(error.to_string(), reason);
        };
        refused(
            forward(layer(3, 1), true),
            "the skip: expected one beside a 1x1 convolution, got one beside a 3x3 convolution",
        );
        refused(
            forward(layer(3, 2), false),
            "the stride of a 3x3 convolution: expected 1, got 2",
        );
        refused(
            forward(layer(5, 1), false),
            "the convolution: expected 1x1 or 3x3, got 5x5",
        );
        let narrow = Layer {
            inputs: 24,
            ..layer(1, 1)
        };
        refused(
            forward(narrow, false),
            "input channels: expected a multiple of 16, got 24",
        );
    }

    #[test]
    fn a_batch_beyond_the_range_of_a_number_is_refused() {
        let huge = Layer {
            images: 1 << 31,
            ..layer(1, 1)
        };
        let error = forward(huge, false).encode().unwrap_err();
        assert_eq!(error, PlanError::TooLarge { number: 1 << 31 });
        assert!(error.to_string().contains("--batch-size"), "{error}");
    }
}
