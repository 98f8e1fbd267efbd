//! The CPU of the XLA runtime itself, which runs the program's fused kernels.

use anyhow::Result;
use xla::{
    ElementType, HloModuleProto, PjRtBuffer, PjRtClient, PjRtLoadedExecutable, XlaComputation,
};

use crate::device::backend::{Backend, DeviceArray, Executable, Hlo, Values, boxed, own};

/// The XLA runtime's CPU.
pub struct EmbeddedCpu {
    client: PjRtClient,
}

impl EmbeddedCpu {
    pub fn open() -> xla::Result<Self> {
        let client = PjRtClient::cpu()?;
        Ok(Self { client })
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
