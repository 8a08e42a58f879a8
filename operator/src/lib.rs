//! Control plane: resolves, verifies and distributes WasmRules.
