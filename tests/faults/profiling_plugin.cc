// A PJRT plugin that is another one, $REAL_PLUGIN, with a profiler. What it records is an XSpace of a device called
// $RECORDED_AS: a line whose name says how often the profiler was started and stopped, with one event, "a step", of 2 ms.

#include <dlfcn.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>

#include "xla/pjrt/c/pjrt_c_api.h"
#include "xla/pjrt/c/pjrt_c_api_profiler_extension.h"

namespace {

PJRT_Api with_profiler;
int profiler, started = 0, stopped = 0;

PLUGIN_Profiler_Error* Create(PLUGIN_Profiler_Create_Args* args) {
  args->profiler = reinterpret_cast<PLUGIN_Profiler*>(&profiler);
  return nullptr;
}

PLUGIN_Profiler_Error* Destroy(PLUGIN_Profiler_Destroy_Args*) { return nullptr; }

PLUGIN_Profiler_Error* Start(PLUGIN_Profiler_Start_Args*) {
  ++started;
  return nullptr;
}

PLUGIN_Profiler_Error* Stop(PLUGIN_Profiler_Stop_Args*) {
  ++stopped;
  return nullptr;
}

// A field of a protocol buffer: a message or a text of less than 128 bytes.
std::string Text(int number, const std::string& value) {
  return std::string{static_cast<char>(number << 3 | 2), static_cast<char>(value.size())} + value;
}

// The same with a number, seven bits in a byte.
std::string Number(int number, uint64_t value) {
  std::string field{static_cast<char>(number << 3)};
  for (; value >= 128; value >>= 7) field += static_cast<char>(value | 128);
  return field + static_cast<char>(value);
}

// As TensorFlow's xplane.proto numbers the fields.
std::string Space() {
  std::string name = "started " + std::to_string(started) + ", stopped " + std::to_string(stopped);
  std::string event = Number(1, 1) + Number(2, 0) + Number(3, 2'000'000'000);
  std::string line = Number(1, 1) + Text(2, name) + Number(3, 1'000'000) + Text(4, event);
  std::string described = Number(1, 1) + Text(2, Number(1, 1) + Text(2, "a step"));
  std::string device = std::string("/device:CUSTOM:") + std::getenv("RECORDED_AS");
  return Text(1, Text(2, device) + Text(3, line) + Text(4, described));
}

PLUGIN_Profiler_Error* Collect(PLUGIN_Profiler_CollectData_Args* args) {
  static std::string space;
  space = Space();
  // As XLA's own plugins do: their memory, with a zero at the end.
  args->buffer = reinterpret_cast<uint8_t*>(space.data());
  args->buffer_size_in_bytes = space.size() + 1;
  return nullptr;
}

PLUGIN_Profiler_Api functions = {PLUGIN_Profiler_Api_STRUCT_SIZE, nullptr, nullptr, nullptr, nullptr,
                                 Create, Destroy, Start, Stop, Collect};
PJRT_Profiler_Extension extension = {
    {PJRT_Profiler_Extension_STRUCT_SIZE, PJRT_Extension_Type_Profiler, nullptr}, &functions, 0};

}  // namespace

extern "C" const PJRT_Api* GetPjrtApi() {
  if (with_profiler.struct_size != 0) return &with_profiler;
  void* library = dlopen(std::getenv("REAL_PLUGIN"), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return nullptr;
  auto get = reinterpret_cast<const PJRT_Api* (*)()>(dlsym(library, "GetPjrtApi"));
  const PJRT_Api* real = get();
  // The real table may be longer than the header's: its size says how much of it there is.
  size_t size = real->struct_size < sizeof(PJRT_Api) ? real->struct_size : sizeof(PJRT_Api);
  std::memcpy(&with_profiler, real, size);
  with_profiler.struct_size = sizeof(PJRT_Api);
  extension.base.next = real->extension_start;
  with_profiler.extension_start = &extension.base;
  return &with_profiler;
}
