//! The CPU of the XLA runtime itself, which runs the program's fused kernels.

use std::error::Error;

use anyhow::Result;
use cpu_kernels::Isa;
use xla::{
    ElementType, HloModuleProto, PjRtBuffer, PjRtClient, PjRtLoadedExecutable, TfLogLevel,
    XlaComputation,
};

use crate::device::backend::{Backend, DeviceArray, Executable, Hlo, Values, boxed, own};
use crate::device::{Device, DeviceError, DeviceKind, flags, runtime};

/// The XLA runtime's CPU.
struct EmbeddedCpu {
    client: PjRtClient,
}

/// Opens the CPU as `cpus` devices.
pub fn open(cpus: usize) -> Result<Device, DeviceError> {
    runtime::silence_cpu();
    Isa::chosen()?;
    flags::check("the XLA runtime", || drop(PjRtClient::cpu()))?;
    runtime::divide_cpu(cpus);
    cpu_kernels::register();
    let client = PjRtClient::cpu().map_err(|error| DeviceError::Cpu {
        reason: first_line(&error),
    })?;
    Ok(Device {
        backend: Box::new(EmbeddedCpu { client }),
        kind: DeviceKind::Cpu,
        replicas: 1,
        cache: None,
    })
}

/// Has the runtime log what is at least as severe as `level`: from 0, information, to 3, what ends the process.
pub fn set_log_level(level: u8) {
    xla::set_min_log_level(match level {
        0 => TfLogLevel::Info,
        1 => TfLogLevel::Warning,
        2 => TfLogLevel::Error,
        _ => TfLogLevel::Fatal,
    });
}

/// What `error` says if it is XLA's, without the C++ backtrace that the binding appends.
pub fn xla_message(error: &(dyn Error + 'static)) -> Option<String> {
    error.downcast_ref().map(first_line)
}

fn first_line(error: &xla::Error) -> String {
    match error {
        xla::Error::XlaError { msg, .. } => msg.lines().next().unwrap_or_default().to_owned(),
        other => other.to_string(),
    }
}

impl Backend for EmbeddedCpu {
    fn device_count(&self) -> usize {
        self.client.addressable_device_count()
    }

    fn device_kind(&self) -> &str {
        "cpu"
    }

    fn report(&self) -> Result<Vec<String>> {
        let devices = self.client.addressable_devices();
        Ok(devices.iter().map(|device| device.to_string()).collect())
    }

    fn compile(&self, hlo: Hlo, replicas: usize) -> Result<Box<dyn Executable>> {
        let executable = match hlo {
            Hlo::Traced(computation) => self.client.compile_replicated(computation, replicas)?,
            Hlo::Bytes(bytes) => {
                let module = HloModuleProto::parse_proto(bytes, true)?;
                let computation = XlaComputation::from_proto(&module);
                self.client.compile_replicated(&computation, replicas)?
            }
        };
        Ok(Box::new(executable))
    }

    fn upload(
        &self,
        values: Values<'_>,
        dims: &[usize],
        device: usize,
    ) -> Result<Box<dyn DeviceArray>> {
        let devices = self.client.addressable_devices();
        let (client, device) = (&self.client, devices.get(device));
        let array = match values {
            Values::F32(values) => client.buffer_from_host_buffer(values, dims, device),
            Values::I32(values) => client.buffer_from_host_buffer(values, dims, device),
            Values::Bf16(values) => {
                let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                client.buffer_from_host_raw_bytes(ElementType::Bf16, &bytes, dims, device)
            }
            Values::Shared(values) => client.buffer_from_host_buffer(&values, dims, device),
        };
        Ok(Box::new(array?))
    }
}

impl Executable for PjRtLoadedExecutable {
    fn run(&self, inputs: &[Vec<&dyn DeviceArray>]) -> Result<Vec<Vec<Box<dyn DeviceArray>>>> {
        let outputs = self.execute_replicated_b(&own::<PjRtBuffer>(inputs)?)?;
        Ok(boxed(outputs))
    }
}

impl DeviceArray for PjRtBuffer {
    fn wait(&self) -> Result<()> {
        // The crate has no other way to wait: one value is copied.
        Ok(self.copy_raw_to_host_sync(&mut [0f32], 0)?)
    }

    fn to_f32(&self) -> Result<Vec<f32>> {
        Ok(self.to_literal_sync()?.to_vec()?)
    }
}
