// Stand-in for MLIR's header of the same name; the rules are in mlir/IR/BuiltinOps.h.
#pragma once

namespace mlir {
class DialectRegistry;
}
