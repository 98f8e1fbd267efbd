// libxla_shim.so: the plugin registry that the `xla` crate calls and the TensorFlow libraries keep to themselves.
//
// The wheel's libraries export all of XLA that the crate needs except `pjrt::PjrtApi`, `LoadPjrtPlugin`,
// `IsPjrtPluginInitialized` and `InitializePjrtPlugin`. They do export `xla::GetCApiClient`, but it looks up plugins
// in their own hidden registry, so it is defined here once more, over the registry below.

#include <dlfcn.h>

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "xla/pjrt/c/pjrt_c_api.h"
#include "xla/pjrt/c_api_client/pjrt_c_api_client.h"
#include "xla/pjrt/pjrt_api.h"

namespace {

struct Plugin {
  const PJRT_Api* api;
  bool initialized;
};

// Plugins by device type in lower case, for the life of the process. `mutex` guards `plugins`.
struct Registry {
  std::mutex mutex;
  std::map<std::string, Plugin> plugins;
};

Registry& GetRegistry() {
  static Registry* registry = new Registry;
  return *registry;
}

absl::Status NotLoaded(absl::string_view device_type) {
  return absl::NotFoundError(absl::StrCat("no PJRT plugin is loaded for device type '", device_type, "'"));
}

// Turns a plugin's error into a status with `context` in front, and frees the error. PJRT error codes are absl's.
absl::Status ToStatus(const PJRT_Api* api, PJRT_Error* error, absl::string_view context) {
  if (error == nullptr) return absl::OkStatus();

  PJRT_Error_GetCode_Args code{};
  code.struct_size = PJRT_Error_GetCode_Args_STRUCT_SIZE;
  code.error = error;
  api->PJRT_Error_GetCode(&code);

  PJRT_Error_Message_Args message{};
  message.struct_size = PJRT_Error_Message_Args_STRUCT_SIZE;
  message.error = error;
  api->PJRT_Error_Message(&message);
  absl::Status status(static_cast<absl::StatusCode>(code.code),
                      absl::StrCat(context, absl::string_view(message.message, message.message_size)));

  PJRT_Error_Destroy_Args destroy{};
  destroy.struct_size = PJRT_Error_Destroy_Args_STRUCT_SIZE;
  destroy.error = error;
  api->PJRT_Error_Destroy(&destroy);
  return status;
}

// Opens the plugin and returns its function table. The library stays loaded: plugins do not support unloading.
absl::StatusOr<const PJRT_Api*> OpenPlugin(const std::string& path) {
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    return absl::NotFoundError(absl::StrCat("cannot load PJRT plugin ", path, ": ", dlerror()));
  }
  auto get_api = reinterpret_cast<const PJRT_Api* (*)()>(dlsym(library, "GetPjrtApi"));
  if (get_api == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is not a PJRT plugin: ", dlerror()));
  }
  const PJRT_Api* api = get_api();
  if (api == nullptr) {
    return absl::InternalError(absl::StrCat("PJRT plugin ", path, ": GetPjrtApi returned no function table"));
  }
  if (api->pjrt_api_version.major_version != PJRT_API_MAJOR) {
    return absl::FailedPreconditionError(absl::StrCat(
        "PJRT plugin ", path, " speaks PJRT C API ", api->pjrt_api_version.major_version, ".",
        api->pjrt_api_version.minor_version, ", this runtime speaks ", PJRT_API_MAJOR, ".", PJRT_API_MINOR,
        ": the major versions must be equal"));
  }
  return api;
}

}  // namespace

#define XLA_SHIM_EXPORT __attribute__((visibility("default")))

namespace pjrt {

XLA_SHIM_EXPORT absl::StatusOr<const PJRT_Api*> PjrtApi(absl::string_view device_type) {
  Registry& registry = GetRegistry();
  std::lock_guard<std::mutex> lock(registry.mutex);
  auto plugin = registry.plugins.find(absl::AsciiStrToLower(device_type));
  if (plugin == registry.plugins.end()) return NotLoaded(device_type);
  return plugin->second.api;
}

XLA_SHIM_EXPORT absl::StatusOr<const PJRT_Api*> LoadPjrtPlugin(absl::string_view device_type,
                                                               absl::string_view library_path) {
  Registry& registry = GetRegistry();
  std::lock_guard<std::mutex> lock(registry.mutex);
  std::string key = absl::AsciiStrToLower(device_type);
  if (registry.plugins.count(key) != 0) {
    return absl::AlreadyExistsError(
        absl::StrCat("a PJRT plugin is already loaded for device type '", device_type, "'"));
  }
  absl::StatusOr<const PJRT_Api*> api = OpenPlugin(std::string(library_path));
  if (api.ok()) registry.plugins.emplace(std::move(key), Plugin{*api, /*initialized=*/false});
  return api;
}

XLA_SHIM_EXPORT absl::StatusOr<bool> IsPjrtPluginInitialized(absl::string_view device_type) {
  Registry& registry = GetRegistry();
  std::lock_guard<std::mutex> lock(registry.mutex);
  auto plugin = registry.plugins.find(absl::AsciiStrToLower(device_type));
  if (plugin == registry.plugins.end()) return NotLoaded(device_type);
  return plugin->second.initialized;
}

XLA_SHIM_EXPORT absl::Status InitializePjrtPlugin(absl::string_view device_type) {
  Registry& registry = GetRegistry();
  std::lock_guard<std::mutex> lock(registry.mutex);
  auto plugin = registry.plugins.find(absl::AsciiStrToLower(device_type));
  if (plugin == registry.plugins.end()) return NotLoaded(device_type);
  if (plugin->second.initialized) return absl::OkStatus();

  PJRT_Plugin_Initialize_Args args{};
  args.struct_size = PJRT_Plugin_Initialize_Args_STRUCT_SIZE;
  const PJRT_Api* api = plugin->second.api;
  absl::Status status = ToStatus(api, api->PJRT_Plugin_Initialize(&args),
                                 absl::StrCat("cannot initialize the PJRT plugin for '", device_type, "': "));
  plugin->second.initialized = status.ok();
  return status;
}

}  // namespace pjrt

namespace xla {

XLA_SHIM_EXPORT absl::StatusOr<std::unique_ptr<PjRtClient>> GetCApiClient(
    absl::string_view device_type, const absl::flat_hash_map<std::string, PjRtValueType>& create_options,
    std::shared_ptr<KeyValueStoreInterface> kv_store) {
  absl::StatusOr<const PJRT_Api*> api = pjrt::PjrtApi(device_type);
  if (!api.ok()) return api.status();
  return WrapClientAroundCApi(*api, create_options, std::move(kv_store));
}

}  // namespace xla
