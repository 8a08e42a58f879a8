//! How many compiled modules a node can hold: the kernel bounds the mappings of a process, not only its memory.

use std::fs;

/// Mappings of a loaded module: its code and its data.
const OF_A_MODULE: usize = 2;
/// Mappings of an instance: its memory, and what divides it from the next one.
const OF_AN_INSTANCE: usize = 2;
/// What the program itself has, generously.
const OF_THE_PROGRAM: usize = 1_000;

/// Fewer than this are worth a warning.
const FEW: usize = 10_000;

/// Says in the log how many modules there is room for.
pub(crate) fn say_room_for_modules(instances: usize) {
    const SETTING: &str = "/proc/sys/vm/max_map_count";
    let Some(limit) = fs::read_to_string(SETTING).ok().and_then(|text| text.trim().parse().ok()) else {
        tracing::debug!("{SETTING} cannot be read");
        return;
    };
    let modules = room_for_modules(limit, instances);
    if modules < FEW {
        tracing::warn!(
            max_map_count = limit,
            modules,
            "there is room for {modules} compiled modules; raise vm.max_map_count on the node for more"
        );
    } else {
        tracing::info!(max_map_count = limit, modules, "there is room for {modules} compiled modules");
    }
}

fn room_for_modules(limit: usize, instances: usize) -> usize {
    limit.saturating_sub(OF_THE_PROGRAM + instances * OF_AN_INSTANCE) / OF_A_MODULE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linux_has_room_for_tens_of_thousands_of_modules_by_default() {
        assert_eq!(room_for_modules(65_530, 264), 32_001);
        assert_eq!(room_for_modules(1_000, 264), 0);
    }
}
