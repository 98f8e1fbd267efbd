// A PJRT plugin that is another one, $REAL_PLUGIN, until its device is lost: at the execution number
// $LOST_AT_EXECUTION, or at the copy to the host number $LOST_AT_READ, both from 1.

#include <dlfcn.h>

#include <atomic>
#include <cstdlib>
#include <cstring>

#include "xla/pjrt/c/pjrt_c_api.h"

struct PJRT_Error {};

namespace {

const PJRT_Api* real = nullptr;
PJRT_Api faulty;
PJRT_Error lost;
std::atomic<long> executions{0};
std::atomic<long> reads{0};

bool Due(std::atomic<long>& count, const char* variable) {
  const char* at = std::getenv(variable);
  long now = ++count;
  return at != nullptr && now >= std::atol(at);
}

PJRT_Error* Execute(PJRT_LoadedExecutable_Execute_Args* args) {
  if (Due(executions, "LOST_AT_EXECUTION")) return &lost;
  return real->PJRT_LoadedExecutable_Execute(args);
}

PJRT_Error* ToHost(PJRT_Buffer_ToHostBuffer_Args* args) {
  if (args->dst != nullptr && Due(reads, "LOST_AT_READ")) return &lost;
  return real->PJRT_Buffer_ToHostBuffer(args);
}

void Destroy(PJRT_Error_Destroy_Args* args) {
  if (args->error != &lost) real->PJRT_Error_Destroy(args);
}

void Message(PJRT_Error_Message_Args* args) {
  if (args->error != &lost) return real->PJRT_Error_Message(args);
  args->message = "the device was lost";
  args->message_size = std::strlen(args->message);
}

PJRT_Error* GetCode(PJRT_Error_GetCode_Args* args) {
  if (args->error != &lost) return real->PJRT_Error_GetCode(args);
  args->code = PJRT_Error_Code_INTERNAL;
  return nullptr;
}

}  // namespace

extern "C" const PJRT_Api* GetPjrtApi() {
  if (real != nullptr) return &faulty;
  void* library = dlopen(std::getenv("REAL_PLUGIN"), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return nullptr;
  auto get = reinterpret_cast<const PJRT_Api* (*)()>(dlsym(library, "GetPjrtApi"));
  real = get();
  // The real table may be longer than the header's: its size says how much of it there is.
  std::memcpy(&faulty, real, real->struct_size < sizeof(faulty) ? real->struct_size : sizeof(faulty));
  faulty.struct_size = sizeof(faulty);
  faulty.PJRT_LoadedExecutable_Execute = Execute;
  faulty.PJRT_Buffer_ToHostBuffer = ToHost;
  faulty.PJRT_Error_Destroy = Destroy;
  faulty.PJRT_Error_Message = Message;
  faulty.PJRT_Error_GetCode = GetCode;
  return &faulty;
}
