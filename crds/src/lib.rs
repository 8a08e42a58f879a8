//! The contract between the parts: API types, conditions, bus subjects and messages. No I/O.
