//! Looks for bytes of a kind, many at a time.

/// Long enough that several vectors are compared for each branch.
const BLOCK: usize = 64;

/// Where to look for the first byte that `is` holds for: at most 64 bytes before it. For a space it must not hold.
#[inline(always)]
pub(crate) fn near_first(bytes: &[u8], is: impl Fn(u8) -> bool + Copy) -> Option<usize> {
    let (blocks, rest) = bytes.as_chunks::<BLOCK>();
    if let Some(index) = blocks.iter().position(|block| holds(block, is)) {
        return Some(index * BLOCK);
    }
    if rest.is_empty() {
        return None;
    }
    // The rest once more with what stands before it, or on its own.
    let found = match bytes.last_chunk() {
        Some(last) => holds(last, is),
        None => {
            let mut padded = [b' '; BLOCK];
            padded[..rest.len()].copy_from_slice(rest);
            holds(&padded, is)
        }
    };
    found.then_some(blocks.len() * BLOCK)
}

/// Whether `is` holds for one of them. For a space it must not hold.
#[inline(always)]
pub(crate) fn any(bytes: &[u8], is: impl Fn(u8) -> bool + Copy) -> bool {
    near_first(bytes, is).is_some()
}

/// Without an early exit, and on its own, so that it becomes vector instructions.
#[inline(never)]
fn holds(block: &[u8; BLOCK], is: impl Fn(u8) -> bool) -> bool {
    block.iter().fold(false, |found, &byte| found | is(byte))
}
