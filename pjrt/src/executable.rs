//! A compiled program and what the compiler says about it.

use std::any::Any;
use std::sync::Arc;

use crate::api::{Api, slice_of, text};
use crate::bindings::*;
use crate::error::{PjrtError, Result};

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
            executable: self.raw,
            program,
            ..Default::default()
        };
        self.api.call(&mut args)
    }
}

impl Drop for Executable {
    fn drop(&mut self) {
        let mut args = PJRT_Executable_Destroy_Args {
            executable: self.raw,
            ..Default::default()
        };
        // A failure to free leaves nobody to tell and nothing to do.
        let _ = self.api.call(&mut args);
    }
}

/// `hlo` as the interface takes it; good as long as `hlo` is.
pub(crate) fn hlo_program(hlo: &mut [u8]) -> PJRT_Program {
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
