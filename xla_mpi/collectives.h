// XLA's CPU collectives over MPI, one device in each process.

#ifndef RESNET_XLA_MPI_COLLECTIVES_H_
#define RESNET_XLA_MPI_COLLECTIVES_H_

#include <mpi.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "xla/backends/cpu/collectives/cpu_collectives.h"
#include "xla/core/collectives/clique_key.h"
#include "xla/core/collectives/communicator.h"

namespace resnet_xla {

// The error that an MPI call returned, with `what` it was for.
absl::Status MpiStatus(int code, const char* what);

// The collectives of this process: how many, bytes that it gave, and the time that they took, waiting for the other
// processes included.
struct Totals {
  uint64_t count = 0;
  uint64_t bytes = 0;
  uint64_t nanoseconds = 0;
};

// Of all collectives that have ended.
Totals TotalsSoFar();

// Collectives that this process has come to: every process comes to the same ones.
uint64_t Begun();

// Whether it waits in one of them. It may be the last moment of one that has just ended.
bool IsUnderWay();

class MpiCollectives : public xla::cpu::CpuCollectives {
 public:
  absl::StatusOr<std::vector<std::unique_ptr<xla::Communicator>>> CreateCommunicators(
      const xla::CliqueKey& clique_key, const std::optional<xla::CliqueIds>& clique_ids,
      absl::Span<const DeviceRank> ranks, const Config& config) final;
};

}  // namespace resnet_xla

#endif  // RESNET_XLA_MPI_COLLECTIVES_H_
