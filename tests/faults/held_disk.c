// Preloaded into the program: a disk that does not answer. While the file that HELD_DISK names exists, a sync of the
// thread that writes checkpoints does not return.

#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

int fsync(int file) {
  const char *held = getenv("HELD_DISK");
  char thread[16] = "";
  prctl(PR_GET_NAME, thread);
  while (held != NULL && strcmp(thread, "checkpoints") == 0 && access(held, F_OK) == 0)
    usleep(1000);
  return (int)syscall(SYS_fsync, file);
}
