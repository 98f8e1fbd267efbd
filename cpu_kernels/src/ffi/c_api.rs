//! The structs of XLA's FFI, version 0.2, as far as the kernels use them: `xla/ffi/api/c_api.h` with its names.
//!
//! Every struct that crosses the interface says how long it is. A newer XLA only adds fields at the end.

use std::ffi::{c_char, c_void};

/// The version of the interface that this file was written after.
pub const MAJOR: i32 = 0;
pub const MINOR: i32 = 2;

/// `XLA_FFI_Handler`: null when all went well.
pub type Handler = unsafe extern "C" fn(*mut CallFrame) -> *mut Error;

/// `XLA_FFI_Error`, which only XLA looks into.
#[repr(C)]
pub struct Error([u8; 0]);

#[repr(C)]
pub struct ExtensionBase {
    pub struct_size: usize,
    pub kind: i32,
    pub next: *const ExtensionBase,
}

/// `XLA_FFI_Extension_Metadata`.
pub const EXTENSION_METADATA: i32 = 1;

#[repr(C)]
pub struct ApiVersion {
    pub struct_size: usize,
    pub extension_start: *const ExtensionBase,
    pub major: i32,
    pub minor: i32,
}

#[repr(C)]
pub struct Metadata {
    pub struct_size: usize,
    pub api_version: ApiVersion,
}

#[repr(C)]
pub struct MetadataExtension {
    pub base: ExtensionBase,
    pub metadata: *mut Metadata,
}

#[repr(C)]
pub struct ErrorCreateArgs {
    pub struct_size: usize,
    pub extension_start: *const ExtensionBase,
    pub message: *const c_char,
    pub code: i32,
}

#[repr(C)]
pub struct ErrorGetMessageArgs {
    pub struct_size: usize,
    pub extension_start: *const ExtensionBase,
    pub error: *mut Error,
    pub message: *const c_char,
}

#[repr(C)]
pub struct ErrorDestroyArgs {
    pub struct_size: usize,
    pub extension_start: *const ExtensionBase,
    pub error: *mut Error,
}

/// `XLA_FFI_Error_Code_INVALID_ARGUMENT`.
pub const INVALID_ARGUMENT: i32 = 3;
/// `XLA_FFI_Error_Code_INTERNAL`.
pub const INTERNAL: i32 = 13;

/// `XLA_FFI_DataType_S32` and so on.
pub const S32: i32 = 4;
pub const F32: i32 = 11;
pub const BF16: i32 = 16;

#[repr(C)]
pub struct Buffer {
    pub struct_size: usize,
    pub extension_start: *const ExtensionBase,
    pub data_type: i32,
    pub data: *mut c_void,
    pub rank: i64,
    pub dims: *const i64,
}

#[repr(C)]
pub struct ByteSpan {
    pub start: *const c_char,
    pub len: usize,
}

#[repr(C)]
pub struct Array {
    pub data_type: i32,
    pub len: usize,
    pub data: *const c_void,
}

/// `XLA_FFI_Args` and `XLA_FFI_Rets`, which have the same fields.
#[repr(C)]
pub struct Buffers {
    pub struct_size: usize,
    pub extension_start: *const ExtensionBase,
    pub len: i64,
    pub kinds: *const i32,
    pub buffers: *const *const Buffer,
}

/// `XLA_FFI_ArgType_BUFFER` and `XLA_FFI_RetType_BUFFER`.
pub const BUFFER: i32 = 1;

#[repr(C)]
pub struct Attributes {
    pub struct_size: usize,
    pub extension_start: *const ExtensionBase,
    pub len: i64,
    pub kinds: *const i32,
    pub names: *const *const ByteSpan,
    pub values: *const *const c_void,
}

/// `XLA_FFI_AttrType_ARRAY`.
pub const ATTRIBUTE_ARRAY: i32 = 1;

/// `XLA_FFI_ExecutionStage_EXECUTE`.
pub const EXECUTE: i32 = 3;

#[repr(C)]
pub struct CallFrame {
    pub struct_size: usize,
    pub extension_start: *const ExtensionBase,
    pub api: *const Api,
    pub context: *mut c_void,
    pub stage: i32,
    pub arguments: Buffers,
    pub results: Buffers,
    pub attributes: Attributes,
}

#[repr(C)]
pub struct HandlerBundle {
    pub instantiate: Option<Handler>,
    pub prepare: Option<Handler>,
    pub initialize: Option<Handler>,
    pub execute: Option<Handler>,
}

#[repr(C)]
pub struct HandlerRegisterArgs {
    pub struct_size: usize,
    pub extension_start: *const ExtensionBase,
    pub name: ByteSpan,
    pub platform: ByteSpan,
    pub bundle: HandlerBundle,
    pub traits: u32,
}

/// The first functions of `XLA_FFI_Api`.
#[repr(C)]
pub struct Api {
    pub struct_size: usize,
    pub extension_start: *const ExtensionBase,
    pub version: ApiVersion,
    pub internal: *const c_void,
    pub error_create: Option<unsafe extern "C" fn(*mut ErrorCreateArgs) -> *mut Error>,
    pub error_get_message: Option<unsafe extern "C" fn(*mut ErrorGetMessageArgs)>,
    pub error_destroy: Option<unsafe extern "C" fn(*mut ErrorDestroyArgs)>,
    pub handler_register: Option<unsafe extern "C" fn(*mut HandlerRegisterArgs) -> *mut Error>,
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::mem::offset_of;
    use std::path::Path;
    use std::process::{Command, Stdio};

    use super::*;

    /// Lines of C which assert that fields of the header's struct lie where ours do.
    macro_rules! same_places {
        ($ours:ident is $theirs:literal: $($our:ident is $their:literal),+) => {
            [$(format!(
                "_Static_assert(offsetof({0}, {1}) == {2}, \"{0}.{1}\");",
                $theirs, $their, offset_of!($ours, $our)
            )),+].join("\n")
        };
    }

    fn same_values() -> String {
        let pairs = [
            ("XLA_FFI_API_MAJOR", MAJOR),
            ("XLA_FFI_API_MINOR", MINOR),
            ("XLA_FFI_Extension_Metadata", EXTENSION_METADATA),
            ("XLA_FFI_Error_Code_INVALID_ARGUMENT", INVALID_ARGUMENT),
            ("XLA_FFI_Error_Code_INTERNAL", INTERNAL),
            ("XLA_FFI_DataType_S32", S32),
            ("XLA_FFI_DataType_F32", F32),
            ("XLA_FFI_DataType_BF16", BF16),
            ("XLA_FFI_ArgType_BUFFER", BUFFER),
            ("XLA_FFI_RetType_BUFFER", BUFFER),
            ("XLA_FFI_AttrType_ARRAY", ATTRIBUTE_ARRAY),
            ("XLA_FFI_ExecutionStage_EXECUTE", EXECUTE),
        ];
        let line = |(name, value)| format!("_Static_assert({name} == {value}, \"{name}\");\n");
        pairs.map(line).concat()
    }

    #[test]
    fn the_structs_are_those_of_the_runtimes_header() {
        let source = [
            "#include \"xla/ffi/api/c_api.h\"".to_owned(),
            same_values(),
            same_places!(ExtensionBase is "XLA_FFI_Extension_Base": kind is "type", next is "next"),
            same_places!(ApiVersion is "XLA_FFI_Api_Version":
                major is "major_version", minor is "minor_version"),
            same_places!(Metadata is "XLA_FFI_Metadata": api_version is "api_version"),
            same_places!(MetadataExtension is "XLA_FFI_Metadata_Extension": metadata is "metadata"),
            same_places!(ErrorCreateArgs is "XLA_FFI_Error_Create_Args":
                message is "message", code is "errc"),
            same_places!(ErrorGetMessageArgs is "XLA_FFI_Error_GetMessage_Args":
                error is "error", message is "message"),
            same_places!(ErrorDestroyArgs is "XLA_FFI_Error_Destroy_Args": error is "error"),
            same_places!(Buffer is "XLA_FFI_Buffer":
                data_type is "dtype", data is "data", rank is "rank", dims is "dims"),
            same_places!(ByteSpan is "XLA_FFI_ByteSpan": start is "ptr", len is "len"),
            same_places!(Array is "XLA_FFI_Array":
                data_type is "dtype", len is "size", data is "data"),
            same_places!(Buffers is "XLA_FFI_Args":
                len is "size", kinds is "types", buffers is "args"),
            same_places!(Buffers is "XLA_FFI_Rets":
                len is "size", kinds is "types", buffers is "rets"),
            same_places!(Attributes is "XLA_FFI_Attrs":
                len is "size", kinds is "types", names is "names", values is "attrs"),
            same_places!(CallFrame is "XLA_FFI_CallFrame":
                api is "api", context is "ctx", stage is "stage", arguments is "args",
                results is "rets", attributes is "attrs"),
            same_places!(HandlerBundle is "XLA_FFI_Handler_Bundle":
                instantiate is "instantiate", execute is "execute"),
            same_places!(HandlerRegisterArgs is "XLA_FFI_Handler_Register_Args":
                name is "name", platform is "platform", bundle is "bundle", traits is "traits"),
            same_places!(Api is "XLA_FFI_Api":
                version is "api_version", internal is "internal_api",
                error_create is "XLA_FFI_Error_Create",
                error_get_message is "XLA_FFI_Error_GetMessage",
                error_destroy is "XLA_FFI_Error_Destroy",
                handler_register is "XLA_FFI_Handler_Register"),
        ];
        let include = Path::new(&std::env::var("XLA_EXTENSION_DIR").unwrap()).join("include");
        let mut compiler = Command::new("cc")
            .args(["-std=c11", "-fsyntax-only", "-x", "c", "-", "-I"])
            .arg(include)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = compiler.stdin.take().unwrap();
        input.write_all(source.join("\n").as_bytes()).unwrap();
        input.write_all(b"\n").unwrap();
        drop(input);
        assert!(compiler.wait().unwrap().success());
    }
}
