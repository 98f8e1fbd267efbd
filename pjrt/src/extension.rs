//! The extensions that plugins may have besides the interface's own functions.

#![allow(non_upper_case_globals, reason = "the names of the C header")]

use crate::bindings::*;

/// More than there are types, so that a list that runs in a circle ends.
const MOST: usize = 100;

/// The names of the extensions in `table`.
pub(crate) fn names(table: &PJRT_Api) -> Vec<String> {
    let extensions = all(table).into_iter();
    extensions.map(|(number, _)| name(number)).collect()
}

/// The first extension of type `wanted` in `table`; it lives as long as the plugin.
pub(crate) fn find(
    table: &PJRT_Api,
    wanted: PJRT_Extension_Type,
) -> Option<*const PJRT_Extension_Base> {
    let mut extensions = all(table).into_iter();
    extensions.find_map(|(number, extension)| (number == wanted).then_some(extension))
}

/// The extensions in `table`, each with its type.
fn all(table: &PJRT_Api) -> Vec<(PJRT_Extension_Type, *const PJRT_Extension_Base)> {
    let mut extensions = Vec::new();
    let mut next: *const PJRT_Extension_Base = table.extension_start;
    // SAFETY: the interface says that extensions are a list, ended by a null, of structs that begin like this and
    // live as long as the plugin.
    while let Some(extension) = unsafe { next.as_ref() } {
        extensions.push((extension.type_, next));
        next = extension.next;
        if extensions.len() == MOST {
            break;
        }
    }
    extensions
}

/// The function by which a plugin takes handlers of XLA's FFI, where it has one.
pub(crate) fn handler_registration(
    table: &PJRT_Api,
) -> Option<unsafe extern "C" fn(*mut PJRT_FFI_Register_Handler_Args) -> *mut PJRT_Error> {
    let extension = find(table, PJRT_Extension_Type_FFI)?;
    // SAFETY: the interface says that an extension of this type is this struct, as long as it says; in earlier versions
    // it ends before the last function.
    unsafe {
        let has_it = (*extension).struct_size >= PJRT_FFI_Extension_STRUCT_SIZE as usize;
        let extension = extension.cast::<PJRT_FFI_Extension>();
        match has_it {
            true => (*extension).register_handler,
            false => None,
        }
    }
}

/// The name of an extension's type in the header, without its beginning.
fn name(number: PJRT_Extension_Type) -> String {
    let name = match number {
        PJRT_Extension_Type_Gpu_Custom_Call => "Gpu_Custom_Call",
        PJRT_Extension_Type_Profiler => "Profiler",
        PJRT_Extension_Type_Custom_Partitioner => "Custom_Partitioner",
        PJRT_Extension_Type_Stream => "Stream",
        PJRT_Extension_Type_Layouts => "Layouts",
        PJRT_Extension_Type_FFI => "FFI",
        PJRT_Extension_Type_MemoryDescriptions => "MemoryDescriptions",
        PJRT_Extension_Type_Triton => "Triton",
        PJRT_Extension_Type_RawBuffer => "RawBuffer",
        PJRT_Extension_Type_PhaseCompile => "PhaseCompile",
        PJRT_Extension_Type_CrossHostTransfers => "CrossHostTransfers",
        PJRT_Extension_Type_ExecutableMetadata => "ExecutableMetadata",
        PJRT_Extension_Type_Callback => "Callback",
        PJRT_Extension_Type_HostAllocator => "HostAllocator",
        PJRT_Extension_Type_TpuTopology => "TpuTopology",
        PJRT_Extension_Type_TpuExecutable => "TpuExecutable",
        PJRT_Extension_Type_Megascale => "Megascale",
        other => return format!("extension {other}"),
    };
    name.to_owned()
}
