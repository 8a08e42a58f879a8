//! The sandbox: wasmtime host, ABI and limits.
