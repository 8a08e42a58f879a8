//! What one evaluation may cost.

use std::time::Duration;

/// Bytes of the input that `fuel` alone pays for; `fuel_per_byte` starts after them.
const BYTES_INCLUDED: u64 = 1024;

/// What one evaluation may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Fuel, about one unit a Wasm instruction, of an evaluation whose input is at most 1 KiB.
    pub fuel: u64,
    /// Fuel added for each byte handed over beyond the first KiB.
    pub fuel_per_byte: u64,
    /// Linear memory in bytes, what the module declares included.
    pub memory_bytes: u64,
    /// CPU time. Looked at every half millisecond, twice at least, so an evaluation may take that much more.
    pub deadline: Duration,
}

impl Limits {
    /// The fuel of an evaluation that is handed `input_bytes`.
    pub fn budget(&self, input_bytes: u64) -> u64 {
        let charged = input_bytes.saturating_sub(BYTES_INCLUDED);
        self.fuel.saturating_add(self.fuel_per_byte.saturating_mul(charged))
    }
}

impl Default for Limits {
    /// The defaults of a WasmRule.
    fn default() -> Self {
        Self { fuel: 100_000, fuel_per_byte: 100, memory_bytes: 4 << 20, deadline: Duration::from_millis(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_follows_the_input_beyond_the_first_kib() {
        let limits = Limits { fuel: 1_000, fuel_per_byte: 3, ..Limits::default() };
        assert_eq!(limits.budget(0), 1_000);
        assert_eq!(limits.budget(1_024), 1_000);
        assert_eq!(limits.budget(1_025), 1_003);
        assert_eq!(limits.budget(u64::MAX), u64::MAX);
    }
}
