//! What is said of a module.

use serde::Serialize;

use crate::digest::Digest;

/// A version of the contract between rule and host (abi.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Abi {
    /// `memory` and `inspect_request(i32, i32) -> i32`.
    #[serde(rename = "1")]
    V1,
    /// `memory`, `pc_buffer(i32) -> i32`, `pc_configure(i32, i32) -> i32`, `pc_request(i32, i32) -> i32`.
    #[serde(rename = "2")]
    V2,
}

/// An export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Export {
    /// As exported.
    pub name: String,
    /// Kind and type: `func (i32, i32) -> i32`, `memory`.
    pub kind: String,
}

/// An import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Import {
    /// The module part of its name.
    pub module: String,
    /// The field part of its name.
    pub name: String,
    /// Kind and type, as for [`Export`].
    pub kind: String,
}

/// The first linear memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// Pages of 64 KiB that an instance starts with.
    pub min_pages: u64,
    /// Pages it may grow to; `None` leaves it to the host.
    pub max_pages: Option<u64>,
}

/// A custom section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CustomSection {
    /// As in the module.
    pub name: String,
    /// Bytes of its content.
    pub size: u64,
}

/// What a module is. The names in it are text of whoever built it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ModuleSummary {
    /// Of the whole module: the same as the layer's digest in a registry.
    pub digest: Digest,
    /// Bytes of the whole module.
    pub size: u64,
    /// The versions of the contract it implements; the host prefers the last.
    pub abi: Vec<Abi>,
    /// In the module's order.
    pub exports: Vec<Export>,
    /// In the module's order.
    pub imports: Vec<Import>,
    /// `None` when it neither defines nor imports one.
    pub memory: Option<Memory>,
    /// Bytes of the stack that the linker reserved, if it is of the LLVM family.
    pub stack: Option<u64>,
    /// Functions defined, imports not counted.
    pub functions: u32,
    /// Bytes of the code section.
    pub code_size: u64,
    /// Bytes of the data section.
    pub data_size: u64,
    /// Whether a start function runs before each request (each request gets a fresh instance).
    pub has_start: bool,
    /// In the module's order.
    pub custom_sections: Vec<CustomSection>,
    /// Tools that made it, `processed-by: rustc 1.95.0`, as its `producers` section says.
    pub producers: Vec<String>,
    /// Why no host can run it as a rule; empty when one can.
    pub problems: Vec<String>,
    /// What would make it smaller or faster.
    pub advice: Vec<String>,
}
