// Preloaded into a program: a file system that lacks something. FLOCK_ERROR is the error number of each lock,
// FOLDER_SYNC_ERROR that of each sync of a folder, FILE_SYNC_ERROR that of each sync of a file.

#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int fails(const char *variable) {
  const char *number = getenv(variable);
  if (number == NULL) return 0;
  errno = atoi(number);
  return 1;
}

int flock(int file, int operation) {
  if (fails("FLOCK_ERROR")) return -1;
  return (int)syscall(SYS_flock, file, operation);
}

int fsync(int file) {
  struct stat status;
  int is_folder = fstat(file, &status) == 0 && S_ISDIR(status.st_mode);
  if (fails(is_folder ? "FOLDER_SYNC_ERROR" : "FILE_SYNC_ERROR")) return -1;
  return (int)syscall(SYS_fsync, file);
}
