//! Joins the data segments that a snapshot leaves. It makes one of every run of bytes that are not zero: thousands,
//! and each instance initialises every one.

use wasm_encoder::{ConstExpr, DataCountSection, DataSection, Module, RawSection, SectionId};
use wasmparser::{BinaryReader, BinaryReaderError, Data, DataKind, DataSectionReader, Operator, Parser};

/// Zeros between two segments that are copied rather than skipped: 20 ns for each segment and 0.18 ns for each byte
/// come to about this many.
const GAP: usize = 128;

/// One segment, or several next to one another.
struct Run {
    address: usize,
    bytes: Vec<u8>,
}

/// Writes a snapshot again with fewer segments. Those that functions refer to are passive and stay as they are.
pub(crate) fn join(wasm: &[u8]) -> Result<Vec<u8>, BinaryReaderError> {
    let mut sections = Vec::new();
    let mut data = None;
    for payload in Parser::new(0).parse_all(wasm) {
        if let Some((id, range)) = payload?.as_section() {
            let content = &wasm[range];
            if id == u8::from(SectionId::Data) {
                data = joined(content)?;
            }
            sections.push(RawSection { id, data: content });
        }
    }
    let Some(data) = data else { return Ok(wasm.to_vec()) };
    let mut module = Module::new();
    for section in &sections {
        if section.id == u8::from(SectionId::Data) {
            module.section(&data);
        } else if section.id == u8::from(SectionId::DataCount) {
            module.section(&DataCountSection { count: data.len() });
        } else {
            module.section(section);
        }
    }
    Ok(module.finish())
}

/// The data section with fewer segments; `None` if it is not a snapshot's and has addresses that are not numbers.
fn joined(content: &[u8]) -> Result<Option<DataSection>, BinaryReaderError> {
    let mut section = DataSection::new();
    let mut run: Option<Run> = None;
    for segment in DataSectionReader::new(BinaryReader::new(content, 0))? {
        let Data { kind, data, .. } = segment?;
        let DataKind::Active { offset_expr, .. } = kind else {
            flush(&mut section, run.take());
            section.passive(data.iter().copied());
            continue;
        };
        let Operator::I32Const { value } = offset_expr.get_operators_reader().read()? else {
            return Ok(None);
        };
        // Wasm has no signs: an address is the same 32 bits either way.
        let address = value.cast_unsigned() as usize;
        match &mut run {
            Some(run) if fits_behind(run, address) => {
                run.bytes.resize(address - run.address, 0);
                run.bytes.extend_from_slice(data);
            }
            _ => {
                flush(&mut section, run.take());
                run = Some(Run { address, bytes: data.to_vec() });
            }
        }
    }
    flush(&mut section, run);
    Ok(Some(section))
}

fn fits_behind(run: &Run, address: usize) -> bool {
    let end = run.address + run.bytes.len();
    (end..=end + GAP).contains(&address)
}

fn flush(section: &mut DataSection, run: Option<Run>) {
    if let Some(Run { address, bytes }) = run {
        // Wasm has no signs: an address is the same 32 bits either way.
        let address = u32::try_from(address).expect("an address of a 32-bit memory").cast_signed();
        section.active(0, &ConstExpr::i32_const(address), bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(wasm: &[u8]) -> Vec<(Option<i32>, Vec<u8>)> {
        let mut found = Vec::new();
        for payload in Parser::new(0).parse_all(wasm) {
            if let wasmparser::Payload::DataSection(section) = payload.unwrap() {
                for segment in section {
                    let segment = segment.unwrap();
                    let address = match segment.kind {
                        DataKind::Passive => None,
                        DataKind::Active { offset_expr, .. } => {
                            match offset_expr.get_operators_reader().read().unwrap() {
                                Operator::I32Const { value } => Some(value),
                                other => panic!("{other:?}"),
                            }
                        }
                    };
                    found.push((address, segment.data.to_vec()));
                }
            }
        }
        found
    }

    fn join_text(wat: &str) -> Vec<(Option<i32>, Vec<u8>)> {
        let joined = join(&wat::parse_str(wat).unwrap()).unwrap();
        wasmparser::validate(&joined).unwrap();
        segments(&joined)
    }

    #[test]
    fn near_segments_become_one_and_far_ones_stay_apart() {
        let found = join_text(
            r#"(module (memory 1) (data (i32.const 10) "ab") (data (i32.const 14) "c") (data (i32.const 4000) "d"))"#,
        );
        assert_eq!(found, [(Some(10), b"ab\0\0c".to_vec()), (Some(4000), b"d".to_vec())]);
    }

    #[test]
    fn segments_that_functions_refer_to_keep_their_index() {
        let found = join_text(
            r#"(module (memory 1) (data "") (data "passive") (data (i32.const 0) "a") (data (i32.const 2) "b")
                 (func (memory.init 1 (i32.const 0) (i32.const 0) (i32.const 7))))"#,
        );
        assert_eq!(found, [(None, Vec::new()), (None, b"passive".to_vec()), (Some(0), b"a\0b".to_vec())]);
    }

    #[test]
    fn a_module_without_data_stays_as_it_is() {
        let wasm = wat::parse_str("(module (memory 1))").unwrap();
        assert_eq!(join(&wasm).unwrap(), wasm);
    }
}
