//! The CPU of the XLA runtime itself, which runs the program's fused kernels.

use anyhow::Result;
use cpu_client::{Buffer, Client, CpuError, Executable as CpuExecutable};

use crate::device::backend::{Backend, DeviceArray, Executable, Hlo, Values, boxed, own};
use crate::device::{identity, runtime};

/// The XLA runtime's CPU.
pub struct EmbeddedCpu {
    client: Client,
    /// What all compiled programs depend on ([`Backend::identity`]); none where the runtime's file is not known.
    identity: Option<Vec<String>>,
}

impl EmbeddedCpu {
    pub fn open() -> Result<Self, CpuError> {
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

    fn compile(&self, hlo: Hlo, replicas: usize) -> Result<Box<dyn Executable>> {
        let executable = self.client.compile(&hlo.to_bytes()?, replicas)?;
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
