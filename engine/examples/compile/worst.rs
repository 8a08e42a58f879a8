//! Modules that are within every bound and as dear to compile as their bounds allow, each in its own way.

use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, CustomSection, DataSection, ElementSection, Elements, Encode,
    ExportKind, ExportSection, Function, FunctionSection, GlobalSection, GlobalType, Instruction, MemArg,
    MemorySection, MemoryType, Module, RefType, Section, TableSection, TableType, TypeSection, ValType,
};

/// Bytes of code below the bound of 2 MiB, and of one function below that of 64 KiB.
const CODE: usize = (2 << 20) - (4 << 10);
const BODY: usize = (64 << 10) - 64;

/// Branches of one function, and of all, below the bounds of 8,000 and 200,000.
const FUNCTION_BRANCHES: usize = 7_900;
const BRANCHES: usize = 190_000;

/// Bytes of static data, the most there may be.
const DATA: usize = 1 << 20;

/// A module and what is special about it.
pub(crate) struct Worst {
    pub(crate) name: &'static str,
    pub(crate) wasm: Vec<u8>,
}

/// All of them.
pub(crate) fn modules() -> Vec<Worst> {
    [
        ("indirect calls", straight(&indirect_call(), CODE, DATA)),
        ("calls", straight(&call(), CODE, DATA)),
        ("stores of loads", straight(&store_of_load(), CODE, DATA)),
        ("divisions", straight(&division(), CODE, DATA)),
        ("float arithmetic", straight(&floats(), CODE, DATA)),
        ("vector arithmetic", straight(&vectors(), CODE, DATA)),
        ("bulk copies", straight(&bulk_copy(), CODE, DATA)),
        ("memory.grow", straight(&grow(), CODE, DATA)),
        ("globals", straight(&globals(), CODE, DATA)),
        ("empty loops", straight(&loops(), CODE, DATA)),
        ("empty blocks", straight(&blocks(), CODE * 9 / 10, DATA)),
        ("loops around variables", repeated(&nested_loops(60, 60), 33, DATA)),
        ("variables through branches", repeated(&branches(200, 1_100), 11, DATA)),
        ("branch tables", repeated(&branch_table(1_500, 25), 30, DATA)),
        ("20,000 functions", repeated(&small(), 19_990, DATA)),
    ]
    .into_iter()
    .map(|(name, wasm)| Worst { name, wasm })
    .collect()
}

/// Nothing but calls, in so many bytes of code.
pub(crate) fn calls(code: usize) -> Vec<u8> {
    straight(&call(), code, 0)
}

/// One instruction after the other, in as few functions as hold them.
fn straight(pattern: &[Instruction<'static>], code: usize, data: usize) -> Vec<u8> {
    let length = encoded_length(pattern);
    let branches = pattern.iter().map(branches_of).sum::<usize>().max(1);
    let per_function = (BODY.min(code) / length).clamp(1, FUNCTION_BRANCHES / branches);
    let functions = (code / (per_function * length)).clamp(1, BRANCHES / (per_function * branches));
    let mut body = Function::new([(3, ValType::I32), (2, ValType::F64), (2, ValType::V128)]);
    for _ in 0..per_function {
        for instruction in pattern {
            body.instruction(instruction);
        }
    }
    body.instruction(&Instruction::LocalGet(0)).instruction(&Instruction::End);
    repeated(&body, functions, data)
}

/// How the engine counts them.
fn branches_of(instruction: &Instruction<'_>) -> usize {
    match instruction {
        Instruction::If(_) => 1,
        Instruction::Loop(_) | Instruction::CallIndirect { .. } | Instruction::MemoryGrow(_) => 2,
        _ => 0,
    }
}

fn encoded_length(pattern: &[Instruction<'_>]) -> usize {
    let mut body = Function::new([]);
    let before = body.byte_len();
    for instruction in pattern {
        body.instruction(instruction);
    }
    body.byte_len() - before
}

fn indirect_call() -> Vec<Instruction<'static>> {
    use Instruction::{CallIndirect, LocalGet, LocalSet};
    vec![LocalGet(0), LocalGet(0), CallIndirect { type_index: 0, table_index: 0 }, LocalSet(0)]
}

fn call() -> Vec<Instruction<'static>> {
    vec![Instruction::LocalGet(0), Instruction::Call(0), Instruction::LocalSet(0)]
}

fn store_of_load() -> Vec<Instruction<'static>> {
    let at = MemArg { offset: 8, align: 2, memory_index: 0 };
    use Instruction::{I32Load, I32Store, LocalGet};
    vec![LocalGet(0), LocalGet(1), I32Load(at), I32Store(at)]
}

fn division() -> Vec<Instruction<'static>> {
    use Instruction::{I32DivS, I32RemS, LocalGet, LocalSet};
    vec![LocalGet(0), LocalGet(1), I32DivS, LocalGet(1), I32RemS, LocalSet(0)]
}

fn floats() -> Vec<Instruction<'static>> {
    use Instruction::{F64Add, F64Div, F64Sqrt, I32TruncF64S, LocalGet, LocalSet};
    vec![
        LocalGet(4),
        LocalGet(5),
        F64Div,
        F64Sqrt,
        LocalGet(4),
        F64Add,
        LocalSet(4),
        LocalGet(4),
        I32TruncF64S,
        LocalSet(0),
    ]
}

fn vectors() -> Vec<Instruction<'static>> {
    use Instruction::{F32x4Mul, I8x16Popcnt, I8x16Swizzle, LocalGet, LocalSet};
    vec![LocalGet(6), LocalGet(7), I8x16Swizzle, I8x16Popcnt, LocalGet(6), F32x4Mul, LocalSet(6)]
}

fn bulk_copy() -> Vec<Instruction<'static>> {
    use Instruction::{LocalGet, MemoryCopy};
    vec![LocalGet(0), LocalGet(1), LocalGet(2), MemoryCopy { src_mem: 0, dst_mem: 0 }]
}

fn grow() -> Vec<Instruction<'static>> {
    vec![Instruction::LocalGet(0), Instruction::MemoryGrow(0), Instruction::LocalSet(0)]
}

fn globals() -> Vec<Instruction<'static>> {
    use Instruction::{GlobalGet, GlobalSet, I32Add};
    vec![GlobalGet(0), GlobalGet(1), I32Add, GlobalSet(0)]
}

fn blocks() -> Vec<Instruction<'static>> {
    vec![Instruction::LocalGet(0), Instruction::If(BlockType::Empty), Instruction::End]
}

fn loops() -> Vec<Instruction<'static>> {
    vec![Instruction::Loop(BlockType::Empty), Instruction::End]
}

fn nested_loops(depth: u32, variables: u32) -> Function {
    let mut body = Function::new([(variables, ValType::I64)]);
    for _ in 0..depth {
        body.instruction(&Instruction::Loop(BlockType::Empty));
    }
    for variable in 1..=variables {
        body.instruction(&Instruction::I64Const(i64::from(variable)));
        body.instruction(&Instruction::LocalSet(variable));
        body.instruction(&Instruction::LocalGet(0));
        body.instruction(&Instruction::BrIf(variable % depth));
    }
    for _ in 0..depth {
        body.instruction(&Instruction::End);
    }
    body.instruction(&Instruction::LocalGet(0)).instruction(&Instruction::End);
    body
}

fn branches(variables: u32, count: u32) -> Function {
    let mut body = Function::new([(variables, ValType::I64)]);
    for branch in 0..count {
        let (one, other) = (1 + branch % variables, 1 + (branch + 7) % variables);
        body.instruction(&Instruction::LocalGet(0));
        body.instruction(&Instruction::If(BlockType::Empty));
        body.instruction(&Instruction::LocalGet(other));
        body.instruction(&Instruction::LocalSet(one));
        body.instruction(&Instruction::End);
    }
    body.instruction(&Instruction::LocalGet(0)).instruction(&Instruction::End);
    body
}

fn branch_table(depth: u32, tables: u32) -> Function {
    let mut body = Function::new([]);
    for _ in 0..depth {
        body.instruction(&Instruction::Block(BlockType::Empty));
    }
    let targets: Vec<u32> = (0..depth).collect();
    for _ in 0..tables.min(u32::try_from(BODY).expect("small") / (2 * depth + 16)) {
        body.instruction(&Instruction::LocalGet(0));
        body.instruction(&Instruction::If(BlockType::Empty));
        body.instruction(&Instruction::LocalGet(0));
        body.instruction(&Instruction::BrTable(targets.clone().into(), 0));
        body.instruction(&Instruction::End);
    }
    for _ in 0..depth {
        body.instruction(&Instruction::End);
    }
    body.instruction(&Instruction::LocalGet(0)).instruction(&Instruction::End);
    body
}

fn small() -> Function {
    let mut body = Function::new([]);
    for _ in 0..10 {
        body.instruction(&Instruction::LocalGet(0)).instruction(&Instruction::Call(0));
        body.instruction(&Instruction::Drop);
    }
    body.instruction(&Instruction::LocalGet(0)).instruction(&Instruction::End);
    body
}

/// A rule of ABI 1 that allows everything, with so many more functions of the type (i32) -> i32, and so many bytes of
/// static data.
fn repeated(body: &Function, count: usize, data_bytes: usize) -> Vec<u8> {
    let count = u32::try_from(count).expect("fewer functions than a module may have");
    let mut types = TypeSection::new();
    types.ty().function([ValType::I32], [ValType::I32]);
    types.ty().function([ValType::I32, ValType::I32], [ValType::I32]);
    let (mut functions, mut code) = (FunctionSection::new(), CodeSection::new());
    for _ in 0..count {
        functions.function(0);
        code.function(body);
    }
    functions.function(1);
    let mut allow = Function::new([]);
    allow.instruction(&Instruction::I32Const(0)).instruction(&Instruction::End);
    code.function(&allow);

    let mut tables = TableSection::new();
    let table = TableType {
        element_type: RefType::FUNCREF,
        table64: false,
        minimum: 8,
        maximum: None,
        shared: false,
    };
    tables.table(table);
    let mut memories = MemorySection::new();
    memories.memory(MemoryType {
        minimum: 17,
        maximum: None,
        memory64: false,
        shared: false,
        page_size_log2: None,
    });
    let mut globals = GlobalSection::new();
    for _ in 0..2 {
        let global = GlobalType { val_type: ValType::I32, mutable: true, shared: false };
        globals.global(global, &ConstExpr::i32_const(0));
    }
    let mut exports = ExportSection::new();
    exports.export("memory", ExportKind::Memory, 0).export("inspect_request", ExportKind::Func, count);
    let mut elements = ElementSection::new();
    elements.active(None, &ConstExpr::i32_const(0), Elements::Functions([0].as_slice().into()));
    let mut data = DataSection::new();
    data.active(0, &ConstExpr::i32_const(0), std::iter::repeat_n(b'x', data_bytes));

    let mut module = Module::new();
    module.section(&types).section(&functions).section(&tables).section(&memories).section(&globals);
    module.section(&exports).section(&elements).section(&code).section(&data);
    module.finish()
}

/// A rule with pattern sets, as many patterns in each, of the kind that rules against injections have.
pub(crate) fn pattern_sets(sets: usize, patterns: usize) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let words = ["select", "union", "insert", "script", "onload", "passwd", "eval", "exec"];
    let set = |set: usize| {
        let patterns: Vec<String> = (0..patterns)
            .map(|pattern| {
                let word = words[pattern % words.len()];
                format!(r"(?i){word}{pattern}\s*[(=<]\s*['\x22a-z{set}]+")
            })
            .collect();
        serde_json::json!({ "patterns": patterns })
    };
    let describe = serde_json::json!({ "patternSets": (0..sets).map(set).collect::<Vec<_>>() });
    let mut wasm = wat::parse_str(
        r#"(module (memory (export "memory") 1)
             (func (export "pc_buffer") (param i32) (result i32) i32.const 1024)
             (func (export "pc_request") (param i32 i32) (result i32) i32.const 0))"#,
    )?;
    let section =
        CustomSection { name: "portcullis.describe".into(), data: describe.to_string().into_bytes().into() };
    wasm.push(section.id());
    section.encode(&mut wasm);
    Ok(wasm)
}
