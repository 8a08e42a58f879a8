//! How much of a request is laid out, whatever it holds.

/// Entries of one section; what comes after them makes it TRUNCATED.
pub const MAX_ENTRIES: usize = 1000;

/// Bytes that names of `bodyArguments` may take which the body holds once and its view several times: the pointers of
/// JSON leaves, the name of a part at its file name.
pub(crate) const MAX_NAMES: usize = 64 << 10;
