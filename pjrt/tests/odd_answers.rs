//! Whatever a plugin answers, the result is an error that says what was wrong. `stub_plugin.c` is the plugin.

#[path = "support/stub.rs"]
mod stub;

use std::collections::HashMap;
use std::ffi::{CStr, c_char};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use libloading::Library;
use pjrt::{
    Buffer, Client, Device, KeyValueStore, PjrtError, Plugin, Program, StoreError, StoreErrorKind,
    Value,
};
use tempfile::TempDir;

/// A plugin with one oddity, a macro of `stub_plugin.c`.
struct Stub {
    _folder: TempDir,
    path: PathBuf,
}

impl Stub {
    fn new(oddity: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plugin.so");
        stub::compile(oddity, &path);
        Self {
            _folder: folder,
            path,
        }
    }

    fn plugin(&self) -> Plugin {
        Plugin::load(&self.path).unwrap()
    }

    fn device(&self) -> (Client, Device) {
        let client = self.plugin().client(&[]).unwrap();
        let device = client.addressable_devices().unwrap().remove(0);
        (client, device)
    }
}

fn error<T>(result: Result<T, PjrtError>) -> String {
    result.err().unwrap().to_string()
}

fn upload(stub: &Stub, values: &Arc<Vec<f32>>) -> Result<Buffer, PjrtError> {
    let (client, device) = stub.device();
    client.upload_shared(Arc::clone(values), &[values.len()], &device)
}

#[test]
fn a_function_that_is_missing_is_named() {
    let stub = Stub::new("NONE");
    let (client, device) = stub.device();
    for (error, function) in [
        (error(client.platform_name()), "PJRT_Client_PlatformName"),
        (error(client.devices()), "PJRT_Client_Devices"),
        (
            error(client.load(&[], None)),
            "PJRT_Executable_DeserializeAndLoad",
        ),
        (error(device.kind()), "PJRT_Device_GetDescription"),
        (error(stub.plugin().attributes()), "PJRT_Plugin_Attributes"),
    ] {
        assert_eq!(error, format!("it has no {function}: a newer plugin does"));
    }
    assert!(device.memory().unwrap().is_none());
}

#[test]
fn a_plugin_that_takes_no_handlers_says_so() {
    for oddity in ["NONE", "OLD_FFI"] {
        let stub = Stub::new(oddity);
        // SAFETY: it is never called.
        let result = unsafe {
            let handler = std::ptr::null_mut();
            stub.plugin().register_handler("name", "Host", handler)
        };
        assert_eq!(
            error(result),
            "it has no PJRT_FFI_Register_Handler: a newer plugin does",
            "{oddity}"
        );
    }
}

#[test]
fn a_handler_reaches_the_plugin_under_its_name() {
    let stub = Stub::new("FFI");
    let register = |name: &str| {
        // SAFETY: it is never called.
        unsafe {
            stub.plugin()
                .register_handler(name, "Host", std::ptr::dangling_mut())
        }
    };
    register("known").unwrap();
    let message = error(register("other"));
    assert_eq!(message, "PJRT_FFI_Register_Handler: not that one");
}

#[test]
fn what_a_plugin_need_not_say_is_nothing_where_it_does_not() {
    let stub = Stub::new("NO_ATTRIBUTES");
    let (client, device) = stub.device();
    assert_eq!(client.platform_version().unwrap(), None);
    assert!(device.attributes().unwrap().is_empty());
}

#[test]
fn the_memory_of_a_device_is_what_the_plugin_counts_of_it() {
    let memory = |oddity: &str| Stub::new(oddity).device().1.memory();
    let all = memory("MEMORY=1").unwrap().unwrap();
    assert_eq!(
        (all.in_use, all.peak, all.limit),
        (512 << 20, Some(2 << 30), Some(16 << 30))
    );
    let in_use = memory("MEMORY=2").unwrap().unwrap();
    assert_eq!(
        (in_use.in_use, in_use.peak, in_use.limit),
        (512 << 20, None, None)
    );
    assert_eq!(
        error(memory("MEMORY=3")),
        "PJRT_Device_MemoryStats: not that one"
    );
}

#[test]
fn an_attribute_of_an_unknown_type_is_left_out() {
    let (_client, device) = Stub::new("MEMORY=1").device();
    let place = ("coords".to_owned(), Value::Ints(vec![0, 1]));
    assert_eq!(device.attributes().unwrap(), [place]);
}

#[test]
fn a_table_of_an_older_version_lacks_the_functions_behind_its_end() {
    let stub = Stub::new("SHORT_TABLE");
    let (client, device) = stub.device();
    assert_eq!(
        error(client.upload(&[1f32], &[1], &device)),
        "it has no PJRT_Client_BufferFromHostBuffer: a newer plugin does"
    );
}

#[test]
fn nothing_in_the_place_of_something_is_an_error() {
    assert_eq!(
        error(Stub::new("NO_CLIENT").plugin().client(&[])),
        "PJRT_Client_Create gave no client; expected one from every plugin"
    );
    let client = Stub::new("NULL_DEVICE").plugin().client(&[]).unwrap();
    assert_eq!(
        error(client.addressable_devices()),
        "PJRT_Client_AddressableDevices gave no device; expected one from every plugin"
    );
    assert_eq!(
        error(upload(&Stub::new("NO_BUFFER"), &Arc::new(vec![1.]))),
        "PJRT_Client_BufferFromHostBuffer gave no array; expected one from every plugin"
    );
}

#[test]
fn an_array_of_negative_size_is_not_read() {
    let array = upload(&Stub::new("NONE"), &Arc::new(vec![1.])).unwrap();
    assert_eq!(
        error(array.download::<f32>()),
        "the plugin says that an array has the dimensions [2, -1]"
    );
}

#[test]
fn a_size_that_no_memory_has_is_an_error() {
    let too_large = |function| format!("{function} gave a size that does not fit into memory");
    let stub = Stub::new("ENORMOUS");
    for array in [
        upload(&stub, &Arc::new(vec![1.])),
        upload(&Stub::new("UNCOUNTABLE"), &Arc::new(vec![1.])),
    ] {
        assert_eq!(
            error(array.unwrap().download::<f32>()),
            too_large("PJRT_Buffer_Dimensions")
        );
    }
    let (client, _) = stub.device();
    let program = client.compile(Program::Hlo(&[]), &[]).unwrap();
    assert_eq!(
        error(program.run(&[vec![]])),
        too_large("PJRT_Executable_NumOutputs")
    );
    assert_eq!(
        error(program.executable().unwrap().optimized_program()),
        too_large("PJRT_Executable_OptimizedProgram")
    );
}

#[test]
fn no_event_means_that_there_is_nothing_to_wait_for() {
    let array = upload(&Stub::new("NONE"), &Arc::new(vec![1.])).unwrap();
    let event = array.ready().unwrap();
    assert!(event.is_ready().unwrap());
    event.wait().unwrap();
}

#[test]
fn shared_values_are_kept_until_the_plugin_says_that_it_has_read_them() {
    let stub = Stub::new("NONE");
    let values = Arc::new(vec![1.; 8]);
    drop(upload(&stub, &values).unwrap());
    assert_eq!(Arc::strong_count(&values), 2);
    // SAFETY: it is loaded already, and its function takes and returns nothing.
    unsafe {
        let library = Library::new(&stub.path).unwrap();
        library
            .get::<unsafe extern "C" fn()>(b"FinishUpload")
            .unwrap()();
    }
    assert_eq!(Arc::strong_count(&values), 1);
}

#[test]
fn shared_values_are_kept_for_ever_where_the_plugin_gives_no_event() {
    let values = Arc::new(vec![1.; 8]);
    drop(upload(&Stub::new("NO_READ_EVENT"), &values).unwrap());
    assert_eq!(Arc::strong_count(&values), 2);
}

#[test]
fn a_plugin_that_cannot_say_when_it_has_read_them_gets_no_shared_values() {
    let values = Arc::new(vec![1.]);
    assert_eq!(
        error(upload(&Stub::new("NO_CALLBACK"), &values)),
        "it has no PJRT_Event_OnReady: a newer plugin does"
    );
    assert_eq!(Arc::strong_count(&values), 1);
}

/// What a recording on the stub `oddity` gives, and the calls that its profiler got, a letter each: Create, Start, sTop,
/// collect to a Buffer, Destroy, destroy an Error; a question mark for arguments that are not as the header has them.
fn record(oddity: &str) -> (Result<Vec<u8>, PjrtError>, String) {
    let stub = Stub::new(oddity);
    let recorded = stub
        .plugin()
        .record()
        .and_then(|recording| recording.finish());
    // SAFETY: it is loaded already, and its function takes nothing and returns a text that stays.
    let calls = unsafe {
        let library = Library::new(&stub.path).unwrap();
        let calls = library.get::<unsafe extern "C" fn() -> *const c_char>(b"Calls");
        CStr::from_ptr(calls.unwrap()())
            .to_str()
            .unwrap()
            .to_owned()
    };
    (recorded, calls)
}

#[test]
fn a_recording_is_started_stopped_collected_and_freed() {
    let (recorded, calls) = record("PROFILER=1");
    assert_eq!(recorded.unwrap(), b"\x0a\x03abc");
    assert_eq!(calls, "CSTBBD");
    // A plugin that has the bytes in memory of its own.
    let (recorded, calls) = record("PROFILER=7");
    assert_eq!(recorded.unwrap(), b"\x0a\x03abc");
    assert_eq!(calls, "CSTBD");
}

#[test]
fn a_profiler_that_answers_oddly_gives_an_error() {
    for (oddity, calls, message) in [
        (
            "PROFILER=2",
            "C",
            "PLUGIN_Profiler_Create gave no profiler; expected one from every plugin",
        ),
        (
            "PROFILER=3",
            "CSED",
            "PLUGIN_Profiler_Start: no counters here",
        ),
        (
            "PROFILER=4",
            "CSTBD",
            "PLUGIN_Profiler_CollectData gave a size that does not fit into memory",
        ),
        (
            "PROFILER=5",
            "CSTD",
            "it has no PLUGIN_Profiler_CollectData: a newer plugin does",
        ),
        (
            "PROFILER=6",
            "",
            "it has no extension Profiler: other plugins do",
        ),
    ] {
        let (recorded, called) = record(oddity);
        assert_eq!(error(recorded), message);
        assert_eq!(called, calls, "{oddity}");
    }
    assert_eq!(
        error(Stub::new("NONE").plugin().record()),
        "it has no extension Profiler: other plugins do"
    );
}

#[test]
fn a_list_of_extensions_without_an_end_ends() {
    let extensions = Stub::new("CIRCLE").plugin().extensions();
    assert_eq!(extensions.len(), 100);
    assert_eq!(extensions[0], "Profiler");
    assert!(Stub::new("NONE").plugin().extensions().is_empty());
}

/// A store of one process, in which nothing is waited for.
#[derive(Default)]
struct Map(Mutex<HashMap<Vec<u8>, Vec<u8>>>);

impl KeyValueStore for Map {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.0.lock().unwrap().insert(key.to_vec(), value.to_vec());
        Ok(())
    }

    fn get(&self, key: &[u8], timeout: Duration) -> Result<Vec<u8>, StoreError> {
        let late = |_| StoreError::new(StoreErrorKind::TimedOut, format!("not in {timeout:?}"));
        self.try_get(key).map_err(late)
    }

    fn try_get(&self, key: &[u8]) -> Result<Vec<u8>, StoreError> {
        let missing = || {
            let key = String::from_utf8_lossy(key);
            StoreError::new(StoreErrorKind::NotFound, format!("there is no {key}"))
        };
        self.0.lock().unwrap().get(key).cloned().ok_or_else(missing)
    }
}

/// A store with a fault.
struct Faulty;

impl KeyValueStore for Faulty {
    fn put(&self, _: &[u8], _: &[u8]) -> Result<(), StoreError> {
        panic!("a fault of the test's store")
    }

    fn get(&self, _: &[u8], _: Duration) -> Result<Vec<u8>, StoreError> {
        panic!("a fault of the test's store")
    }

    fn try_get(&self, _: &[u8]) -> Result<Vec<u8>, StoreError> {
        panic!("a fault of the test's store")
    }
}

#[test]
fn a_plugin_puts_values_and_gets_them_and_the_store_stays_as_long_as_the_client() {
    let map = Arc::new(Map::default());
    let store: Arc<dyn KeyValueStore> = map.clone();
    let plugin = Stub::new("KEY_VALUE=1").plugin();
    let client = plugin.client_with_store(&[], store).unwrap();
    let put = map.0.lock().unwrap().get(&b"node/0"[..]).cloned();
    assert_eq!(put.unwrap(), b"a\0value of 0\0");
    let device = client.devices().unwrap();
    drop(client);
    assert_eq!(Arc::strong_count(&map), 2, "the device is the client's");
    drop(device);
    assert_eq!(Arc::strong_count(&map), 1);
}

#[test]
fn what_goes_wrong_in_the_store_is_the_plugins_error() {
    let client = |oddity: &str, store: Arc<dyn KeyValueStore>| {
        error(Stub::new(oddity).plugin().client_with_store(&[], store))
    };
    let map = || Arc::new(Map::default());
    for (oddity, message) in [
        ("KEY_VALUE=2", "code 4: not in 100ms"),
        ("KEY_VALUE=3", "code 5: there is no nobody/puts/this"),
        ("KEY_VALUE=5", "code 13: it has another value"),
        (
            "KEY_VALUE=4",
            "code 13: the plugin asks the key-value store with arguments that have no room for an answer",
        ),
    ] {
        let expected = format!("PJRT_Client_Create: {message}");
        assert_eq!(client(oddity, map()), expected, "{oddity}");
    }
    for oddity in ["KEY_VALUE=1", "KEY_VALUE=2", "KEY_VALUE=3"] {
        assert_eq!(
            client(oddity, Arc::new(Faulty)),
            "PJRT_Client_Create: code 13: the key-value store panicked",
            "{oddity}"
        );
    }
}

#[test]
fn a_plugin_that_made_no_client_may_still_ask_the_store() {
    let map = Arc::new(Map::default());
    let store: Arc<dyn KeyValueStore> = map.clone();
    let plugin = Stub::new("KEY_VALUE=2").plugin();
    error(plugin.client_with_store(&[], store));
    assert_eq!(Arc::strong_count(&map), 2);
}
