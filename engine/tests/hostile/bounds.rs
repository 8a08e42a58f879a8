//! Attacks on the compiler, and on what an instance costs before any of it is charged: small modules that would take
//! minutes, gigabytes, or milliseconds of every request.

use portcullis_engine::{Step, Verdict};
use wasm_encoder::{
    CodeSection, ConstExpr, DataSection, ElementSection, Elements, ExportKind, ExportSection, Function,
    FunctionSection, MemorySection, MemoryType, Module, RefType, TableSection, TableType, TypeSection,
    ValType,
};

use crate::table::Outcome::{self, Refused, Says, Trap};
use crate::table::{Attack, attack, binary, rule, withstand};

const ALLOW: Outcome = Says(Verdict::Allow);

/// A rule of ABI 1 with a second function: `before`, then `step` so many times, then `after`.
struct Repeated<'a> {
    types: &'a [(usize, usize)],
    locals: &'a [(u32, ValType)],
    before: &'a [u8],
    step: (&'a [u8], usize),
    after: &'a [u8],
    functions: usize,
}

impl Default for Repeated<'_> {
    fn default() -> Self {
        Self { types: &[(1, 1)], locals: &[], before: b"", step: (b"", 0), after: b"", functions: 1 }
    }
}

impl Repeated<'_> {
    /// Function 0 is `inspect_request`, 1 has the first of `types` and traps; the others have the type `() -> ()`.
    fn wasm(&self) -> Vec<u8> {
        let mut types = TypeSection::new();
        types.ty().function([ValType::I32; 2], [ValType::I32]);
        types.ty().function([], []);
        for &(params, results) in self.types {
            types.ty().function(vec![ValType::I32; params], vec![ValType::I32; results]);
        }
        let mut functions = FunctionSection::new();
        functions.function(0).function(2);
        let mut code = CodeSection::new();
        let mut inspect = Function::new([]);
        inspect.instructions().i32_const(0).end();
        code.function(&inspect);
        let mut traps = Function::new([]);
        traps.instructions().unreachable().end();
        code.function(&traps);
        let mut body = Vec::new();
        body.extend_from_slice(self.before);
        body.extend_from_slice(&self.step.0.repeat(self.step.1));
        body.extend_from_slice(self.after);
        let mut function = Function::new(self.locals.iter().copied());
        function.raw(body);
        function.instructions().end();
        for _ in 0..self.functions {
            functions.function(1);
            code.function(&function);
        }
        let mut tables = TableSection::new();
        tables.table(TableType {
            element_type: RefType::FUNCREF,
            table64: false,
            minimum: 10,
            maximum: None,
            shared: false,
        });
        let mut module = Module::new();
        module
            .section(&types)
            .section(&functions)
            .section(&tables)
            .section(&memory())
            .section(&exported(&[]));
        module.section(&code);
        module.finish()
    }
}

fn memory() -> MemorySection {
    let mut memories = MemorySection::new();
    memories.memory(MemoryType {
        minimum: 1,
        maximum: None,
        memory64: false,
        shared: false,
        page_size_log2: None,
    });
    memories
}

/// What ABI 1 asks for, and the memory under more names.
fn exported(more: &[&str]) -> ExportSection {
    let mut exports = ExportSection::new();
    exports.export("memory", ExportKind::Memory, 0).export("inspect_request", ExportKind::Func, 0);
    for name in more {
        exports.export(name, ExportKind::Memory, 0);
    }
    exports
}

fn repeated(name: &'static str, expected: Outcome, module: &Repeated<'_>) -> Attack {
    binary(name, expected, module.wasm())
}

#[test]
fn small_functions_that_would_take_the_compiler_minutes() {
    let i32_0: &[u8] = b"\x41\x00";
    let drop: &[u8] = b"\x1a";
    let branches = |name, before, step, count| {
        let module = Repeated {
            before,
            step: (step, count),
            after: if before == i32_0 { drop } else { b"" },
            ..Repeated::default()
        };
        repeated(name, Refused("branches"), &module)
    };
    withstand(vec![
        branches("32,000 times memory.grow", i32_0, b"\x40\x00", 32_000),
        branches("21,000 loops, one after the other", b"", b"\x03\x40\x0b", 21_000),
        branches("13,000 conditions", b"", b"\x41\x00\x04\x40\x0b", 13_000),
        branches("21,000 looks into a table", i32_0, b"\x25\x00\xd1", 21_000),
        branches("13,000 calls through the table", b"", b"\x41\x00\x11\x01\x00", 13_000),
        branches("8,000 times table.grow", b"", b"\xd0\x70\x41\x00\xfc\x0f\x00\x1a", 8_000),
        repeated(
            "branches in many functions",
            Refused("branches"),
            &Repeated { step: (b"\x03\x40\x0b", 3_900), functions: 30, ..Repeated::default() },
        ),
        repeated(
            "calls that hand on all there is",
            Refused("variables times blocks"),
            &Repeated {
                types: &[(90, 90)],
                before: &i32_0.repeat(90),
                step: (b"\x10\x01", 3_000),
                after: &drop.repeat(90),
                ..Repeated::default()
            },
        ),
        repeated(
            "1,000 parameters",
            Refused("parameters of a function"),
            &Repeated { types: &[(1_000, 1)], ..Repeated::default() },
        ),
        repeated(
            "1,000 results",
            Refused("results of a function"),
            &Repeated { types: &[(1, 1_000)], ..Repeated::default() },
        ),
        repeated(
            "100 parameters and results in 4,000 functions",
            ALLOW,
            &Repeated { types: &[(100, 100)], functions: 4_000, ..Repeated::default() },
        ),
        repeated(
            "2,000 locals in 1,000 functions",
            ALLOW,
            &Repeated { locals: &[(2_000, ValType::V128)], functions: 1_000, ..Repeated::default() },
        ),
        repeated(
            "2,001 locals",
            Refused("locals"),
            &Repeated { locals: &[(2_001, ValType::I64)], ..Repeated::default() },
        ),
        repeated(
            "50,001 locals",
            Refused("locals"),
            &Repeated { locals: &[(50_001, ValType::I64)], ..Repeated::default() },
        ),
        repeated(
            "4 billion locals, twice",
            Refused("locals"),
            &Repeated {
                locals: &[(u32::MAX, ValType::I64), (u32::MAX, ValType::I64)],
                ..Repeated::default()
            },
        ),
        repeated(
            "20,001 functions",
            Refused("functions"),
            &Repeated { functions: 20_000, ..Repeated::default() },
        ),
    ]);
}

#[test]
fn what_every_instance_would_pay() {
    let passive = |segments: usize, elements: usize| {
        let mut section = ElementSection::new();
        for _ in 0..segments {
            section.passive(Elements::Functions(vec![0; elements].into()));
        }
        with(&exported(&[]), &section, &DataSection::new())
    };
    let data = |segments: usize, bytes: usize| {
        let mut section = DataSection::new();
        for _ in 0..segments {
            section.active(0, &ConstExpr::i32_const(0), vec![b'x'; bytes]);
        }
        with(&exported(&[]), &ElementSection::new(), &section)
    };
    withstand(vec![
        binary(
            "a passive segment of 100,000 elements",
            Refused("elements of passive segments"),
            passive(1, 100_000),
        ),
        binary("20,000 passive segments", Refused("elements of passive segments"), passive(20_000, 1)),
        binary("25,000 segments of data", Refused("segments of static data"), data(25_000, 1)),
        binary(
            "1 MiB of data over and over the same place",
            Refused("bytes of static data"),
            data(33, 32 << 10),
        ),
        binary("as much data as there may be", ALLOW, data(32, 32 << 10)),
        attack(
            "a memory of 4 GiB",
            Refused("memory starts with at most"),
            &rule("", "i32.const 0").replace("\"memory\") 2)", "\"memory\") 65536)"),
        ),
        attack(
            "a memory above the rule's limit",
            Outcome::MemoryLimit(Step::Start),
            &rule("", "i32.const 0").replace("\"memory\") 2)", "\"memory\") 65)"),
        ),
        attack(
            "a table of 10,001 elements",
            Refused("elements of the table"),
            &rule("(table 10001 funcref)", "i32.const 0"),
        ),
        attack(
            "a table of 4 billion elements",
            Refused("elements of the table"),
            &rule("(table 4294967295 funcref)", "i32.const 0"),
        ),
        attack(
            "1,001 globals",
            Refused("globals"),
            &rule(&"(global i32 (i32.const 0))".repeat(1_001), "i32.const 0"),
        ),
        attack(
            "an initialiser of 50,000 steps",
            Refused("bytes of global initialisers"),
            &rule(
                &format!("(global i32 (i32.const 0) {})", "(i32.add (i32.const 1))".repeat(50_000)),
                "i32.const 0",
            ),
        ),
    ]);
}

/// A rule of ABI 1 with these sections.
fn with(exports: &ExportSection, elements: &ElementSection, data: &DataSection) -> Vec<u8> {
    let mut types = TypeSection::new();
    types.ty().function([ValType::I32; 2], [ValType::I32]);
    let mut functions = FunctionSection::new();
    functions.function(0);
    let mut inspect = Function::new([]);
    inspect.instructions().i32_const(0).end();
    let mut code = CodeSection::new();
    code.function(&inspect);
    let mut module = Module::new();
    module.section(&types).section(&functions).section(&memory()).section(exports).section(elements);
    module.section(&code).section(data);
    module.finish()
}

#[test]
fn exports() {
    let alias = |extra: &str| {
        format!(
            r#"(module (memory (export "memory") (export "memory 2") 2)
                 (func $run (param i32 i32) (result i32) i32.const 0)
                 (func $buffer (param i32) (result i32) i32.const 1024)
                 (export "pc_buffer" (func $buffer)) (export "pc_request" (func $run))
                 (export "pc_hook" (func $run)) (export "pc_configure" (func $run)) {extra})"#
        )
    };
    withstand(vec![
        attack("one function under many names", ALLOW, &alias("(export \"inspect_request\" (func $run))")),
        attack(
            "a memory that is a function",
            Refused("the memory"),
            &rule("", "i32.const 0").replace("(memory (export \"memory\") 2)", "(func (export \"memory\"))"),
        ),
        attack(
            "no memory",
            Refused("exports `memory`"),
            &rule("", "i32.const 0").replace("(memory (export \"memory\") 2)", "(memory 2)"),
        ),
        attack(
            "a phase that is a global",
            Refused("a global"),
            &alias("(global (export \"pc_response\") i32 (i32.const 0))"),
        ),
        attack(
            "a detail of another type",
            Refused("pc_detail"),
            &alias("(export \"pc_detail\" (func $run))"),
        ),
        attack(
            "a carry of another type",
            Refused("pc_carry"),
            &alias("(func (export \"pc_carry\") (result i32) i32.const 0)"),
        ),
        attack("no buffer", Refused("pc_buffer"), &rule("", "i32.const 0").replace("pc_buffer", "other")),
        attack(
            "names of escapes",
            Refused("exports `inspect_request`"),
            "(module (memory (export \"memory\") 1) (func (export \"\\1b[31m\\0a\")))",
        ),
        binary(
            "one name twice",
            Refused("duplicate export"),
            with(&exported(&["\u{1b}[31m\n"; 2]), &ElementSection::new(), &DataSection::new()),
        ),
        attack(
            "1,001 exports",
            Refused("exports"),
            &alias(&(0..1_001).map(|n| format!("(export \"e{n}\" (func $run))")).collect::<String>()),
        ),
        attack(
            "a start that is exported as a phase",
            Trap(Step::Start, "unreachable"),
            &alias("(func $s unreachable) (start $s) (export \"s\" (func $s))"),
        ),
    ]);
}
