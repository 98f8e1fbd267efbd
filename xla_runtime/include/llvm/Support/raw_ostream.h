// Stand-in for LLVM's header of the same name; the rules are in mlir/IR/BuiltinOps.h.
#pragma once

#include <string>

namespace llvm {

class __attribute__((visibility("hidden"))) raw_string_ostream {
 public:
  explicit raw_string_ostream(std::string&) {}
  void flush() {}
};

}  // namespace llvm
