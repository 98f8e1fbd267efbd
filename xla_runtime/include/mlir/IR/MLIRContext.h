// Stand-in for MLIR's header of the same name, which the wheel does not carry in usable form.
// See mlir/IR/BuiltinOps.h beside this file for the rules all the stand-ins follow.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace mlir {

// Only the `xla` crate's StableHLO printing makes a context. It cannot work on these stand-ins,
// so it ends here, before anything that needs a real context is reached.
class __attribute__((visibility("hidden"))) MLIRContext {
 public:
  MLIRContext() {
    std::fputs(
        "StableHLO is not available: this XLA runtime was assembled without MLIR. "
        "Print HLO text instead.\n",
        stderr);
    std::abort();
  }

 private:
  void* impl_ = nullptr;
};

}  // namespace mlir
