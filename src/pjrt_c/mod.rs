//! The PJRT C API, as far as compiling ahead of time needs it: load a plugin, describe a topology
//! without its hardware, compile for it, ask about the result.
//!
//! The `xla` crate can only compile for a client, and a client wants the devices. This module is the
//! fence around the interface: all unsafe code that concerns it is here.

use std::ffi::c_char;
use std::path::Path;
use std::ptr;
use std::slice;
use std::sync::Arc;

use libloading::Library;

#[allow(
    dead_code,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    clippy::all,
    reason = "generated from the C header, which has more than this module uses"
)]
mod bindings {
    include!(concat!(env!("OUT_DIR"), "/pjrt_c_api.rs"));
}

use bindings::*;

/// The symbol that every plugin exports.
const ENTRY: &[u8] = b"GetPjrtApi\0";

/// Why a plugin did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum PjrtError {
    /// The dynamic loader's own message.
    #[error("{0}")]
    Load(String),
    #[error("it is a shared library but no PJRT plugin: it has no GetPjrtApi")]
    NoPlugin,
    #[error("its GetPjrtApi returned no function table")]
    NoTable,
    #[error("it speaks PJRT C API {major}.{minor}; expected major version {expected}")]
    Version {
        major: i32,
        minor: i32,
        expected: u32,
    },
    #[error("it has no {0}: a newer plugin does")]
    MissingFunction(&'static str),
    #[error("{function} is not implemented by this plugin: {message}")]
    Unimplemented {
        function: &'static str,
        message: String,
    },
    #[error("{function}: {message}")]
    Call {
        function: &'static str,
        message: String,
    },
}

/// Keeps libtpu from what it would do for a run: ask the cloud's metadata server about the machine
/// (for minutes, where there is none), and claim the machine's TPU for this process.
///
/// Call it before libtpu is loaded and before other threads start.
pub fn keep_libtpu_offline() {
    for (name, value) in [
        ("TPU_SKIP_MDS_QUERY", "1"),
        ("TPU_WORKER_HOSTNAMES", "localhost"),
        ("ALLOW_MULTIPLE_LIBTPU_LOAD", "1"),
        // Any valid type will do; without one libtpu prints a warning. The topology decides.
        ("TPU_ACCELERATOR_TYPE", "v5litepod-8"),
        // Errors come back as values.
        ("TPU_MIN_LOG_LEVEL", "3"),
    ] {
        // SAFETY: the only other thread of the process waits for signals and reads no variables.
        unsafe { std::env::set_var(name, value) };
    }
}

type Result<T> = std::result::Result<T, PjrtError>;

/// A function of the interface: arguments and results in one struct.
type Function<Args> = Option<unsafe extern "C" fn(*mut Args) -> *mut PJRT_Error>;

/// The functions of a loaded plugin.
struct Api {
    /// A copy, zero (no function) where the plugin's own table ends earlier than ours.
    table: PJRT_Api,
}

// SAFETY: the interface says that its functions may be called from any thread, and the table is never
// written to after it was made.
unsafe impl Send for Api {}
// SAFETY: as above.
unsafe impl Sync for Api {}

/// A plugin, loaded and initialised. It stays loaded as long as the process lives: plugins start
/// threads and cannot be unloaded.
#[derive(Clone)]
pub struct Plugin {
    api: Arc<Api>,
}

/// The chips that a program is compiled for; none of them needs to be there.
pub struct Topology {
    api: Arc<Api>,
    raw: *mut PJRT_TopologyDescription,
}

/// The devices of this machine that a plugin drives.
pub struct Client {
    api: Arc<Api>,
    raw: *mut PJRT_Client,
}

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
enum CompiledFor {
    Topology(Topology),
    Client(Loaded),
}

/// A program on a client's devices.
struct Loaded {
    raw: *mut PJRT_LoadedExecutable,
    client: Client,
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

/// Checks that `path` can be loaded and offers the interface; starts nothing of it.
///
/// # Errors
/// Every reason for which a file is no plugin; one that crashes takes the process with it.
pub fn check(path: &Path) -> Result<()> {
    open(path).map(drop)
}

/// Loads the library and takes its function table.
fn open(path: &Path) -> Result<PJRT_Api> {
    // SAFETY: loading runs the library's initialisers, which is what the user asked for by naming it;
    // the library is leaked below, so that nothing of it is ever used after an unload.
    let library = unsafe { Library::new(path) }.map_err(load_error)?;
    let library: &'static Library = Box::leak(Box::new(library));
    // SAFETY: the interface defines the symbol's type.
    let entry = unsafe { library.get::<unsafe extern "C" fn() -> *const PJRT_Api>(ENTRY) };
    let entry = entry.map_err(|_| PjrtError::NoPlugin)?;
    // SAFETY: the function takes nothing and returns a table that lives as long as the library, or
    // null.
    let table = unsafe { entry().as_ref() }.ok_or(PjrtError::NoTable)?;
    let version = table.pjrt_api_version;
    if version.major_version as u32 != PJRT_API_MAJOR {
        return Err(PjrtError::Version {
            major: version.major_version,
            minor: version.minor_version,
            expected: PJRT_API_MAJOR,
        });
    }
    Ok(copy_table(table))
}

impl Plugin {
    /// Loads and initialises the plugin at `path`.
    ///
    /// # Errors
    /// As [`check`], and what the plugin says when it cannot start.
    pub fn load(path: &Path) -> Result<Self> {
        let plugin = Self {
            api: Arc::new(Api { table: open(path)? }),
        };
        plugin.initialize()?;
        Ok(plugin)
    }

    fn initialize(&self) -> Result<()> {
        let mut args = PJRT_Plugin_Initialize_Args {
            struct_size: PJRT_Plugin_Initialize_Args_STRUCT_SIZE as usize,
            ..Default::default()
        };
        let function = self.api.table.PJRT_Plugin_Initialize;
        self.api.call("PJRT_Plugin_Initialize", function, &mut args)
    }

    /// The version of the interface that the plugin speaks: (major, minor).
    pub fn api_version(&self) -> (i32, i32) {
        let version = self.api.table.pjrt_api_version;
        (version.major_version, version.minor_version)
    }

    /// The topology that the plugin knows as `name`, for example `v5e:2x4`, with `options` of the
    /// plugin's own.
    pub fn topology(&self, name: &str, options: &[(&str, &str)]) -> Result<Topology> {
        let options: Vec<_> = options.iter().map(named_text).collect();
        let mut args = PJRT_TopologyDescription_Create_Args {
            struct_size: PJRT_TopologyDescription_Create_Args_STRUCT_SIZE as usize,
            topology_name: name.as_ptr().cast(),
            topology_name_size: name.len(),
            create_options: options.as_ptr(),
            num_options: options.len(),
            ..Default::default()
        };
        let function = self.api.table.PJRT_TopologyDescription_Create;
        self.api
            .call("PJRT_TopologyDescription_Create", function, &mut args)?;
        Ok(Topology {
            api: Arc::clone(&self.api),
            raw: args.topology,
        })
    }

    /// Opens the plugin's devices.
    pub fn client(&self) -> Result<Client> {
        let mut args = PJRT_Client_Create_Args {
            struct_size: PJRT_Client_Create_Args_STRUCT_SIZE as usize,
            ..Default::default()
        };
        let function = self.api.table.PJRT_Client_Create;
        self.api.call("PJRT_Client_Create", function, &mut args)?;
        Ok(Client {
            api: Arc::clone(&self.api),
            raw: args.client,
        })
    }
}

impl Topology {
    /// The kind of each device, in the plugin's words, for example `TPU v5 lite`.
    pub fn device_kinds(&self) -> Result<Vec<String>> {
        let mut args = PJRT_TopologyDescription_GetDeviceDescriptions_Args {
            struct_size: PJRT_TopologyDescription_GetDeviceDescriptions_Args_STRUCT_SIZE as usize,
            topology: self.raw,
            ..Default::default()
        };
        let function = self
            .api
            .table
            .PJRT_TopologyDescription_GetDeviceDescriptions;
        self.api.call(
            "PJRT_TopologyDescription_GetDeviceDescriptions",
            function,
            &mut args,
        )?;
        // SAFETY: the plugin returned this array; it lives as long as the topology.
        let descriptions = unsafe { slice_of(args.descriptions, args.num_descriptions) };
        descriptions.iter().map(|&d| self.device_kind(d)).collect()
    }

    fn device_kind(&self, description: *mut PJRT_DeviceDescription) -> Result<String> {
        let mut args = PJRT_DeviceDescription_Kind_Args {
            struct_size: PJRT_DeviceDescription_Kind_Args_STRUCT_SIZE as usize,
            device_description: description,
            ..Default::default()
        };
        let function = self.api.table.PJRT_DeviceDescription_Kind;
        self.api
            .call("PJRT_DeviceDescription_Kind", function, &mut args)?;
        // SAFETY: the plugin returned this text; it lives as long as the description.
        Ok(unsafe { text(args.device_kind, args.device_kind_size) })
    }

    /// Compiles `hlo`, a serialised `HloModuleProto`, with `options`, a serialised
    /// `CompileOptionsProto`.
    pub fn compile(self, hlo: &mut [u8], options: &[u8]) -> Result<Executable> {
        let program = hlo_program(hlo);
        let mut args = PJRT_Compile_Args {
            struct_size: PJRT_Compile_Args_STRUCT_SIZE as usize,
            topology: self.raw,
            program: &program,
            compile_options: options.as_ptr().cast(),
            compile_options_size: options.len(),
            ..Default::default()
        };
        let function = self.api.table.PJRT_Compile;
        self.api.call("PJRT_Compile", function, &mut args)?;
        Ok(Executable {
            api: Arc::clone(&self.api),
            raw: args.executable,
            compiled_for: CompiledFor::Topology(self),
        })
    }
}

impl Client {
    /// Compiles for the client's devices; see [`Topology::compile`].
    pub fn compile(self, hlo: &mut [u8], options: &[u8]) -> Result<Executable> {
        let program = hlo_program(hlo);
        let mut args = PJRT_Client_Compile_Args {
            struct_size: PJRT_Client_Compile_Args_STRUCT_SIZE as usize,
            client: self.raw,
            program: &program,
            compile_options: options.as_ptr().cast(),
            compile_options_size: options.len(),
            ..Default::default()
        };
        let function = self.api.table.PJRT_Client_Compile;
        self.api.call("PJRT_Client_Compile", function, &mut args)?;
        let loaded = Loaded {
            raw: args.executable,
            client: self,
        };

        let mut args = PJRT_LoadedExecutable_GetExecutable_Args {
            struct_size: PJRT_LoadedExecutable_GetExecutable_Args_STRUCT_SIZE as usize,
            loaded_executable: loaded.raw,
            ..Default::default()
        };
        let api = Arc::clone(&loaded.client.api);
        let function = api.table.PJRT_LoadedExecutable_GetExecutable;
        api.call("PJRT_LoadedExecutable_GetExecutable", function, &mut args)?;
        Ok(Executable {
            api,
            raw: args.executable,
            compiled_for: CompiledFor::Client(loaded),
        })
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        let mut args = PJRT_LoadedExecutable_Destroy_Args {
            struct_size: PJRT_LoadedExecutable_Destroy_Args_STRUCT_SIZE as usize,
            executable: self.raw,
            ..Default::default()
        };
        let api = &self.client.api;
        let function = api.table.PJRT_LoadedExecutable_Destroy;
        // A failure to free leaves nobody to tell and nothing to do.
        let _ = api.call("PJRT_LoadedExecutable_Destroy", function, &mut args);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let mut args = PJRT_Client_Destroy_Args {
            struct_size: PJRT_Client_Destroy_Args_STRUCT_SIZE as usize,
            client: self.raw,
            ..Default::default()
        };
        let function = self.api.table.PJRT_Client_Destroy;
        // A failure to free leaves nobody to tell and nothing to do.
        let _ = self.api.call("PJRT_Client_Destroy", function, &mut args);
    }
}

impl Drop for Topology {
    fn drop(&mut self) {
        let mut args = PJRT_TopologyDescription_Destroy_Args {
            struct_size: PJRT_TopologyDescription_Destroy_Args_STRUCT_SIZE as usize,
            topology: self.raw,
            ..Default::default()
        };
        let function = self.api.table.PJRT_TopologyDescription_Destroy;
        // A failure to free leaves nobody to tell and nothing to do.
        let _ = self
            .api
            .call("PJRT_TopologyDescription_Destroy", function, &mut args);
    }
}

impl Executable {
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

impl Api {
    /// Calls `function`, which reads and writes `args`.
    fn call<Args>(
        &self,
        name: &'static str,
        function: Function<Args>,
        args: &mut Args,
    ) -> Result<()> {
        let function = function.ok_or(PjrtError::MissingFunction(name))?;
        // SAFETY: `args` is the struct that the interface pairs with this function (its type says so),
        // its size is set, and every pointer in it is valid for the call.
        let error = unsafe { function(args) };
        if error.is_null() {
            return Ok(());
        }
        let (code, message) = (self.code(error), self.message(error));
        self.free(error);
        let function = name;
        Err(match code {
            Some(code) if code == PJRT_Error_Code_PJRT_Error_Code_UNIMPLEMENTED => {
                PjrtError::Unimplemented { function, message }
            }
            _ => PjrtError::Call { function, message },
        })
    }

    fn code(&self, error: *mut PJRT_Error) -> Option<PJRT_Error_Code> {
        let mut args = PJRT_Error_GetCode_Args {
            struct_size: PJRT_Error_GetCode_Args_STRUCT_SIZE as usize,
            error,
            ..Default::default()
        };
        // SAFETY: the error is live, and the call writes only the code.
        unsafe { self.table.PJRT_Error_GetCode?(&mut args) };
        Some(args.code)
    }

    /// An error's text.
    fn message(&self, error: *mut PJRT_Error) -> String {
        let mut args = PJRT_Error_Message_Args {
            struct_size: PJRT_Error_Message_Args_STRUCT_SIZE as usize,
            error,
            ..Default::default()
        };
        let Some(function) = self.table.PJRT_Error_Message else {
            return "the plugin gives no text for its errors".to_owned();
        };
        // SAFETY: the error is live; the text that the call returns lives as long as the error.
        unsafe {
            function(&mut args);
            text(args.message, args.message_size)
        }
    }

    fn free(&self, error: *mut PJRT_Error) {
        let mut args = PJRT_Error_Destroy_Args {
            struct_size: PJRT_Error_Destroy_Args_STRUCT_SIZE as usize,
            error,
            ..Default::default()
        };
        if let Some(function) = self.table.PJRT_Error_Destroy {
            // SAFETY: the error is live, and nobody names it afterwards.
            unsafe { function(&mut args) };
        }
    }
}

/// `hlo` as the interface takes it; good as long as `hlo` is.
fn hlo_program(hlo: &mut [u8]) -> PJRT_Program {
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

/// A pair of texts as the interface takes it; good as long as both texts are.
fn named_text((name, value): &(&str, &str)) -> PJRT_NamedValue {
    let mut named = PJRT_NamedValue {
        struct_size: PJRT_NamedValue_STRUCT_SIZE as usize,
        name: name.as_ptr().cast(),
        name_size: name.len(),
        type_: PJRT_NamedValue_Type_PJRT_NamedValue_kString,
        value_size: value.len(),
        ..Default::default()
    };
    named.__bindgen_anon_1.string_value = value.as_ptr().cast();
    named
}

/// The plugin's table in our version's form.
fn copy_table(theirs: &PJRT_Api) -> PJRT_Api {
    let mut ours = PJRT_Api::default();
    let size = theirs.struct_size.min(size_of::<PJRT_Api>());
    // SAFETY: the plugin's table has `struct_size` bytes, ours at least `size`. The table is plain
    // numbers and pointers to functions, of which zero means none.
    unsafe {
        ptr::copy_nonoverlapping(
            ptr::from_ref(theirs).cast::<u8>(),
            ptr::from_mut(&mut ours).cast(),
            size,
        );
    }
    ours
}

fn load_error(error: libloading::Error) -> PjrtError {
    let message = match std::error::Error::source(&error) {
        Some(source) => source.to_string(),
        None => error.to_string(),
    };
    PjrtError::Load(message)
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

/// The array of `len` elements at `data`; empty where there is none.
///
/// # Safety
/// `data` points to `len` elements that outlive the result, or `len` is 0.
unsafe fn slice_of<'a, T>(data: *const T, len: usize) -> &'a [T] {
    if data.is_null() || len == 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { slice::from_raw_parts(data, len) }
}

/// A copy of the text of `len` bytes at `data`.
///
/// # Safety
/// `data` points to `len` bytes, or `len` is 0.
unsafe fn text(data: *const c_char, len: usize) -> String {
    // SAFETY: the caller's promise.
    let bytes = unsafe { slice_of(data.cast::<u8>(), len) };
    String::from_utf8_lossy(bytes).into_owned()
}
