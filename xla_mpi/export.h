#ifndef RESNET_XLA_MPI_EXPORT_H_
#define RESNET_XLA_MPI_EXPORT_H_

// A function that src/device/mpi.rs calls.
#define XLA_MPI_EXPORT extern "C" __attribute__((visibility("default")))

#endif  // RESNET_XLA_MPI_EXPORT_H_
