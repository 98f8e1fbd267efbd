// Stand-in for MLIR's header of the same name, which the wheel does not carry in usable form.
//
// XLA's public headers name a few MLIR and LLVM types in signatures that this project never calls.
// The stand-ins make those signatures compile and follow three rules:
// - the size is that of the real type, so that arguments by value keep their registers;
// - visibility is hidden, so that nothing of ours takes the place of the real code inside XLA;
// - only what the `xla` crate's glue spells out is declared.
#pragma once

namespace llvm {
class raw_string_ostream;
}

namespace mlir {

class __attribute__((visibility("hidden"))) ModuleOp {
 public:
  void print(llvm::raw_string_ostream&) {}

 private:
  void* state_ = nullptr;
};

}  // namespace mlir
