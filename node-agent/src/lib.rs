//! Data plane: a reverse proxy that runs WasmRules on every request.
