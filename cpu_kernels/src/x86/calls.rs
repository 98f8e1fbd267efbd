//! The kernels as XLA calls them: by name, with the addresses of arrays.
//!
//! Each call reads its plan first (`kernel_contract` defines them all) and finds its arrays with it.
//! Arrays are row-major. A call has one result, in which several arrays may lie one after
//! another.

use std::ffi::c_void;
use std::sync::LazyLock;
#[cfg(feature = "xla")]
use std::sync::Once;
use std::{process, slice};

use kernel_contract::plan::{self, HEADER, Start};
use kernel_contract::{self as contract, EPSILON, Kernel, Plan, PlanError};

use super::format::{Bf16, F32, Format};
use super::layer::{Gradients, Output, OutputGradient};
use super::norm::{self, Norm, NormGradient};
use super::{conv3x3, pointwise};
use crate::isa::Isa;

type Operands = *const *const c_void;
type Function = extern "C" fn(*mut f32, Operands);

/// Where a wrong one was asked for, no device is opened.
static ISA: LazyLock<Isa> = LazyLock::new(|| Isa::chosen().unwrap_or(Isa::Generic));

/// The set that the kernels run on in this process; [`Isa::Generic`] when they do not run.
pub fn isa() -> Isa {
    *ISA
}

/// Makes the kernels known to XLA's CPU backend in this process.
#[cfg(feature = "xla")]
pub fn register() {
    const KERNELS: [(Kernel, Function); 5] = [
        (Kernel::LayerForward, layer_forward),
        (Kernel::LayerBackward, layer_backward),
        (Kernel::NormBackward, norm_backward),
        (Kernel::Part, part),
        (Kernel::Unwritten, unwritten),
    ];
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for (kernel, function) in KERNELS {
            xla::register_custom_call_target(kernel.name(), function as *const c_void, "Host");
        }
    });
}

/// The arguments of a call.
struct Call<P> {
    plan: P,
    /// The number of the round of a loop.
    round: usize,
    arrays: Operands,
}

impl<P: Plan> Call<P> {
    /// Reads the plan. Ends the process when it is not one for this kernel.
    ///
    /// # Safety
    /// The first two operands must be an s32 vector of at least [`HEADER`] numbers, all of which are
    /// there when they are a plan, and an s32.
    unsafe fn new(operands: Operands) -> Self {
        // SAFETY: the caller's.
        unsafe {
            let plan = match plan_at((*operands).cast()) {
                Ok(plan) => plan,
                Err(error) => refuse(P::KERNEL, &error),
            };
            Self {
                plan,
                round: *(*operands.add(1)).cast::<i32>() as usize,
                arrays: operands.add(2),
            }
        }
    }

    /// The address at which an array begins.
    ///
    /// # Safety
    /// The operands must have the array that the plan names. This holds for what the functions below
    /// return too: it must be as long as they say, and lives as long as the call.
    unsafe fn address(&self, start: Start) -> *const f32 {
        // SAFETY: the caller's.
        unsafe {
            let array: *const f32 = (*self.arrays.add(start.operand)).cast();
            array.add(start.offset + self.round * start.per_round)
        }
    }

    /// `count` values.
    ///
    /// # Safety
    /// As for [`Self::address`].
    unsafe fn values<'a>(&self, start: Start, count: usize) -> &'a [f32] {
        // SAFETY: the caller's.
        unsafe { slice::from_raw_parts(self.address(start), count) }
    }

    /// `count` times 16 values.
    ///
    /// # Safety
    /// As for [`Self::address`].
    unsafe fn lanes<'a, F: Format>(&self, start: Start, count: usize) -> &'a [F::Lanes] {
        // SAFETY: the caller's; an array has the alignment of an f32, and lanes need no more.
        unsafe { slice::from_raw_parts(self.address(start).cast(), count) }
    }

    /// # Safety
    /// As for [`Self::address`].
    unsafe fn norm(&self, norm: &plan::Norm, channels: usize) -> Norm {
        // SAFETY: the caller's.
        unsafe {
            Norm::new(
                self.values(norm.mean, channels),
                self.values(norm.variance, channels),
                self.values(norm.gamma, channels),
                self.values(norm.beta, channels),
                EPSILON,
            )
        }
    }

    /// # Safety
    /// As for [`Self::address`].
    unsafe fn norm_gradient(&self, behind: &plan::BehindNorm, channels: usize) -> NormGradient {
        // SAFETY: the caller's.
        unsafe {
            let norm = self.norm(&behind.norm, channels);
            let dgamma = self.values(behind.dgamma, channels);
            let dbeta = self.values(behind.dbeta, channels);
            NormGradient::new(&norm, dbeta, dgamma, behind.count as f32)
        }
    }
}

/// The plan at an address.
///
/// # Safety
/// [`HEADER`] numbers must be there, and as many as they say when they are a plan's header.
unsafe fn plan_at<P: Plan>(address: *const i32) -> Result<P, PlanError> {
    // SAFETY: the caller's.
    unsafe {
        let header = &*address.cast::<[i32; HEADER]>();
        P::decode(slice::from_raw_parts(address, plan::length(header)?))
    }
}

/// Ends the process.
///
/// XLA gives a call no way to report an error. The result cannot be filled with NaN
/// either, because only the plan says how long it is. Going on would mean reading and writing at
/// arbitrary addresses.
fn refuse(kernel: Kernel, error: &PlanError) -> ! {
    eprintln!(
        "{}: this call's plan is wrong: {error}\nThe process ends here, before the kernel reads or \
         writes anything.",
        kernel.name()
    );
    process::abort()
}

/// See [`plan::LayerForward`].
extern "C" fn layer_forward(out: *mut f32, operands: Operands) {
    // SAFETY: XLA calls with the operands and the result that the graph declared. The plan says what
    // they are, and the graph's side of the contract makes the plan of what it declares. Nothing else
    // has the result.
    unsafe {
        let call = Call::<plan::LayerForward>::new(operands);
        match call.plan.layer.format {
            contract::Format::F32 => layer_forward_in::<F32>(&call, out),
            contract::Format::Bf16 => layer_forward_in::<Bf16>(&call, out),
        }
    }
}

/// # Safety
/// As for [`Call::address`]; `out` must have the places that the plan says, and nothing else.
unsafe fn layer_forward_in<F: Format>(call: &Call<plan::LayerForward>, out: *mut f32) {
    // SAFETY: the caller's.
    unsafe {
        let layer = &call.plan.layer;
        let norm = call.norm(&call.plan.norm, layer.inputs);
        let kernel = call.values(call.plan.kernel, layer.kernel_len());
        let x = call.lanes::<F>(call.plan.x, layer.images * layer.input_len());
        let len = layer.images * layer.result_len();
        let skip = call.plan.skip.map(|skip| call.lanes::<F>(skip, len));
        let moments = out.add(call.plan.moments_at());
        let mut out = Output::<F> {
            y: slice::from_raw_parts_mut(out.cast(), len),
            moments: slice::from_raw_parts_mut(moments, 2 * layer.outputs),
            chosen: match layer.pools {
                true => slice::from_raw_parts_mut(out.add(call.plan.chosen_at()).cast(), len),
                false => &mut [],
            },
        };
        if layer.side == 1 {
            pointwise::forward::<F>(*ISA, layer, &norm, x, kernel, skip, &mut out);
        } else {
            conv3x3::forward::<F>(*ISA, layer, &norm, x, kernel, skip, &mut out);
        }
    }
}

/// See [`plan::LayerBackward`].
extern "C" fn layer_backward(out: *mut f32, operands: Operands) {
    // SAFETY: as in `layer_forward`.
    unsafe {
        let call = Call::<plan::LayerBackward>::new(operands);
        match call.plan.layer.format {
            contract::Format::F32 => layer_backward_in::<F32>(&call, out),
            contract::Format::Bf16 => layer_backward_in::<Bf16>(&call, out),
        }
    }
}

/// # Safety
/// As for [`layer_forward_in`].
unsafe fn layer_backward_in<F: Format>(call: &Call<plan::LayerBackward>, out: *mut f32) {
    // SAFETY: the caller's.
    unsafe {
        let layer = &call.plan.layer;
        let norm = call.norm(&call.plan.norm, layer.inputs);
        let kernel = call.values(call.plan.kernel, layer.kernel_len());
        let x = call.lanes::<F>(call.plan.x, layer.images * layer.input_len());
        let len = layer.images * layer.result_len();
        let dy = match &call.plan.dy {
            plan::OutputGradient::Plain(dy) => OutputGradient::Plain(call.lanes::<F>(*dy, len)),
            plan::OutputGradient::BehindNorm(behind) => OutputGradient::BehindNorm {
                norm: call.norm_gradient(behind, layer.outputs),
                dz: call.lanes::<F>(behind.dz, len),
                x: call.lanes::<F>(behind.x, len),
            },
            plan::OutputGradient::Pooled { dy, chosen } => OutputGradient::Pooled {
                dy: call.lanes::<F>(*dy, len),
                chosen: call.lanes::<F>(*chosen, len),
            },
        };
        let sums = out.add(call.plan.sums_at());
        let mut gradients = Gradients::<F> {
            dz: slice::from_raw_parts_mut(out.cast(), x.len()),
            dgamma: slice::from_raw_parts_mut(sums, layer.inputs),
            dbeta: slice::from_raw_parts_mut(sums.add(layer.inputs), layer.inputs),
            kernel: slice::from_raw_parts_mut(out.add(call.plan.kernel_at()), layer.kernel_len()),
        };
        if layer.side == 1 {
            pointwise::backward(*ISA, layer, &norm, x, kernel, &dy, &mut gradients);
        } else {
            conv3x3::backward(*ISA, layer, &norm, x, kernel, &dy, &mut gradients);
        }
    }
}

/// See [`plan::NormBackward`].
extern "C" fn norm_backward(out: *mut f32, operands: Operands) {
    // SAFETY: as in `layer_forward`.
    unsafe {
        let call = Call::<plan::NormBackward>::new(operands);
        match call.plan.format {
            contract::Format::F32 => norm_backward_in::<F32>(&call, out),
            contract::Format::Bf16 => norm_backward_in::<Bf16>(&call, out),
        }
    }
}

/// # Safety
/// As for [`layer_forward_in`].
unsafe fn norm_backward_in<F: Format>(call: &Call<plan::NormBackward>, out: *mut f32) {
    // SAFETY: the caller's.
    unsafe {
        let plan = &call.plan;
        let norm = call.norm_gradient(&plan.behind, plan.channels);
        let dz = call.lanes::<F>(plan.behind.dz, plan.lanes());
        let x = call.lanes::<F>(plan.behind.x, plan.lanes());
        let added = call.lanes::<F>(plan.added, plan.lanes());
        let dx = slice::from_raw_parts_mut(out.cast(), plan.lanes());
        norm::backward::<F>(*ISA, &norm, dz, x, added, plan.joined, dx);
    }
}

/// See [`plan::Part`].
extern "C" fn part(out: *mut f32, operands: Operands) {
    // SAFETY: as in `layer_forward`.
    unsafe {
        let call = Call::<plan::Part>::new(operands);
        let values = call.values(call.plan.start, call.plan.count);
        slice::from_raw_parts_mut(out, call.plan.count).copy_from_slice(values);
    }
}

/// See [`plan::Unwritten`].
extern "C" fn unwritten(_out: *mut f32, operands: Operands) {
    // SAFETY: as in `layer_forward`.
    unsafe {
        Call::<plan::Unwritten>::new(operands);
    }
}
