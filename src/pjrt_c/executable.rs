//! A compiled program and what the compiler says about it.

use std::sync::Arc;

use super::api::{Api, slice_of, text};
use super::bindings::*;
use super::client::Loaded;
use super::error::{PjrtError, Result};
use super::topology::Topology;

/// A compiled program.
pub struct Executable {
    api: Arc<Api>,
    raw: *mut PJRT_Executable,
    #[expect(
        dead_code,
        reason = "a program must not outlive what it was compiled for"
    )]
    compiled_for: CompiledFor,
}

#[expect(dead_code, reason = "kept alive, never read")]
pub(super) enum CompiledFor {
    Topology(Topology),
    Client(Loaded),
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
    pub(super) fn new(api: Arc<Api>, raw: *mut PJRT_Executable, compiled_for: CompiledFor) -> Self {
        Self {
            api,
            raw,
            compiled_for,
        }
    }

    /// What the program takes of one device's memory.
    pub fn memory(&self) -> Result<Memory> {
        let mut args = PJRT_Executable_GetCompiledMemoryStats_Args {
            struct_size: PJRT_Executable_GetCompiledMemoryStats_Args_STRUCT_SIZE as usize,
            executable: self.raw,
            ..Default::default()
        };
        let function = self.api.table.PJRT_Executable_GetCompiledMemoryStats;
        self.api.call(
            "PJRT_Executable_GetCompiledMemoryStats",
            function,
            &mut args,
        )?;
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
            struct_size: PJRT_Executable_GetCostAnalysis_Args_STRUCT_SIZE as usize,
            executable: self.raw,
            ..Default::default()
        };
        let function = self.api.table.PJRT_Executable_GetCostAnalysis;
        match self
            .api
            .call("PJRT_Executable_GetCostAnalysis", function, &mut args)
        {
            Err(PjrtError::Unimplemented { .. }) => return Ok(None),
            called => called?,
        }
        // SAFETY: the plugin returned this array; it lives as long as the executable.
        let properties = unsafe { slice_of(args.properties, args.num_properties) };
        // SAFETY: each property's name has the length beside it.
        let found = properties
            .iter()
            .find(|property| unsafe { text(property.name, property.name_size) } == name);
        Ok(found.and_then(number))
    }

    /// The optimised program: a serialised `HloModuleProtoWithConfig`.
    pub fn optimized_program(&self) -> Result<Vec<u8>> {
        let mut program = PJRT_Program {
            struct_size: PJRT_Program_STRUCT_SIZE as usize,
            ..Default::default()
        };
        // Without room for the code, the first call only says how much it needs.
        self.read_program(&mut program)?;
        let mut code = vec![0; program.code_size];
        program.code = code.as_mut_ptr().cast();
        self.read_program(&mut program)?;
        Ok(code)
    }

    fn read_program(&self, program: &mut PJRT_Program) -> Result<()> {
        let mut args = PJRT_Executable_OptimizedProgram_Args {
            struct_size: PJRT_Executable_OptimizedProgram_Args_STRUCT_SIZE as usize,
            executable: self.raw,
            program,
            ..Default::default()
        };
        let function = self.api.table.PJRT_Executable_OptimizedProgram;
        self.api
            .call("PJRT_Executable_OptimizedProgram", function, &mut args)
    }
}

impl Drop for Executable {
    fn drop(&mut self) {
        let mut args = PJRT_Executable_Destroy_Args {
            struct_size: PJRT_Executable_Destroy_Args_STRUCT_SIZE as usize,
            executable: self.raw,
            ..Default::default()
        };
        let function = self.api.table.PJRT_Executable_Destroy;
        // A failure to free leaves nobody to tell and nothing to do.
        let _ = self
            .api
            .call("PJRT_Executable_Destroy", function, &mut args);
    }
}

/// `hlo` as the interface takes it; good as long as `hlo` is.
pub(super) fn hlo_program(hlo: &mut [u8]) -> PJRT_Program {
    const FORMAT: &str = "hlo";
    PJRT_Program {
        struct_size: PJRT_Program_STRUCT_SIZE as usize,
        code: hlo.as_mut_ptr().cast(),
        code_size: hlo.len(),
        format: FORMAT.as_ptr().cast(),
        format_size: FORMAT.len(),
        ..Default::default()
    }
}

/// The value of a property, if it is a number.
fn number(property: &PJRT_NamedValue) -> Option<f64> {
    let value = property.__bindgen_anon_1;
    // SAFETY: the type beside the union says which member is set.
    unsafe {
        if property.type_ == PJRT_NamedValue_Type_PJRT_NamedValue_kFloat {
            Some(value.float_value.into())
        } else if property.type_ == PJRT_NamedValue_Type_PJRT_NamedValue_kInt64 {
            Some(value.int64_value as f64)
        } else {
            None
        }
    }
}
