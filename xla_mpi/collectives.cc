// XLA's CPU collectives over MPI, one device in each process.
//
// Sums are added up here and not by MPI: in the order of the ranks, whatever algorithm an MPI would choose for this
// number of nodes. So the same number of processes gives the same bits, on any machines and under any MPI.

#include "collectives.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <climits>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "xla/core/collectives/rank_id.h"
#include "xla/core/collectives/reduction_kind.h"
#include "xla/future.h"
#include "xla/pjrt/plugin/xla_cpu/cpu_topology.h"
#include "xla/primitive_util.h"
#include "xla/stream_executor/device_address.h"
#include "xla/types.h"
#include "xla/xla_data.pb.h"

namespace resnet_xla {
namespace {

using Address = stream_executor::DeviceAddressBase;
using xla::PrimitiveType;
using xla::ReductionKind;

// Up to this many bytes of all processes together, every process gets everything and adds it up by itself: one exchange
// instead of two, where the time that each takes counts more than the bytes.
constexpr size_t kSmall = 64 << 10;

// XLA calls from any of its threads, and the processes' collectives must come in one order.
std::mutex& Mutex() {
  static std::mutex* mutex = new std::mutex;
  return *mutex;
}

// Guarded by Mutex().
Totals& OwnTotals() {
  static Totals* totals = new Totals;
  return *totals;
}

std::atomic<uint64_t> begun = 0;
std::atomic<uint64_t> ended = 0;

// One collective, while no other is under way: counted and timed.
class Turn {
 public:
  explicit Turn(size_t bytes) : lock_(Mutex()), bytes_(bytes), begin_(std::chrono::steady_clock::now()) { ++begun; }

  ~Turn() {
    ++ended;
    const auto took = std::chrono::steady_clock::now() - begin_;
    OwnTotals().count += 1;
    OwnTotals().bytes += bytes_;
    OwnTotals().nanoseconds += std::chrono::duration_cast<std::chrono::nanoseconds>(took).count();
  }

 private:
  std::lock_guard<std::mutex> lock_;
  size_t bytes_;
  std::chrono::steady_clock::time_point begin_;
};

absl::Status Unsupported(absl::string_view what) {
  return absl::UnimplementedError(absl::StrCat("the MPI library of resnet-xla does not support ", what));
}

// Combines `count` values at `values` into those at `result`.
template <typename T>
absl::Status Combine(ReductionKind kind, const void* values, void* result, size_t count) {
  const T* from = static_cast<const T*>(values);
  T* to = static_cast<T*>(result);
  switch (kind) {
    case ReductionKind::SUM:
      for (size_t i = 0; i < count; ++i) to[i] = static_cast<T>(to[i] + from[i]);
      return absl::OkStatus();
    case ReductionKind::PRODUCT:
      for (size_t i = 0; i < count; ++i) to[i] = static_cast<T>(to[i] * from[i]);
      return absl::OkStatus();
    case ReductionKind::MIN:
      for (size_t i = 0; i < count; ++i) to[i] = std::min(to[i], from[i]);
      return absl::OkStatus();
    case ReductionKind::MAX:
      for (size_t i = 0; i < count; ++i) to[i] = std::max(to[i], from[i]);
      return absl::OkStatus();
    default:
      return Unsupported("this kind of reduction");
  }
}

absl::Status CombineAs(PrimitiveType type, ReductionKind kind, const void* values, void* result, size_t count) {
  switch (type) {
    case PrimitiveType::F32:
      return Combine<float>(kind, values, result, count);
    case PrimitiveType::F64:
      return Combine<double>(kind, values, result, count);
    case PrimitiveType::BF16:
      return Combine<xla::bfloat16>(kind, values, result, count);
    case PrimitiveType::F16:
      return Combine<xla::half>(kind, values, result, count);
    case PrimitiveType::S32:
      return Combine<int32_t>(kind, values, result, count);
    case PrimitiveType::U32:
      return Combine<uint32_t>(kind, values, result, count);
    case PrimitiveType::S64:
      return Combine<int64_t>(kind, values, result, count);
    case PrimitiveType::U64:
      return Combine<uint64_t>(kind, values, result, count);
    default:
      return Unsupported(absl::StrCat("reductions of ", xla::PrimitiveType_Name(type)));
  }
}

// The processes of one communicator of MPI. Every operation is done when its function returns.
class MpiCommunicator : public xla::Communicator {
 public:
  MpiCommunicator(MPI_Comm comm, int rank, int ranks) : comm_(comm), rank_(rank), ranks_(ranks) {}

  xla::Future<> AllReduce(Address send, Address recv, PrimitiveType type, size_t count, ReductionKind kind,
                          const Executor&) override {
    const size_t width = xla::primitive_util::ByteWidth(type);
    Turn turn(count * width);
    if (count * width * ranks_ <= kSmall) return Small(send, recv, type, width, count, kind);
    return Large(send, recv, type, width, count, kind);
  }

  xla::Future<> ReduceScatter(Address send, Address recv, PrimitiveType type, size_t count, ReductionKind kind,
                              const Executor&) override {
    const size_t bytes = count * xla::primitive_util::ByteWidth(type);
    Turn turn(bytes);
    std::vector<char> parts(bytes * ranks_);
    if (absl::Status fits = Fits(parts.size()); !fits.ok()) return fits;
    absl::Status sent = MpiStatus(
        MPI_Alltoall(send.opaque(), bytes, MPI_BYTE, parts.data(), bytes, MPI_BYTE, comm_), "reduce-scatter");
    if (!sent.ok()) return sent;
    return CombineParts(parts, bytes, type, count, kind, recv.opaque());
  }

  xla::Future<> AllGather(Address send, Address recv, PrimitiveType type, size_t count, const Executor&) override {
    const size_t bytes = count * xla::primitive_util::ByteWidth(type);
    Turn turn(bytes);
    if (absl::Status fits = Fits(bytes * ranks_); !fits.ok()) return fits;
    return MpiStatus(MPI_Allgather(send.opaque(), bytes, MPI_BYTE, recv.opaque(), bytes, MPI_BYTE, comm_),
                     "all-gather");
  }

  xla::Future<> Broadcast(Address send, Address recv, PrimitiveType type, size_t count, xla::RankId root,
                          const Executor&) override {
    const size_t bytes = count * xla::primitive_util::ByteWidth(type);
    Turn turn(bytes);
    if (absl::Status fits = Fits(bytes); !fits.ok()) return fits;
    if (rank_ == root.value()) std::memmove(recv.opaque(), send.opaque(), bytes);
    return MpiStatus(MPI_Bcast(recv.opaque(), bytes, MPI_BYTE, root.value(), comm_), "broadcast");
  }

  xla::Future<> AllToAll(absl::InlinedVector<Address, 4> send, absl::InlinedVector<Address, 4> recv,
                         PrimitiveType type, size_t count, const Executor&) override {
    const size_t bytes = count * xla::primitive_util::ByteWidth(type);
    Turn turn(bytes);
    if (absl::Status fits = Fits(bytes); !fits.ok()) return fits;
    std::vector<MPI_Request> requests(2 * ranks_, MPI_REQUEST_NULL);
    for (int rank = 0; rank < ranks_; ++rank) {
      MPI_Irecv(recv[rank].opaque(), bytes, MPI_BYTE, rank, 0, comm_, &requests[2 * rank]);
      MPI_Isend(send[rank].opaque(), bytes, MPI_BYTE, rank, 0, comm_, &requests[2 * rank + 1]);
    }
    return Wait(requests, "all-to-all");
  }

  xla::Future<> CollectivePermute(Address send, Address recv, PrimitiveType type, size_t count,
                                  std::optional<xla::RankId> source, absl::Span<const xla::RankId> targets,
                                  const Executor&) override {
    const size_t bytes = count * xla::primitive_util::ByteWidth(type);
    Turn turn(bytes);
    if (absl::Status fits = Fits(bytes); !fits.ok()) return fits;
    std::vector<MPI_Request> requests;
    if (source.has_value()) {
      MPI_Irecv(recv.opaque(), bytes, MPI_BYTE, source->value(), 0, comm_, &requests.emplace_back(MPI_REQUEST_NULL));
    } else {
      std::memset(recv.opaque(), 0, bytes);
    }
    for (xla::RankId target : targets) {
      MPI_Isend(send.opaque(), bytes, MPI_BYTE, target.value(), 0, comm_, &requests.emplace_back(MPI_REQUEST_NULL));
    }
    return Wait(requests, "permute");
  }

  xla::Future<> Send(Address, PrimitiveType, size_t, xla::RankId, const Executor&) override {
    return Unsupported("send");
  }

  xla::Future<> Recv(Address, PrimitiveType, size_t, xla::RankId, const Executor&) override {
    return Unsupported("receive");
  }

  absl::StatusOr<size_t> NumRanks() const override { return ranks_; }

  std::string ToString() const override { return absl::StrCat("MPI rank ", rank_, " of ", ranks_); }

 private:
  // MPI counts in int.
  static absl::Status Fits(size_t bytes) {
    if (bytes <= INT_MAX) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat("MPI moves at most ", INT_MAX, " bytes at once, asked for ", bytes));
  }

  static absl::Status Wait(std::vector<MPI_Request>& requests, const char* what) {
    return MpiStatus(MPI_Waitall(requests.size(), requests.data(), MPI_STATUSES_IGNORE), what);
  }

  // Combines the ranks' parts, of `bytes` each, in the order of the ranks.
  absl::Status CombineParts(const std::vector<char>& parts, size_t bytes, PrimitiveType type, size_t count,
                            ReductionKind kind, void* result) const {
    std::memcpy(result, parts.data(), bytes);
    for (int rank = 1; rank < ranks_; ++rank) {
      absl::Status combined = CombineAs(type, kind, parts.data() + rank * bytes, result, count);
      if (!combined.ok()) return combined;
    }
    return absl::OkStatus();
  }

  absl::Status Small(Address send, Address recv, PrimitiveType type, size_t width, size_t count, ReductionKind kind) {
    const size_t bytes = count * width;
    std::vector<char> parts(bytes * ranks_);
    absl::Status sent = MpiStatus(
        MPI_Allgather(send.opaque(), bytes, MPI_BYTE, parts.data(), bytes, MPI_BYTE, comm_), "all-reduce");
    if (!sent.ok()) return sent;
    return CombineParts(parts, bytes, type, count, kind, recv.opaque());
  }

  // Each rank adds up one block of the values, then every rank gets all blocks.
  absl::Status Large(Address send, Address recv, PrimitiveType type, size_t width, size_t count, ReductionKind kind) {
    const size_t block = (count + ranks_ - 1) / ranks_;
    if (absl::Status fits = Fits(block * ranks_ * width); !fits.ok()) return fits;
    std::vector<int> sizes(ranks_), places(ranks_);
    for (int rank = 0; rank < ranks_; ++rank) {
      const size_t first = std::min(count, rank * block);
      sizes[rank] = (std::min(count, first + block) - first) * width;
      places[rank] = first * width;
    }
    const int own = sizes[rank_];
    std::vector<int> own_sizes(ranks_, own), own_places(ranks_);
    for (int rank = 0; rank < ranks_; ++rank) own_places[rank] = rank * own;
    std::vector<char> parts(static_cast<size_t>(own) * ranks_);
    absl::Status sent = MpiStatus(
        MPI_Alltoallv(send.opaque(), sizes.data(), places.data(), MPI_BYTE, parts.data(), own_sizes.data(),
                      own_places.data(), MPI_BYTE, comm_),
        "all-reduce");
    if (!sent.ok()) return sent;
    char* result = static_cast<char*>(recv.opaque());
    absl::Status combined = CombineParts(parts, own, type, own / width, kind, result + places[rank_]);
    if (!combined.ok()) return combined;
    return MpiStatus(MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_BYTE, result, sizes.data(), places.data(), MPI_BYTE, comm_),
                     "all-reduce");
  }

  // Never freed: that would wait for all processes, and there are only a few.
  MPI_Comm comm_;
  int rank_;
  int ranks_;
};

// A communicator of MPI for the processes `members`, in this order. Only they take part in making it.
absl::StatusOr<MPI_Comm> CommunicatorOf(const std::vector<int>& members) {
  MPI_Group world, group;
  MPI_Comm comm = MPI_COMM_NULL;
  MPI_Comm_group(MPI_COMM_WORLD, &world);
  MPI_Group_incl(world, members.size(), members.data(), &group);
  const int code = MPI_Comm_create_group(MPI_COMM_WORLD, group, /*tag=*/0, &comm);
  MPI_Group_free(&group);
  MPI_Group_free(&world);
  absl::Status made = MpiStatus(code, "making a communicator");
  if (!made.ok()) return made;
  MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
  return comm;
}

}  // namespace

absl::Status MpiStatus(int code, const char* what) {
  if (code == MPI_SUCCESS) return absl::OkStatus();
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(code, text, &length);
  return absl::UnavailableError(absl::StrCat("MPI, ", what, ": ", std::string(text, length)));
}

Totals TotalsSoFar() {
  std::lock_guard<std::mutex> lock(Mutex());
  return OwnTotals();
}

uint64_t Begun() { return begun; }

bool IsUnderWay() { return begun != ended; }

absl::StatusOr<std::vector<std::unique_ptr<xla::Communicator>>> MpiCollectives::CreateCommunicators(
    const xla::CliqueKey& clique_key, const std::optional<xla::CliqueIds>&, absl::Span<const DeviceRank> ranks,
    const Config&) {
  std::lock_guard<std::mutex> lock(Mutex());
  std::vector<int> members;
  for (xla::GlobalDeviceId device : clique_key.devices()) {
    members.push_back(xla::UnpackCpuProcessIndex(xla::PjRtGlobalDeviceId(device.value())));
  }
  std::vector<int> sorted = members;
  std::sort(sorted.begin(), sorted.end());
  if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end() || ranks.size() != 1) {
    return Unsupported("several devices in one process");
  }
  absl::StatusOr<MPI_Comm> comm = CommunicatorOf(members);
  if (!comm.ok()) return comm.status();
  std::vector<std::unique_ptr<xla::Communicator>> made;
  made.push_back(std::make_unique<MpiCommunicator>(*comm, ranks[0].rank.value(), members.size()));
  return made;
}

}  // namespace resnet_xla
