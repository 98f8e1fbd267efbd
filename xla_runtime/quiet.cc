// libxla_quiet.so: lets the TensorFlow libraries start without log lines.
//
// They log to stderr while they are being loaded, before `main` and before any variable or flag of theirs is read. This
// library is linked with `-z initfirst`, so it runs before them and leaves only warnings and errors on. The `xla`
// crate's `set_min_log_level` can turn the rest on again. It is apart from the shim because a library that runs first
// must need nothing that is yet to be initialised, such as the C++ streams.

#include "absl/base/log_severity.h"
#include "absl/log/globals.h"

__attribute__((constructor)) static void StartQuietly() { absl::SetMinLogLevel(absl::LogSeverityAtLeast::kWarning); }
