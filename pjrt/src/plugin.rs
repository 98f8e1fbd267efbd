//! Loading a plugin.

use std::ffi::c_void;
use std::path::{self, Path};
use std::sync::Arc;

use libloading::Library;

use crate::api::{Api, copy_table, given};
use crate::bindings::*;
use crate::client::Client;
use crate::error::{PjrtError, Result};
use crate::extension;
use crate::key_value::{Held, KeyValueStore};
use crate::profiler::Recording;
use crate::topology::Topology;
use crate::value::{self, Value};

/// The symbol that every plugin exports.
const ENTRY: &[u8] = b"GetPjrtApi\0";

/// A plugin, loaded and initialised. It stays loaded as long as the process lives: plugins start
/// threads and cannot be unloaded.
#[derive(Clone)]
pub struct Plugin {
    api: Arc<Api>,
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
    // The system looks for a name without folders in folders of its own.
    let path = path::absolute(path).unwrap_or_else(|_| path.to_owned());
    // SAFETY: loading runs the library's initialisers, which is what the user asked for by naming it;
    // the library is leaked below, so that nothing of it is ever used after an unload.
    let library = unsafe { Library::new(path) }.map_err(load_error)?;
    let library: &'static Library = Box::leak(Box::new(library));
    // SAFETY: the interface defines the symbol's type.
    let entry = unsafe { library.get::<unsafe extern "C" fn() -> *const PJRT_Api>(ENTRY) };
    let entry = entry.map_err(|_| PjrtError::NoPlugin)?;
    // SAFETY: the function takes nothing.
    let table = unsafe { entry() };
    if table.is_null() {
        return Err(PjrtError::NoTable);
    }
    // SAFETY: the interface says that it is a table of the size in it, which lives as long as the library.
    let table = unsafe { copy_table(table) };
    let version = table.pjrt_api_version;
    if version.major_version as u32 != PJRT_API_MAJOR {
        return Err(PjrtError::Version {
            major: version.major_version,
            minor: version.minor_version,
            expected: PJRT_API_MAJOR,
        });
    }
    Ok(table)
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
        let mut args = PJRT_Plugin_Initialize_Args::default();
        self.api.call(&mut args)
    }

    /// The version of the interface that the plugin speaks: (major, minor).
    pub fn api_version(&self) -> (i32, i32) {
        let version = self.api.table.pjrt_api_version;
        (version.major_version, version.minor_version)
    }

    /// The extensions of the interface that the plugin has, by the names of the header.
    pub fn extensions(&self) -> Vec<String> {
        extension::names(&self.api.table)
    }

    /// Records what the plugin's devices do from now on.
    ///
    /// # Errors
    /// A plugin without a profiler; what its profiler says when it cannot start.
    pub fn record(&self) -> Result<Recording> {
        Recording::start(&self.api)
    }

    /// Makes `handler` known to the plugin as `name`, for programs that call it on `platform`, for example `Host`.
    ///
    /// # Errors
    /// [`PjrtError::MissingFunction`] where the plugin takes no handlers; what it says against this one.
    ///
    /// # Safety
    /// `handler` must be the address of an `XLA_FFI_Handler` that stays there as long as the process lives.
    pub unsafe fn register_handler(
        &self,
        name: &str,
        platform: &str,
        handler: *mut c_void,
    ) -> Result<()> {
        const FUNCTION: &str = "PJRT_FFI_Register_Handler";
        let register = extension::handler_registration(&self.api.table);
        let register = register.ok_or(PjrtError::MissingFunction(FUNCTION))?;
        let mut args = PJRT_FFI_Register_Handler_Args {
            struct_size: PJRT_FFI_Register_Handler_Args_STRUCT_SIZE as usize,
            target_name: name.as_ptr().cast(),
            target_name_size: name.len(),
            handler,
            platform_name: platform.as_ptr().cast(),
            platform_name_size: platform.len(),
            traits: 0,
        };
        // SAFETY: the arguments are those of the function, the texts are only read, and the caller vouches for the
        // handler.
        let error = unsafe { register(&mut args) };
        self.api.check(FUNCTION, error)
    }

    /// What the plugin says about itself, for example the versions that it is made of.
    pub fn attributes(&self) -> Result<Vec<(String, Value)>> {
        let mut args = PJRT_Plugin_Attributes_Args::default();
        self.api.call(&mut args)?;
        // SAFETY: the plugin returned this array; it lives as long as the plugin.
        Ok(unsafe { value::read(args.attributes, args.num_attributes) })
    }

    /// The topology that the plugin knows as `name`, for example `v5e:2x4`, with `options` of the
    /// plugin's own.
    pub fn topology(&self, name: &str, options: &[(&str, Value)]) -> Result<Topology> {
        let options = named_all(options);
        let mut args = PJRT_TopologyDescription_Create_Args {
            topology_name: name.as_ptr().cast(),
            topology_name_size: name.len(),
            create_options: options.as_ptr(),
            num_options: options.len(),
            ..Default::default()
        };
        self.api.call(&mut args)?;
        let topology = given::<PJRT_TopologyDescription_Create_Args, _>(args.topology, "topology")?;
        Ok(Topology::new(&self.api, topology))
    }

    /// Opens the plugin's devices, with `options` of the plugin's own.
    pub fn client(&self, options: &[(&str, Value)]) -> Result<Client> {
        self.create(options, None)
    }

    /// [`Self::client`] of several processes: the plugin finds the others through `store`, which stays as long as the
    /// client does.
    pub fn client_with_store(
        &self,
        options: &[(&str, Value)],
        store: Arc<dyn KeyValueStore>,
    ) -> Result<Client> {
        self.create(options, Some(Held::new(store)))
    }

    fn create(&self, options: &[(&str, Value)], store: Option<Arc<Held>>) -> Result<Client> {
        let options = named_all(options);
        let mut args = PJRT_Client_Create_Args {
            create_options: options.as_ptr(),
            num_options: options.len(),
            ..Default::default()
        };
        if let Some(store) = &store {
            store.pass(&mut args);
        }
        let created = self.api.call(&mut args);
        let client =
            created.and_then(|()| given::<PJRT_Client_Create_Args, _>(args.client, "client"));
        if client.is_err() {
            // A thread of the plugin's may still ask it.
            std::mem::forget(store.clone());
        }
        Ok(Client::new(&self.api, client?, store))
    }
}

/// Good as long as `options` are.
fn named_all(options: &[(&str, Value)]) -> Vec<PJRT_NamedValue> {
    let named = |(name, value): &(&str, Value)| value::named(name, value);
    options.iter().map(named).collect()
}

fn load_error(error: libloading::Error) -> PjrtError {
    let message = match std::error::Error::source(&error) {
        Some(source) => source.to_string(),
        None => error.to_string(),
    };
    PjrtError::Load(message)
}
