//! The path of a request target.

use crate::section_writer::SectionWriter;

pub(crate) fn lay_out(path: &[u8], writer: &mut SectionWriter, _scratch: &mut Vec<u8>) {
    let _ = writer.push_value(path);
    writer.finish();
}
