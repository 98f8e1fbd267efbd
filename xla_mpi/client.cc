// libxla_mpi.so: the CPUs of several processes as the devices of one XLA client, joined by MPI.
//
// A C interface, which src/device/mpi.rs calls. A function that can fail returns null, or a message that the caller
// frees with free(3), as it does with the array of outputs.

#include <mpi.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "collectives.h"
#include "export.h"
#include "xla/hlo/builder/xla_computation.h"
#include "xla/literal.h"
#include "xla/pjrt/pjrt_client.h"
#include "xla/pjrt/pjrt_compiler.h"
#include "xla/pjrt/pjrt_executable.h"
#include "xla/pjrt/plugin/xla_cpu/cpu_client_options.h"
#include "xla/pjrt/plugin/xla_cpu/cpu_topology_description.h"
#include "xla/pjrt/plugin/xla_cpu/xla_cpu_pjrt_client.h"
#include "xla/service/computation_placer.h"
#include "xla/service/hlo.pb.h"
#include "xla/shape_util.h"

namespace {

char* Message(const absl::Status& status) {
  return status.ok() ? nullptr : strdup(std::string(status.message()).c_str());
}

// One device in each of `processes`.
const xla::CpuTopologyDescription& Topology(int processes) {
  std::vector<xla::CpuTopology::CpuDevice> devices;
  for (int process = 0; process < processes; ++process) devices.push_back({process, 0});
  // The client may read it as long as it lives.
  return *new xla::CpuTopologyDescription(xla::CpuId(), xla::CpuName(), /*platform_version=*/"cpu",
                                          std::move(devices), {});
}

}  // namespace

// Joins the processes that the launcher of MPI started together, and says which of how many this is.
XLA_MPI_EXPORT char* xla_mpi_join(int* process, int* processes) {
  int provided = 0;
  absl::Status joined = resnet_xla::MpiStatus(
      MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &provided), "joining the other processes");
  if (!joined.ok()) return Message(joined);
  MPI_Comm_rank(MPI_COMM_WORLD, process);
  MPI_Comm_size(MPI_COMM_WORLD, processes);
  if (provided < MPI_THREAD_SERIALIZED) {
    return strdup("this MPI was built without support for threads, which XLA needs");
  }
  return nullptr;
}

// Fills `all` with the `size` bytes at `own` of every process, in order.
XLA_MPI_EXPORT char* xla_mpi_gather(const char* own, int size, char* all) {
  return Message(resnet_xla::MpiStatus(MPI_Allgather(own, size, MPI_BYTE, all, size, MPI_BYTE, MPI_COMM_WORLD),
                                       "hearing the other processes"));
}

// Waits for all processes.
XLA_MPI_EXPORT void xla_mpi_meet() { MPI_Barrier(MPI_COMM_WORLD); }

// Ends all processes, with this exit code if the launcher passes it on.
XLA_MPI_EXPORT void xla_mpi_abort(int code) { MPI_Abort(MPI_COMM_WORLD, code); }

// How many collectives this process has taken part in, the bytes that it gave, and their nanoseconds.
XLA_MPI_EXPORT void xla_mpi_totals(uint64_t* count, uint64_t* bytes, uint64_t* nanoseconds) {
  const resnet_xla::Totals totals = resnet_xla::TotalsSoFar();
  *count = totals.count;
  *bytes = totals.bytes;
  *nanoseconds = totals.nanoseconds;
}

XLA_MPI_EXPORT char* xla_mpi_open(int process, int processes, xla::PjRtClient** client) {
  xla::CpuClientOptions options;
  options.asynchronous = false;
  options.process_id = process;
  options.cpu_device_count = processes;
  options.collectives = std::make_shared<resnet_xla::MpiCollectives>();
  options.topology = &Topology(processes);
  absl::StatusOr<std::unique_ptr<xla::PjRtClient>> opened = xla::GetXlaPjrtCpuClient(std::move(options));
  if (!opened.ok()) return Message(opened.status());
  *client = opened->release();
  return nullptr;
}

XLA_MPI_EXPORT void xla_mpi_close(xla::PjRtClient* client) { delete client; }

// Compiles a serialised HloModuleProto with a replica in each process.
XLA_MPI_EXPORT char* xla_mpi_compile(xla::PjRtClient* client, const char* hlo, size_t size,
                                     xla::PjRtLoadedExecutable** executable) {
  xla::HloModuleProto module;
  if (!module.ParseFromString(std::string(hlo, size))) return strdup("the program is no HloModuleProto");
  const int replicas = client->device_count();
  xla::DeviceAssignment assignment(replicas, 1);
  for (int replica = 0; replica < replicas; ++replica) {
    assignment(replica, 0) = xla::PackCpuDeviceId(replica, 0).value();
  }
  xla::CompileOptions options;
  options.executable_build_options.set_num_replicas(replicas);
  options.executable_build_options.set_num_partitions(1);
  options.executable_build_options.set_device_assignment(assignment);
  auto compiled = client->CompileAndLoad(xla::XlaComputation(std::move(module)), options);
  if (!compiled.ok()) return Message(compiled.status());
  *executable = compiled->release();
  return nullptr;
}

XLA_MPI_EXPORT void xla_mpi_free_executable(xla::PjRtLoadedExecutable* executable) { delete executable; }

// Copies `data`, of XLA's element type number `type`, to this process's device.
XLA_MPI_EXPORT char* xla_mpi_upload(xla::PjRtClient* client, int type, const int64_t* dims, size_t rank,
                                    const void* data, xla::PjRtBuffer** buffer) {
  auto memory = client->addressable_devices()[0]->default_memory_space();
  if (!memory.ok()) return Message(memory.status());
  auto uploaded = client->BufferFromHostBuffer(
      data, static_cast<xla::PrimitiveType>(type), absl::Span<const int64_t>(dims, rank), std::nullopt,
      xla::PjRtClient::HostBufferSemantics::kImmutableOnlyDuringCall, []() {}, *memory, /*device_layout=*/nullptr);
  if (!uploaded.ok()) return Message(uploaded.status());
  *buffer = uploaded->release();
  return nullptr;
}

XLA_MPI_EXPORT void xla_mpi_free_buffer(xla::PjRtBuffer* buffer) { delete buffer; }

// Runs this process's replica. `*outputs` is an array of `*count` buffers.
XLA_MPI_EXPORT char* xla_mpi_run(xla::PjRtLoadedExecutable* executable, xla::PjRtBuffer* const* inputs, size_t size,
                                 xla::PjRtBuffer*** outputs, size_t* count) {
  xla::ExecuteOptions options;
  options.strict_shape_checking = false;
  std::vector<std::vector<xla::PjRtBuffer*>> arguments = {{inputs, inputs + size}};
  auto results = executable->Execute(arguments, options);
  if (!results.ok()) return Message(results.status());
  auto& own = results->at(0);
  *count = own.size();
  *outputs = static_cast<xla::PjRtBuffer**>(malloc((own.size() + 1) * sizeof(xla::PjRtBuffer*)));
  for (size_t i = 0; i < own.size(); ++i) (*outputs)[i] = own[i].release();
  return nullptr;
}

XLA_MPI_EXPORT char* xla_mpi_wait(xla::PjRtBuffer* buffer) { return Message(buffer->GetReadyFuture().Await()); }

// How many f32 values the buffer has.
XLA_MPI_EXPORT char* xla_mpi_count(xla::PjRtBuffer* buffer, size_t* count) {
  if (buffer->element_type() != xla::PrimitiveType::F32) return strdup("the array's elements are no f32");
  *count = 1;
  for (int64_t dimension : buffer->dimensions()) *count *= dimension;
  return nullptr;
}

// Copies the buffer's `count` f32 values to `values`, row-major.
XLA_MPI_EXPORT char* xla_mpi_read(xla::PjRtBuffer* buffer, float* values, size_t count) {
  absl::StatusOr<xla::Literal> literal =
      xla::Literal::Make(xla::ShapeUtil::MakeShape(xla::PrimitiveType::F32, buffer->dimensions()));
  if (!literal.ok()) return Message(literal.status());
  absl::Status copied = buffer->ToLiteral(&*literal).Await();
  if (!copied.ok()) return Message(copied);
  if (literal->size_bytes() != static_cast<int64_t>(count * sizeof(float))) return strdup("the array has another size");
  std::memcpy(values, literal->untyped_data(), count * sizeof(float));
  return nullptr;
}
