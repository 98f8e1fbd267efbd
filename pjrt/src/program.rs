//! A program before it is compiled.

use crate::bindings::*;

/// A program, in a form that plugins compile.
#[derive(Clone, Copy, Debug)]
pub enum Program<'a> {
    /// A serialised `HloModuleProto`.
    Hlo(&'a [u8]),
    /// A StableHLO module, as MLIR text or bytecode.
    Mlir(&'a [u8]),
}

impl Program<'_> {
    /// The program as the interface takes it; good as long as `self` is.
    pub(crate) fn as_argument(&self) -> PJRT_Program {
        let (format, code) = match self {
            Self::Hlo(code) => ("hlo", code),
            Self::Mlir(code) => ("mlir", code),
        };
        PJRT_Program {
            struct_size: PJRT_Program_STRUCT_SIZE as usize,
            // A compiler only reads it; other functions write to this member.
            code: code.as_ptr().cast_mut().cast(),
            code_size: code.len(),
            format: format.as_ptr().cast(),
            format_size: format.len(),
            ..Default::default()
        }
    }
}
