// Stand-in for MLIR's header of the same name; the rules are in mlir/IR/BuiltinOps.h.
#pragma once

namespace mlir {

template <typename OpTy>
class __attribute__((visibility("hidden"))) OwningOpRef {
 public:
  OpTy* operator->() { return &op_; }

 private:
  OpTy op_;
};

}  // namespace mlir
