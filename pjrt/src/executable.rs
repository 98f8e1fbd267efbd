//! A compiled program and what the compiler says about it.

use std::any::Any;
use std::sync::Arc;

use crate::api::{Api, filled, reserve, slice_of};
use crate::bindings::*;
use crate::error::{PjrtError, Result};
use crate::value;

/// A compiled program.
pub struct Executable {
    api: Arc<Api>,
    raw: *mut PJRT_Executable,
    /// The topology or the loaded program that it was compiled for, which it must not outlive.
    _compiled_for: Box<dyn Any>,
}

/// What a program takes of a device's memory, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    pub arguments: i64,
    pub outputs: i64,
    /// The part of the outputs that lies where arguments were.
    pub aliased: i64,
    pub temporaries: i64,
    pub code: i64,
}

impl Executable {
    pub(crate) fn new(api: Arc<Api>, raw: *mut PJRT_Executable, compiled_for: impl Any) -> Self {
        Self {
            api,
            raw,
            _compiled_for: Box::new(compiled_for),
        }
    }

    /// What the program takes of one device's memory.
    pub fn memory(&self) -> Result<Memory> {
        let mut args = PJRT_Executable_GetCompiledMemoryStats_Args {
            executable: self.raw,
            ..Default::default()
        };
        self.api.call(&mut args)?;
        Ok(Memory {
            arguments: args.argument_size_in_bytes,
            outputs: args.output_size_in_bytes,
            aliased: args.alias_size_in_bytes,
            temporaries: args.temp_size_in_bytes,
            code: args.generated_code_size_in_bytes,
        })
    }

    /// The number that the compiler's cost analysis has under `name`, for example `flops`; none if
    /// it has no such number, or the plugin no such analysis.
    pub fn cost(&self, name: &str) -> Result<Option<f64>> {
        let mut args = PJRT_Executable_GetCostAnalysis_Args {
            executable: self.raw,
            ..Default::default()
        };
        match self.api.call(&mut args) {
            Err(PjrtError::Unimplemented { .. } | PjrtError::MissingFunction(_)) => {
                return Ok(None);
            }
            called => called?,
        }
        // SAFETY: the plugin returned this array; it lives as long as the executable.
        let properties = unsafe { value::read(args.properties, args.num_properties) };
        let found = properties
            .into_iter()
            .find(|(property, _)| property == name);
        Ok(found.and_then(|(_, value)| value.number()))
    }

    /// Arrays that the program returns on each device.
    pub fn outputs(&self) -> Result<usize> {
        let mut args = PJRT_Executable_NumOutputs_Args {
            executable: self.raw,
            ..Default::default()
        };
        self.api.call(&mut args)?;
        Ok(args.num_outputs)
    }

    /// The compiled program as bytes, for [`crate::Client::load`] on the same version of the plugin. Two compiles
    /// of one program may give different bytes.
    pub fn serialize(&self) -> Result<Vec<u8>> {
        let mut args = PJRT_Executable_Serialize_Args {
            executable: self.raw,
            ..Default::default()
        };
        self.api.call(&mut args)?;
        // SAFETY: the plugin returned these bytes; they live until the deleter is called.
        let bytes = unsafe { slice_of(args.serialized_bytes.cast(), args.serialized_bytes_size) };
        let mut copy = Vec::new();
        let reserved = reserve::<PJRT_Executable_Serialize_Args, _>(&mut copy, bytes.len());
        if reserved.is_ok() {
            copy.extend_from_slice(bytes);
        }
        if let Some(delete) = args.serialized_executable_deleter {
            // SAFETY: called once, with what came with it.
            unsafe { delete(args.serialized_executable) };
        }
        reserved?;
        Ok(copy)
    }

    /// The optimised program: a serialised `HloModuleProtoWithConfig`.
    pub fn optimized_program(&self) -> Result<Vec<u8>> {
        let mut program = PJRT_Program {
            struct_size: PJRT_Program_STRUCT_SIZE as usize,
            ..Default::default()
        };
        // Without room for the code, the first call only says how much it needs.
        self.read_program(&mut program)?;
        let mut code = filled::<PJRT_Executable_OptimizedProgram_Args, _>(0u8, program.code_size)?;
        program.code = code.as_mut_ptr().cast();
        self.read_program(&mut program)?;
        Ok(code)
    }

    fn read_program(&self, program: &mut PJRT_Program) -> Result<()> {
        let mut args = PJRT_Executable_OptimizedProgram_Args {
            executable: self.raw,
            program,
            ..Default::default()
        };
        self.api.call(&mut args)
    }
}

impl Drop for Executable {
    fn drop(&mut self) {
        self.api.free(PJRT_Executable_Destroy_Args {
            executable: self.raw,
            ..Default::default()
        });
    }
}
