//! The CPU of the XLA runtime itself, which runs the program's fused kernels.

use std::error::Error;

use anyhow::Result;
use cpu_client::{Buffer, Client, CpuError, Executable as CpuExecutable};
use cpu_kernels::Isa;
use xla::TfLogLevel;

use crate::device::backend::{Backend, DeviceArray, Executable, Values, boxed, own};
use crate::device::mpi::{self, MpiCpu};
use crate::device::processes::Processes;
use crate::device::{Device, DeviceError, DeviceKind, flags, identity, runtime};

/// The XLA runtime's CPU.
struct EmbeddedCpu {
    client: Client,
    /// What all compiled programs depend on ([`Backend::identity`]); none where the runtime's file is not known.
    identity: Option<Vec<String>>,
}

/// Opens the CPU as `cpus` devices, or the CPUs of several processes as a device each.
pub fn open(processes: &Processes, cpus: usize) -> Result<Device, DeviceError> {
    runtime::silence_cpu();
    Isa::chosen()?;
    flags::check("the XLA runtime", || drop(Client::open()))?;
    let several = processes.share_cpus();
    if several {
        mpi::join(processes)?;
    } else {
        runtime::divide_cpu(cpus);
    }
    cpu_kernels::register()?;
    let reason = |reason: String| DeviceError::Cpu { reason };
    let backend: Box<dyn Backend> = match several {
        true => Box::new(MpiCpu::open(processes).map_err(|error| reason(error.to_string()))?),
        false => Box::new(EmbeddedCpu::open().map_err(|error| reason(error.to_string()))?),
    };
    Ok(Device::new(backend, DeviceKind::Cpu))
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
    Some(match error.downcast_ref()? {
        xla::Error::XlaError { msg, .. } => msg.lines().next().unwrap_or_default().to_owned(),
        other => other.to_string(),
    })
}

impl EmbeddedCpu {
    fn open() -> Result<Self, CpuError> {
        let identity = runtime::library().map(|library| {
            let mut identity = identity::of(&library);
            identity.push(runtime::VERSION.to_owned());
            // The program calls them by name.
            let (version, isa) = (cpu_kernels::PLAN_VERSION, cpu_kernels::isa());
            identity.push(format!("kernels {version} {isa}"));
            identity
        });
        Ok(Self {
            client: Client::open()?,
            identity,
        })
    }
}

impl Backend for EmbeddedCpu {
    fn device_count(&self) -> usize {
        self.client.devices()
    }

    fn device_kind(&self) -> &str {
        "cpu"
    }

    fn report(&self) -> Result<Vec<String>> {
        let devices = 0..self.client.devices();
        Ok(devices
            .map(|device| self.client.device_name(device))
            .collect::<Result<_, _>>()?)
    }

    fn compile(&self, hlo: &[u8], replicas: usize) -> Result<Box<dyn Executable>> {
        let executable = self.client.compile(hlo, replicas)?;
        Ok(Box::new(executable))
    }

    fn identity(&self, replicas: usize) -> Option<Vec<String>> {
        let mut identity = self.identity.clone()?;
        identity.push(format!("the first {replicas} devices"));
        Some(identity)
    }

    fn load(&self, executable: &[u8], replicas: usize) -> Result<Box<dyn Executable>> {
        Ok(Box::new(self.client.load(executable, replicas)?))
    }

    fn upload(
        &self,
        values: Values<'_>,
        dims: &[usize],
        device: usize,
    ) -> Result<Box<dyn DeviceArray>> {
        let client = &self.client;
        let array = match values {
            Values::F32(values) => client.upload(values, dims, device),
            Values::I32(values) => client.upload(values, dims, device),
            Values::Bf16(values) => client.upload(values, dims, device),
            Values::Shared(values) => client.upload(&values, dims, device),
        };
        Ok(Box::new(array?))
    }
}

impl Executable for CpuExecutable {
    fn run(&self, inputs: &[Vec<&dyn DeviceArray>]) -> Result<Vec<Vec<Box<dyn DeviceArray>>>> {
        let outputs = CpuExecutable::run(self, &own::<Buffer>(inputs)?)?;
        Ok(boxed(outputs))
    }

    fn to_bytes(&self) -> Result<Vec<u8>> {
        Ok(self.serialize()?)
    }
}

impl DeviceArray for Buffer {
    fn wait(&self) -> Result<()> {
        Ok(Buffer::wait(self)?)
    }

    fn to_f32(&self) -> Result<Vec<f32>> {
        Ok(Buffer::to_f32(self)?)
    }
}
