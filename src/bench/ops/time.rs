//! Times compiled operations.

use std::time::Instant;

use anyhow::{Context, Result};
use half::bf16;
use xla::ElementType;

use super::trace::{Input, Traced};
use crate::device::Device;
use crate::device::backend::{DeviceArray, Executable};

/// Total bytes of the copies of inputs that runs use in turn: several times a last-level cache, so that the
/// inputs of each run come from memory.
const ROTATION: usize = 128 << 20;
/// Copies of an operation's inputs.
const MOST_COPIES: usize = 64;

/// A compiled operation with its inputs on the device.
pub struct Operation {
    executable: Box<dyn Executable>,
    /// Copies, taken in turn.
    inputs: Vec<Vec<Box<dyn DeviceArray>>>,
}

impl Operation {
    pub fn new(device: &Device, traced: &Traced) -> Result<Self> {
        let executable = device.compile(&traced.hlo, 1)?;
        let bytes: usize = traced.inputs.iter().map(Input::bytes).sum();
        let copies = ROTATION.div_ceil(bytes).clamp(2, MOST_COPIES);
        let copy = |_| {
            let inputs = traced.inputs.iter().map(|input| upload(device, input));
            inputs.collect::<Result<_>>()
        };
        Ok(Self {
            executable,
            inputs: (0..copies).map(copy).collect::<Result<_>>()?,
        })
    }

    /// Seconds that run number `run` takes.
    pub fn run(&self, run: usize) -> Result<f64> {
        let inputs = &self.inputs[run % self.inputs.len()];
        let inputs = inputs.iter().map(Box::as_ref).collect();
        let start = Instant::now();
        let outputs = self.executable.run(&[inputs])?;
        let last = outputs.first().and_then(|arrays| arrays.last());
        let last = last.context("an operation returned nothing")?;
        last.wait()?;
        Ok(start.elapsed().as_secs_f64())
    }
}

/// Values from 0.5 to 1.5, or labels 0.
fn upload(device: &Device, input: &Input) -> Result<Box<dyn DeviceArray>> {
    let len = input.len();
    let noise = |place: u32| 0.5 + (place.wrapping_mul(0x9e37_79b9) >> 8) as f32 / 2f32.powi(24);
    let noise = (0..len as u32).map(noise);
    let array = match input.element {
        ElementType::S32 => device.upload(&vec![0i32; len], &input.dims, 0),
        ElementType::Bf16 => {
            let values: Vec<bf16> = noise.map(bf16::from_f32).collect();
            device.upload(&values, &input.dims, 0)
        }
        _ => device.upload(&noise.collect::<Vec<f32>>(), &input.dims, 0),
    };
    array.context("uploading the inputs of an operation")
}
