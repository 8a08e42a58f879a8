//! Where the reads of all connections of a worker land before they are looked at.

use std::cell::RefCell;
use std::rc::Rc;

/// Bytes of one read from a client.
const BYTES: usize = 32 * 1024;

/// One buffer for all connections of a thread, which hold it no longer than it takes to look at what was read.
pub(crate) type Scratch = Rc<RefCell<Box<[u8]>>>;

/// A buffer for a thread.
pub(crate) fn scratch() -> Scratch {
    Rc::new(RefCell::new(vec![0; BYTES].into()))
}
