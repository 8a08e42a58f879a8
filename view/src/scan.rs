//! Searches for bytes of a kind, many at a time.

/// Long enough that two or four vectors are compared for each branch.
const BLOCK: usize = 64;

/// The first byte that `is` holds for. For a byte 0 it must not hold.
#[inline(always)]
pub(crate) fn find(bytes: &[u8], is: impl Fn(u8) -> bool + Copy) -> Option<usize> {
    let (blocks, rest) = bytes.as_chunks::<BLOCK>();
    for (index, block) in blocks.iter().enumerate() {
        if holds(block, is) {
            return position(block, is).map(|within| index * BLOCK + within);
        }
    }
    if rest.is_empty() {
        return None;
    }
    // The rest once more with what stands before it, or on its own.
    let found = match bytes.last_chunk() {
        Some(last) => holds(last, is),
        None => {
            let mut padded = [0; BLOCK];
            padded[..rest.len()].copy_from_slice(rest);
            holds(&padded, is)
        }
    };
    if !found {
        return None;
    }
    position(rest, is).map(|within| blocks.len() * BLOCK + within)
}

/// Whether `is` holds for one of them. For a byte 0 it must not hold.
#[inline(always)]
pub(crate) fn any(bytes: &[u8], is: impl Fn(u8) -> bool + Copy) -> bool {
    find(bytes, is).is_some()
}

/// Without an early exit, and on its own, so that it becomes vector instructions.
#[inline(never)]
fn holds(block: &[u8; BLOCK], is: impl Fn(u8) -> bool) -> bool {
    block.iter().fold(false, |found, &byte| found | is(byte))
}

#[inline(always)]
fn position(block: &[u8], is: impl Fn(u8) -> bool) -> Option<usize> {
    block.iter().position(|&byte| is(byte))
}
