//! The kernels as XLA calls them: by name, with addresses of arrays.
//!
//! The first operand of every call is its plan, an s32 vector that the graph's builder writes and the
//! kernel reads from front to back; the second is the number of the round of a loop (s32), 0 outside.
//! What the plan has is either a size, or two numbers that say where something begins in the next
//! operand: an offset, and how much further on for each round. The comments below list both in order,
//! arrays with their shapes. Arrays are f32 and row-major. Each call has one result, in which several arrays may lie one
//! behind the other.

use std::ffi::c_void;
use std::slice;
use std::sync::Once;

use crate::layer::{Gradients, Layer, OutputGradient};
use crate::norm::{Lanes, Norm, NormGradient};
use crate::{conv3x3, norm, pointwise};

/// ε of batch normalisation (Keras's default).
const EPSILON: f32 = 1e-3;

type Operands = *const *const c_void;
type Call = extern "C" fn(*mut f32, Operands);

/// Makes the kernels known to XLA's CPU backend in this process.
pub fn register() {
    const CALLS: [(&str, Call); 5] = [
        ("resnet_layer_forward", layer_forward),
        ("resnet_layer_backward", layer_backward),
        ("resnet_norm_backward", norm_backward),
        ("resnet_part", part),
        ("resnet_unwritten", unwritten),
    ];
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for (name, call) in CALLS {
            xla::register_custom_call_target(name, call as *const c_void, "Host");
        }
    });
}

/// What a call was given: a plan, and the operands behind it.
struct Arguments {
    plan: *const i32,
    round: usize,
    operands: Operands,
}

impl Arguments {
    /// # Safety
    /// The first two operands must be a plan and a round; what is taken from it must have been put in, in that order,
    /// and the arrays must have the sizes that are asked for.
    unsafe fn new(operands: Operands) -> Self {
        // SAFETY: the caller's.
        unsafe {
            Self {
                plan: (*operands).cast(),
                round: *(*operands.add(1)).cast::<i32>() as usize,
                operands: operands.add(2),
            }
        }
    }

    /// The next number.
    ///
    /// # Safety
    /// As for [`Self::new`].
    unsafe fn number(&mut self) -> usize {
        // SAFETY: the caller's.
        unsafe {
            let number = *self.plan;
            self.plan = self.plan.add(1);
            number as usize
        }
    }

    /// The next array's address.
    ///
    /// # Safety
    /// As for [`Self::new`].
    unsafe fn address(&mut self) -> *const f32 {
        // SAFETY: the caller's.
        unsafe {
            let array: *const f32 = (*self.operands).cast();
            self.operands = self.operands.add(1);
            let offset = self.number();
            array.add(offset + self.round * self.number())
        }
    }

    /// The next array, `count` values.
    ///
    /// # Safety
    /// As for [`Self::new`]; the array must live as long as the call.
    unsafe fn values<'a>(&mut self, count: usize) -> &'a [f32] {
        // SAFETY: the caller's.
        unsafe { slice::from_raw_parts(self.address(), count) }
    }

    /// The next array, `count` times 16 values.
    ///
    /// # Safety
    /// As for [`Self::new`]; the array must live as long as the call.
    unsafe fn lanes<'a>(&mut self, count: usize) -> &'a [Lanes] {
        // SAFETY: the caller's; an array of f32 has the alignment of an f32.
        unsafe { slice::from_raw_parts(self.address().cast(), count) }
    }

    /// Images, height, width, inputs, outputs, side, stride.
    ///
    /// # Safety
    /// As for [`Self::new`].
    unsafe fn layer(&mut self) -> Layer {
        // SAFETY: the caller's.
        unsafe {
            Layer {
                images: self.number(),
                height: self.number(),
                width: self.number(),
                inputs: self.number(),
                outputs: self.number(),
                side: self.number(),
                stride: self.number(),
            }
        }
    }

    /// Mean, variance, gamma, beta, `[channels]` each.
    ///
    /// # Safety
    /// As for [`Self::new`].
    unsafe fn norm(&mut self, channels: usize) -> Norm {
        // SAFETY: the caller's.
        unsafe {
            let mean = self.values(channels);
            let variance = self.values(channels);
            let gamma = self.values(channels);
            let beta = self.values(channels);
            Norm::new(mean, variance, gamma, beta, EPSILON)
        }
    }

    /// A norm, dgamma and dbeta, `[channels]` each, and how many values their sums run over.
    ///
    /// # Safety
    /// As for [`Self::new`].
    unsafe fn norm_gradient(&mut self, channels: usize) -> NormGradient {
        // SAFETY: the caller's.
        unsafe {
            let norm = self.norm(channels);
            let dgamma = self.values(channels);
            let dbeta = self.values(channels);
            NormGradient::new(&norm, dbeta, dgamma, self.number() as f32)
        }
    }
}

/// A layer's images and the moments of its channels.
///
/// Takes the layer; the norm of its input; the kernel `[side, side, C, O]`; x `[N, H, W, C]`; whether
/// there is a skip (0 or 1), and it, `[N, h, w, O]`. Gives y `[N, h, w, O]`, mean and variance `[O]`.
extern "C" fn layer_forward(out: *mut f32, operands: Operands) {
    // SAFETY: XLA calls with the operands and the result that the graph declared, and
    // `xla_graphs::ops::kernels` declares them as described above; nothing else has the result.
    unsafe {
        let mut arguments = Arguments::new(operands);
        let layer = arguments.layer();
        let norm = arguments.norm(layer.inputs);
        let kernel = arguments.values(layer.kernel_len());
        let x = arguments.lanes(layer.images * layer.input_len());
        let len = layer.images * layer.output_len();
        let skip = (arguments.number() == 1).then(|| arguments.lanes(len));
        let y = slice::from_raw_parts_mut(out.cast(), len);
        let moments = slice::from_raw_parts_mut(out.add(len * 16), 2 * layer.outputs);
        if layer.side == 1 {
            pointwise::forward(&layer, &norm, x, kernel, skip, y, moments);
        } else {
            conv3x3::forward(&layer, &norm, x, kernel, y, moments);
        }
    }
}

/// The gradients of [`layer_forward`], but for the skip's, which is dy.
///
/// Takes the layer; the norm of its input; the kernel `[side, side, C, O]`; x `[N, H, W, C]`; then 0
/// and dy `[N, h, w, O]`, or 1, the norm behind the layer with its dgamma, dbeta and count, and the
/// gradient dz of its result and its input, `[N, h, w, O]` each. Gives dz `[N, H, W, C]`, dgamma and
/// dbeta `[C]`, the kernel's gradient.
extern "C" fn layer_backward(out: *mut f32, operands: Operands) {
    // SAFETY: as in `layer_forward`.
    unsafe {
        let mut arguments = Arguments::new(operands);
        let layer = arguments.layer();
        let norm = arguments.norm(layer.inputs);
        let kernel = arguments.values(layer.kernel_len());
        let x = arguments.lanes(layer.images * layer.input_len());
        let len = layer.images * layer.output_len();
        let dy = if arguments.number() == 0 {
            OutputGradient::Plain(arguments.lanes(len))
        } else {
            OutputGradient::BehindNorm {
                norm: arguments.norm_gradient(layer.outputs),
                dz: arguments.lanes(len),
                x: arguments.lanes(len),
            }
        };
        let sums = out.add(x.len() * 16);
        let mut gradients = Gradients {
            dz: slice::from_raw_parts_mut(out.cast(), x.len()),
            dgamma: slice::from_raw_parts_mut(sums, layer.inputs),
            dbeta: slice::from_raw_parts_mut(sums.add(layer.inputs), layer.inputs),
            kernel: slice::from_raw_parts_mut(sums.add(2 * layer.inputs), layer.kernel_len()),
        };
        if layer.side == 1 {
            pointwise::backward(&layer, &norm, x, kernel, &dy, &mut gradients);
        } else {
            conv3x3::backward(&layer, &norm, x, kernel, &dy, &mut gradients);
        }
    }
}

/// The gradient of a normalisation's input, from that of its result.
///
/// Takes pixels; channels; the norm with its dgamma, dbeta and count; dz and x `[pixels, C]`; whether
/// what comes last belongs to the result's gradient (1) or to the input's (0), and that,
/// `[pixels, C]`. Gives dx `[pixels, C]`.
extern "C" fn norm_backward(out: *mut f32, operands: Operands) {
    // SAFETY: as in `layer_forward`.
    unsafe {
        let mut arguments = Arguments::new(operands);
        let (pixels, channels) = (arguments.number(), arguments.number());
        let norm = arguments.norm_gradient(channels);
        let len = pixels * channels / 16;
        let (dz, x) = (arguments.lanes(len), arguments.lanes(len));
        let joined = arguments.number() == 1;
        let dx = slice::from_raw_parts_mut(out.cast(), len);
        norm::backward(&norm, dz, x, arguments.lanes(len), joined, dx);
    }
}

/// Copies a part of an array. Takes the array; how many values. Gives them.
extern "C" fn part(out: *mut f32, operands: Operands) {
    // SAFETY: as in `layer_forward`.
    unsafe {
        let mut arguments = Arguments::new(operands);
        let start = arguments.address();
        let count = arguments.number();
        slice::from_raw_parts_mut(out, count).copy_from_slice(slice::from_raw_parts(start, count));
    }
}

/// Gives an array whose values are not set: what takes it must write before it reads. Takes a number
/// that tells this array from others of the same size.
extern "C" fn unwritten(_out: *mut f32, _operands: Operands) {}
