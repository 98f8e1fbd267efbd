// Signs of life between the processes, from a thread that does nothing else, over a communicator of their own.

#include <mpi.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "collectives.h"
#include "export.h"

namespace {

MPI_Comm beats = MPI_COMM_NULL;

// A beat that may still be on its way: it says how many collectives the process has come to.
struct Beat {
  uint64_t begun;
  MPI_Request request;
};

// To each process.
std::vector<Beat>& Sent() {
  static std::vector<Beat>* sent = new std::vector<Beat>;
  return *sent;
}

// Receives the beats that are there.
void Hear(uint64_t* heard) {
  MPI_Status from;
  int there = 0;
  while (MPI_Iprobe(MPI_ANY_SOURCE, 0, beats, &there, &from) == MPI_SUCCESS && there) {
    const int process = from.MPI_SOURCE;
    if (MPI_Recv(&heard[process], 1, MPI_UINT64_T, process, 0, beats, MPI_STATUS_IGNORE) != MPI_SUCCESS) return;
  }
}

}  // namespace

// Prepares xla_mpi_beat; every process calls it. `*can` is 0 if the MPI of any of them cannot be called from two threads
// at once, which beats need.
XLA_MPI_EXPORT char* xla_mpi_open_beats(int* can) {
  int level = 0, processes = 0;
  MPI_Query_thread(&level);
  MPI_Comm_size(MPI_COMM_WORLD, &processes);
  const int own = level == MPI_THREAD_MULTIPLE;
  absl::Status agreed = resnet_xla::MpiStatus(MPI_Allreduce(&own, can, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD),
                                              "hearing the other processes");
  if (agreed.ok()) agreed = resnet_xla::MpiStatus(MPI_Comm_dup(MPI_COMM_WORLD, &beats), "making a communicator");
  if (!agreed.ok()) return strdup(std::string(agreed.message()).c_str());
  MPI_Comm_set_errhandler(beats, MPI_ERRORS_RETURN);
  Sent().assign(processes, Beat{0, MPI_REQUEST_NULL});
  return nullptr;
}

// Sends a beat to every other process. Sets heard[i] for each process i of which one has come since, and for this one, to
// one more than the collectives that it has come to; `*waits` to whether this process is in a collective. Waits for
// nothing. A process that cannot be reached is one of which nothing is heard.
XLA_MPI_EXPORT void xla_mpi_beat(uint64_t* heard, int* waits) {
  int own = 0;
  MPI_Comm_rank(beats, &own);
  *waits = resnet_xla::IsUnderWay();
  heard[own] = resnet_xla::Begun() + 1;
  std::vector<Beat>& sent = Sent();
  for (int process = 0; process < static_cast<int>(sent.size()); ++process) {
    Beat& beat = sent[process];
    int gone = 0;
    if (process == own || MPI_Test(&beat.request, &gone, MPI_STATUS_IGNORE) != MPI_SUCCESS || !gone) continue;
    beat.begun = heard[own];
    MPI_Isend(&beat.begun, 1, MPI_UINT64_T, process, 0, beats, &beat.request);
  }
  Hear(heard);
}

// Parts from the other processes, after xla_mpi_meet. No call of MPI may be under way or follow.
XLA_MPI_EXPORT void xla_mpi_part() {
  // Nobody sends beats any more, and some MPIs complain of those that nobody has received.
  MPI_Barrier(MPI_COMM_WORLD);
  if (beats != MPI_COMM_NULL) {
    std::vector<uint64_t> heard(Sent().size());
    Hear(heard.data());
  }
  MPI_Finalize();
}
