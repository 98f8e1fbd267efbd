// Preloaded into the program: a disk that stops in the middle of a write. Of the files with HELD_NAME in their paths,
// the first HELD_AFTER are written as ever. Of each behind them, the bytes in front of HELD_AT are written; then the
// file HELD_MARK appears, and the rest follows when it is gone.

#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static long begun;

static int is_meant(int file) {
  const char *name = getenv("HELD_NAME");
  char link[32], path[PATH_MAX] = "";
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  return name != NULL && readlink(link, path, sizeof path - 1) > 0 && strstr(path, name) != NULL;
}

static void hold(void) {
  const char *mark = getenv("HELD_MARK");
  close(open(mark, O_CREAT | O_WRONLY, 0666));
  while (access(mark, F_OK) == 0) usleep(1000);
}

ssize_t write(int file, const void *bytes, size_t count) {
  ssize_t before = 0, behind;
  if (is_meant(file)) {
    long from = lseek(file, 0, SEEK_CUR), at = atol(getenv("HELD_AT"));
    if (from == 0) ++begun;
    if (begun > atol(getenv("HELD_AFTER")) && from <= at && at < from + (long)count) {
      while (before < at - from) {
        ssize_t written = syscall(SYS_write, file, (const char *)bytes + before, at - from - before);
        if (written < 0) return written;
        before += written;
      }
      hold();
    }
  }
  behind = syscall(SYS_write, file, (const char *)bytes + before, count - before);
  return behind < 0 ? behind : before + behind;
}
