//! Makes a rule of any module: replaces its exports by those of the ABI, each a new function that calls the module's
//! own with what it was given.

use std::ops::Range;

use wasm_encoder::{
    CodeSection, Encode as _, ExportKind, ExportSection, Function, FunctionSection, HeapType, Instruction,
    MemArg, Module, RawSection, TypeSection, ValType,
};
use wasmparser::{Parser, Payload, ValType as Type};

const TYPES: u8 = 1;
const FUNCTIONS: u8 = 3;
const EXPORTS: u8 = 7;
const CODE: u8 = 10;

/// How the functions of a rule are called.
#[derive(Clone, Copy)]
enum Signature {
    /// `(i32, i32) -> i32`, a verdict.
    Phase,
    /// `(i32) -> i32`, an address.
    Buffer,
    /// `() -> i64`, address and length.
    Bytes,
}

const RULE_1: &[(&str, Signature)] = &[("inspect_request", Signature::Phase), ("alloc", Signature::Buffer)];
const RULE_2: &[(&str, Signature)] = &[
    ("pc_buffer", Signature::Buffer),
    ("pc_request", Signature::Phase),
    ("pc_response", Signature::Phase),
    ("pc_hook", Signature::Phase),
    ("pc_configure", Signature::Phase),
    ("pc_describe", Signature::Bytes),
    ("pc_detail", Signature::Bytes),
    ("pc_carry", Signature::Bytes),
];

/// A rule of ABI 1 or 2 out of a module with functions and a memory and without imports. `None` if it is another. Of
/// what ABI 2 leaves to the rule it has two functions, which ones `seed` says.
pub(crate) fn as_rule(wasm: &[u8], abi: u16, seed: u64) -> Option<Vec<u8>> {
    let found = Found::in_module(wasm)?;
    let signatures: Vec<(&str, Signature)> = if abi == 1 {
        RULE_1.to_vec()
    } else {
        let optional = RULE_2[2..].iter().cycle().skip(usize::try_from(seed % 6).ok()?).step_by(2).take(2);
        RULE_2[..2].iter().chain(optional).copied().collect()
    };
    let (mut types, mut functions, mut exports, mut code) =
        (TypeSection::new(), FunctionSection::new(), ExportSection::new(), CodeSection::new());
    exports.export("memory", ExportKind::Memory, 0);
    let first_type = u32::try_from(found.types.len()).ok()?;
    let first_function = u32::try_from(found.functions.len()).ok()?;
    for (index, (name, signature)) in (0_u32..).zip(&signatures) {
        match signature {
            Signature::Phase => types.ty().function([ValType::I32; 2], [ValType::I32]),
            Signature::Buffer => types.ty().function([ValType::I32], [ValType::I32]),
            Signature::Bytes => types.ty().function([], [ValType::I64]),
        }
        functions.function(first_type + index);
        exports.export(name, ExportKind::Func, first_function + index);
        code.function(&found.body(*signature, index));
    }
    Some(found.rebuilt(
        wasm,
        &[(TYPES, bytes(&types)), (FUNCTIONS, bytes(&functions)), (CODE, bytes(&code))],
        &exports,
    ))
}

/// What a module has.
#[derive(Default)]
struct Found {
    types: Vec<(Vec<Type>, Vec<Type>)>,
    /// Of each function, its type.
    functions: Vec<u32>,
    sections: Vec<(u8, Range<usize>)>,
}

impl Found {
    fn in_module(wasm: &[u8]) -> Option<Self> {
        let (mut found, mut memories) = (Self::default(), 0);
        for payload in Parser::new(0).parse_all(wasm) {
            let payload = payload.ok()?;
            match &payload {
                Payload::TypeSection(section) => {
                    for ty in section.clone().into_iter_err_on_gc_types() {
                        let ty = ty.ok()?;
                        found.types.push((ty.params().to_vec(), ty.results().to_vec()));
                    }
                }
                Payload::ImportSection(section) if section.count() > 0 => return None,
                Payload::FunctionSection(section) => {
                    found.functions = section.clone().into_iter().collect::<Result<_, _>>().ok()?;
                }
                Payload::MemorySection(section) => memories = section.count(),
                _ => {}
            }
            found.sections.extend(payload.as_section());
        }
        (memories == 1 && !found.functions.is_empty()).then_some(found)
    }

    /// Calls every third function of the module, and makes of what they return what the rule has to return.
    fn body(&self, signature: Signature, turn: u32) -> Function {
        let (parameters, mixed) = match signature {
            Signature::Phase => (2, 2),
            Signature::Buffer => (1, 1),
            Signature::Bytes => (0, 0),
        };
        let mut body = Function::new([(1, ValType::I32)]);
        for (index, ty) in (0_u32..).zip(&self.functions).filter(|(index, _)| index % 3 == turn % 3) {
            let (params, results) = &self.types[*ty as usize];
            for param in params {
                argument(&mut body, *param, parameters);
            }
            body.instruction(&Instruction::Call(index));
            for result in results.iter().rev() {
                if *result == Type::I32 {
                    body.instructions().local_get(mixed).i32_xor().local_set(mixed);
                } else {
                    body.instructions().drop();
                }
            }
        }
        let anywhere = MemArg { offset: 0, align: 0, memory_index: 0 };
        let mut code = body.instructions();
        code.local_get(mixed);
        match signature {
            Signature::Phase => code.i32_const(7).i32_and(),
            // Some of these are in the memory, none is 0.
            Signature::Buffer => code.i32_const(0x1_ffff).i32_and().i32_const(8).i32_or(),
            Signature::Bytes => {
                code.i32_const(0xfff).i32_and().i64_load(anywhere).i64_const(0x1_ffff_0000_1fff).i64_and()
            }
        };
        code.end();
        body
    }

    /// The module with these entries behind those of its own sections, and other exports.
    fn rebuilt(&self, wasm: &[u8], more: &[(u8, Vec<u8>)], exports: &ExportSection) -> Vec<u8> {
        let mut module = Module::new();
        let mut exported = false;
        for (id, range) in self.sections.iter().filter(|(id, _)| *id != EXPORTS) {
            if !exported && (8..=12).contains(id) {
                module.section(exports);
                exported = true;
            }
            let own = &wasm[range.clone()];
            let joined = more.iter().find(|(section, _)| section == id).map(|(_, more)| join(own, more));
            module.section(&RawSection { id: *id, data: joined.as_deref().unwrap_or(own) });
        }
        module.finish()
    }
}

/// What a function is given: what the host gave, or nothing.
fn argument(body: &mut Function, ty: Type, parameters: u32) {
    let mut code = body.instructions();
    let number = |code: &mut wasm_encoder::InstructionSink<'_>| {
        if parameters > 0 {
            code.local_get(0)
        } else {
            code.i32_const(17)
        };
    };
    match ty {
        Type::I32 => number(&mut code),
        Type::I64 => {
            number(&mut code);
            code.i64_extend_i32_u();
        }
        Type::F32 => {
            code.f32_const(1.5.into());
        }
        Type::F64 => {
            code.f64_const(f64::NAN.into());
        }
        Type::V128 => {
            number(&mut code);
            code.i32x4_splat();
        }
        Type::Ref(reference) if reference.is_func_ref() => {
            code.ref_null(HeapType::FUNC);
        }
        Type::Ref(_) => {
            code.ref_null(HeapType::EXTERN);
        }
    }
}

/// Bytes of a section without its length: count and entries.
fn bytes(section: &impl wasm_encoder::Encode) -> Vec<u8> {
    let mut encoded = Vec::new();
    section.encode(&mut encoded);
    let (_, length) = number(&encoded);
    encoded.split_off(length)
}

/// The entries of two sections in one.
fn join(first: &[u8], second: &[u8]) -> Vec<u8> {
    let ((first_count, first_from), (second_count, second_from)) = (number(first), number(second));
    let mut joined = Vec::new();
    (first_count + second_count).encode(&mut joined);
    joined.extend_from_slice(&first[first_from..]);
    joined.extend_from_slice(&second[second_from..]);
    joined
}

/// An unsigned LEB128 number, and where it ends.
fn number(bytes: &[u8]) -> (u32, usize) {
    let mut value = 0;
    for (index, byte) in (0..).zip(bytes) {
        value |= u32::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return (value, index + 1);
        }
    }
    panic!("a number without an end");
}
