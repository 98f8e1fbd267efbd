//! The kernels as XLA calls them, by name.
//!
//! Each call reads its plan first (`kernel_contract` defines them all) and finds its arrays with it. Arrays are
//! row-major.

use std::sync::LazyLock;

use kernel_contract::plan::{self, Start};
use kernel_contract::{self as contract, EPSILON, Kernel, Plan};

use super::format::{Bf16, F32, Format};
use super::inference::{self, Input, Stem, Step};
use super::layer::{Gradients, Output, OutputGradient};
use super::norm::{self, Norm, NormGradient};
use super::{conv3x3, pointwise};
use crate::ffi::{self, Call, CallError, CallFrame, Element, Error, Handler};
use crate::isa::Isa;

/// Where a wrong one was asked for, no device is opened.
static ISA: LazyLock<Isa> = LazyLock::new(|| Isa::chosen().unwrap_or(Isa::Generic));

/// The set that the kernels run on in this process; [`Isa::Generic`] when they do not run.
pub fn isa() -> Isa {
    *ISA
}

/// All kernels, with what XLA calls for each.
pub const HANDLERS: [(Kernel, Handler); 5] = [
    (Kernel::LayerForward, layer_forward),
    (Kernel::LayerBackward, layer_backward),
    (Kernel::NormBackward, norm_backward),
    (Kernel::Unwritten, unwritten),
    (Kernel::Inference, inference),
];

type Result<T> = std::result::Result<T, CallError>;

/// A call's plan, and its arrays by what the plan says of them.
struct Planned<'a, 'c, P> {
    plan: P,
    /// The number of the round of a loop.
    round: usize,
    call: &'c mut Call<'a>,
}

impl<'a, 'c, P: Plan> Planned<'a, 'c, P> {
    fn new(call: &'c mut Call<'a>) -> Result<Self> {
        let plan = P::decode(call.plan())?;
        let round = call.operand::<i32>(0, 0, 1)?[0] as usize;
        Ok(Self { plan, round, call })
    }

    /// The number of the operand that `start` is in, and the number of the value at which it is.
    fn place(&self, start: Start) -> (usize, usize) {
        let from = self.round.checked_mul(start.per_round);
        let from = from.and_then(|from| from.checked_add(start.offset));
        // The round is the first operand.
        (start.operand + 1, from.unwrap_or(usize::MAX))
    }

    /// `count` elements of the array that begins at `start`.
    fn array<T: Element>(&self, start: Start, count: usize) -> Result<&'a [T]> {
        let (operand, from) = self.place(start);
        self.call.operand(operand, from, count)
    }

    /// `count` elements of the next result, in the place of those that begin at `start`.
    fn in_place<T: Element>(&mut self, start: Start, count: usize) -> Result<&'a mut [T]> {
        let (operand, from) = self.place(start);
        self.call.next_result_in(operand, from, count)
    }

    fn norm(&self, norm: &plan::Norm, channels: usize) -> Result<Norm> {
        Ok(Norm::new(
            self.array(norm.mean, channels)?,
            self.array(norm.variance, channels)?,
            self.array(norm.gamma, channels)?,
            self.array(norm.beta, channels)?,
            EPSILON,
        ))
    }

    fn norm_gradient(&self, behind: &plan::BehindNorm, channels: usize) -> Result<NormGradient> {
        let norm = self.norm(&behind.norm, channels)?;
        let dgamma = self.array(behind.dgamma, channels)?;
        let dbeta = self.array(behind.dbeta, channels)?;
        Ok(NormGradient::new(&norm, dbeta, dgamma, behind.count as f32))
    }
}

/// See [`plan::LayerForward`].
unsafe extern "C" fn layer_forward(frame: *mut CallFrame) -> *mut Error {
    // SAFETY: only XLA calls this, as a handler.
    unsafe {
        ffi::answer(frame, |call| {
            let call = Planned::<plan::LayerForward>::new(call)?;
            match call.plan.layer.format {
                contract::Format::F32 => layer_forward_in::<F32>(call),
                contract::Format::Bf16 => layer_forward_in::<Bf16>(call),
            }
        })
    }
}

fn layer_forward_in<F: Format>(mut call: Planned<plan::LayerForward>) -> Result<()> {
    let plan = call.plan;
    let layer = &plan.layer;
    let norm = call.norm(&call.plan.norm, layer.inputs)?;
    let kernel = call.array(call.plan.kernel, layer.kernel_len())?;
    let x = call.array::<F::Lanes>(call.plan.x, layer.images * layer.input_len())?;
    let len = layer.images * layer.result_len();
    let skip = call.plan.skip.map(|skip| call.array::<F::Lanes>(skip, len));
    let skip = skip.transpose()?;
    let mut out = Output::<F> {
        y: match call.plan.row {
            Some(row) => call.in_place(row.start, len)?,
            None => call.call.next_result(len)?,
        },
        moments: call.call.next_result(2 * layer.outputs)?,
        chosen: match layer.pools {
            true => call.call.next_result(len)?,
            false => &mut [],
        },
    };
    if layer.side == 1 {
        pointwise::forward::<F>(*ISA, layer, &norm, x, kernel, skip, &mut out);
    } else {
        conv3x3::forward::<F>(*ISA, layer, &norm, x, kernel, skip, &mut out);
    }
    Ok(())
}

/// See [`plan::LayerBackward`].
unsafe extern "C" fn layer_backward(frame: *mut CallFrame) -> *mut Error {
    // SAFETY: as in `layer_forward`.
    unsafe {
        ffi::answer(frame, |call| {
            let call = Planned::<plan::LayerBackward>::new(call)?;
            match call.plan.layer.format {
                contract::Format::F32 => layer_backward_in::<F32>(call),
                contract::Format::Bf16 => layer_backward_in::<Bf16>(call),
            }
        })
    }
}

fn layer_backward_in<F: Format>(mut call: Planned<plan::LayerBackward>) -> Result<()> {
    let plan = call.plan;
    let layer = &plan.layer;
    let norm = call.norm(&plan.norm, layer.inputs)?;
    let kernel = call.array(plan.kernel, layer.kernel_len())?;
    let x = call.array::<F::Lanes>(plan.x, layer.images * layer.input_len())?;
    let len = layer.images * layer.result_len();
    let dy = match &plan.dy {
        plan::OutputGradient::Plain(dy) => OutputGradient::Plain(call.array(*dy, len)?),
        plan::OutputGradient::BehindNorm(behind) => OutputGradient::BehindNorm {
            norm: call.norm_gradient(behind, layer.outputs)?,
            dz: call.array(behind.dz, len)?,
            x: call.array(behind.x, len)?,
        },
        plan::OutputGradient::Pooled { dy, chosen } => OutputGradient::Pooled {
            dy: call.array(*dy, len)?,
            chosen: call.array(*chosen, len)?,
        },
        plan::OutputGradient::Junction { behind, joined, .. } => OutputGradient::Junction {
            norm: call.norm_gradient(behind, layer.outputs)?,
            dz: call.array(behind.dz, len)?,
            x: call.array(behind.x, len)?,
            joined: *joined,
        },
    };
    let sum = match plan.dy {
        plan::OutputGradient::Junction { added, .. } => call.in_place(added, len)?,
        _ => &mut [],
    };
    let dz = call.call.next_result(x.len())?;
    let sums: &mut [f32] = call.call.next_result(2 * layer.inputs)?;
    let (dgamma, dbeta) = sums.split_at_mut(layer.inputs);
    let mut gradients = Gradients::<F> {
        dy: sum,
        dz,
        dgamma,
        dbeta,
        kernel: call.call.next_result(layer.kernel_len())?,
    };
    if layer.side == 1 {
        pointwise::backward(*ISA, layer, &norm, x, kernel, &dy, &mut gradients);
    } else {
        conv3x3::backward(*ISA, layer, &norm, x, kernel, &dy, &mut gradients);
    }
    Ok(())
}

/// See [`plan::NormBackward`].
unsafe extern "C" fn norm_backward(frame: *mut CallFrame) -> *mut Error {
    // SAFETY: as in `layer_forward`.
    unsafe {
        ffi::answer(frame, |call| {
            let call = Planned::<plan::NormBackward>::new(call)?;
            match call.plan.format {
                contract::Format::F32 => norm_backward_in::<F32>(call),
                contract::Format::Bf16 => norm_backward_in::<Bf16>(call),
            }
        })
    }
}

fn norm_backward_in<F: Format>(mut call: Planned<plan::NormBackward>) -> Result<()> {
    let plan = call.plan;
    let norm = call.norm_gradient(&plan.behind, plan.channels())?;
    let dz = call.array::<F::Lanes>(plan.behind.dz, plan.lanes())?;
    let x = call.array::<F::Lanes>(plan.behind.x, plan.lanes())?;
    let dx = call.in_place(plan.added, plan.lanes())?;
    norm::backward::<F>(*ISA, &norm, dz, x, plan.joined, dx);
    Ok(())
}

/// See [`plan::Unwritten`].
unsafe extern "C" fn unwritten(frame: *mut CallFrame) -> *mut Error {
    // SAFETY: as in `layer_forward`.
    unsafe {
        ffi::answer(frame, |call| {
            Planned::<plan::Unwritten>::new(call).map(drop)
        })
    }
}

/// See [`plan::Inference`].
unsafe extern "C" fn inference(frame: *mut CallFrame) -> *mut Error {
    // SAFETY: as in `layer_forward`.
    unsafe {
        ffi::answer(frame, |call| {
            let call = Planned::<plan::Inference>::new(call)?;
            match call.plan.ends() {
                Some((first, _)) if first.format == contract::Format::Bf16 => {
                    inference_in::<Bf16>(call)
                }
                _ => inference_in::<F32>(call),
            }
        })
    }
}

fn inference_in<F: Format>(call: Planned<plan::Inference>) -> Result<()> {
    // A plan that was read has layers.
    let Some((first, last)) = call.plan.ends() else {
        return Ok(());
    };
    let step = |planned: &plan::InferenceLayer| {
        let layer = planned.layer;
        Ok(Step {
            norm: call.norm(&planned.norm, layer.inputs)?,
            kernel: call.array(planned.kernel, layer.kernel_len())?,
            input: planned.input,
            added: planned.added,
            layer,
        })
    };
    let steps = call.plan.layers.iter().map(step);
    let steps = steps.collect::<Result<Vec<_>>>()?;
    let (images, x) = (first.images, call.plan.x);
    let input = match call.plan.stem {
        None => Input::<F>::Value(call.array(x, images * first.input_len())?),
        Some(sizes) => {
            let kernel = call.array(sizes.kernel, sizes.depth() * first.inputs)?;
            let stem = Stem::new(sizes, kernel, first.inputs);
            Input::Images(call.array(x, images * sizes.image_len())?, stem)
        }
    };
    let y = call.call.next_result(last.images * last.result_len())?;
    inference::forward(*ISA, &input, &steps, y);
    Ok(())
}
