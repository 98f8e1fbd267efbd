// The XLA runtime's CPU as C functions. `lib.rs` declares them, and says what they are for.
//
// A function that can fail returns null, or else what went wrong: a text that `cpu_client_free` frees. Objects that a
// function returns are the caller's, who deletes them before the client.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "xla/hlo/builder/xla_computation.h"
#include "xla/pjrt/pjrt_client.h"
#include "xla/pjrt/pjrt_executable.h"
#include "xla/pjrt/plugin/xla_cpu/xla_cpu_pjrt_client.h"
#include "xla/service/computation_placer.h"
#include "xla/service/hlo.pb.h"
#include "xla/xla_data.pb.h"

namespace {

using Buffer = xla::PjRtBuffer;
using Client = xla::PjRtClient;
using Executable = xla::PjRtLoadedExecutable;

void* Allocate(size_t size) {
  void* memory = std::malloc(size == 0 ? 1 : size);
  if (memory == nullptr) std::abort();
  return memory;
}

// `bytes` and a zero behind them.
char* Copy(absl::string_view bytes) {
  char* copy = static_cast<char*>(Allocate(bytes.size() + 1));
  std::memcpy(copy, bytes.data(), bytes.size());
  copy[bytes.size()] = '\0';
  return copy;
}

char* Message(const absl::Status& status) { return status.ok() ? nullptr : Copy(status.message()); }

// Gives the caller what was made.
template <typename T>
char* Give(absl::StatusOr<std::unique_ptr<T>> made, T** out) {
  if (!made.ok()) return Message(made.status());
  *out = made->release();
  return nullptr;
}

// A replica on each of the client's first devices.
absl::StatusOr<xla::CompileOptions> OptionsFor(const Client& client, size_t replicas) {
  absl::Span<xla::PjRtDevice* const> devices = client.addressable_devices();
  if (replicas < 1 || replicas > devices.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("a program for ", replicas, " devices, where there are ", devices.size()));
  }
  xla::DeviceAssignment assignment(replicas, 1);
  for (size_t replica = 0; replica < replicas; ++replica) assignment(replica, 0) = devices[replica]->id();
  xla::CompileOptions options;
  options.executable_build_options.set_num_replicas(replicas);
  options.executable_build_options.set_num_partitions(1);
  options.executable_build_options.set_device_assignment(assignment);
  return options;
}

}  // namespace

extern "C" {

void cpu_client_free(void* memory) { std::free(memory); }

void cpu_client_close(Client* client) { delete client; }
void cpu_client_delete_executable(Executable* executable) { delete executable; }
void cpu_client_delete_buffer(Buffer* buffer) { delete buffer; }

char* cpu_client_open(Client** out) {
  xla::CpuClientOptions options;
  // A step runs in the call that starts it.
  options.asynchronous = false;
  return Give(xla::GetXlaPjrtCpuClient(std::move(options)), out);
}

size_t cpu_client_devices(const Client* client) { return client->addressable_device_count(); }

char* cpu_client_device_name(const Client* client, size_t device) {
  return Copy(client->addressable_devices()[device]->ToString());
}

char* cpu_client_compile(Client* client, const char* hlo, size_t size, size_t replicas, Executable** out) {
  xla::HloModuleProto proto;
  if (!proto.ParseFromString(std::string(hlo, size))) return Copy("the program is not a HloModuleProto");
  absl::StatusOr<xla::CompileOptions> options = OptionsFor(*client, replicas);
  if (!options.ok()) return Message(options.status());
  return Give(client->CompileAndLoad(xla::XlaComputation(std::move(proto)), *std::move(options)), out);
}

char* cpu_client_load(Client* client, const char* bytes, size_t size, size_t replicas, Executable** out) {
  absl::StatusOr<xla::CompileOptions> options = OptionsFor(*client, replicas);
  if (!options.ok()) return Message(options.status());
  return Give(
      client->LoadSerializedExecutable(absl::string_view(bytes, size), *std::move(options), xla::LoadOptions()), out);
}

char* cpu_client_serialize(const Executable* executable, char** bytes, size_t* size) {
  absl::StatusOr<std::string> serialized = executable->SerializeExecutable();
  if (!serialized.ok()) return Message(serialized.status());
  *bytes = Copy(*serialized);
  *size = serialized->size();
  return nullptr;
}

// `arguments` are `count` for each replica, one replica's behind the other's. So are the outputs, of which there are
// `output_count` for each.
char* cpu_client_run(Executable* executable, Buffer* const* arguments, size_t count, size_t replicas,
                     Buffer*** outputs, size_t* output_count) {
  std::vector<std::vector<Buffer*>> lists;
  for (size_t replica = 0; replica < replicas; ++replica) {
    Buffer* const* list = arguments + replica * count;
    lists.emplace_back(list, list + count);
  }
  xla::ExecuteOptions options;
  options.strict_shape_checking = false;
  absl::StatusOr<std::vector<std::vector<std::unique_ptr<Buffer>>>> results = executable->Execute(lists, options);
  if (!results.ok()) return Message(results.status());
  if (results->size() != replicas) return Copy("a program has outputs of other replicas than it has inputs of");
  *output_count = results->front().size();
  for (const auto& list : *results) {
    if (list.size() != *output_count) return Copy("the replicas of a program have different numbers of outputs");
  }
  *outputs = static_cast<Buffer**>(Allocate(replicas * *output_count * sizeof(Buffer*)));
  Buffer** next = *outputs;
  for (auto& list : *results) {
    for (auto& output : list) *next++ = output.release();
  }
  return nullptr;
}

// `type` is a number of xla::PrimitiveType.
char* cpu_client_upload(Client* client, size_t device, int type, const int64_t* dims, size_t rank, const void* values,
                        Buffer** out) {
  absl::StatusOr<xla::PjRtMemorySpace*> memory = client->addressable_devices()[device]->default_memory_space();
  if (!memory.ok()) return Message(memory.status());
  return Give(client->BufferFromHostBuffer(values, static_cast<xla::PrimitiveType>(type),
                                           absl::Span<const int64_t>(dims, rank), std::nullopt,
                                           Client::HostBufferSemantics::kImmutableOnlyDuringCall, []() {}, *memory,
                                           /*device_layout=*/nullptr),
              out);
}

char* cpu_client_wait(Buffer* buffer) { return Message(buffer->GetReadyFuture().Await()); }

int cpu_client_type(const Buffer* buffer) { return buffer->on_device_shape().element_type(); }

size_t cpu_client_elements(const Buffer* buffer) {
  if (!buffer->on_device_shape().IsArray()) return 0;
  size_t elements = 1;
  for (int64_t dim : buffer->on_device_shape().dimensions()) elements *= dim;
  return elements;
}

// Waits for the array and copies its first `size` bytes.
char* cpu_client_read(Buffer* buffer, void* to, size_t size) {
  return Message(buffer->CopyRawToHost(to, 0, size).Await());
}

}  // extern "C"
