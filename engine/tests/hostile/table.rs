//! A table of attacks, each with what has to come of it.

use portcullis_engine::detail::DetailError;
use portcullis_engine::{
    CompileError, Engine, InspectError, Inspection, Limits, Module, Phase, Step, Verdict, WorkerInstance,
};

use crate::watchdog::Watchdog;
use crate::{engine, limits, view};

/// What comes of an attack.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is not compiled; the message says this.
    Refused(&'static str),
    /// A verdict, within the budget. Nothing is wrong with it.
    Says(Verdict),
    /// A verdict, whose detail is dropped; the reason says this.
    BadDetail(&'static str),
    /// A trap there; the message says this.
    Trap(Step, &'static str),
    OutOfFuel(Step),
    MemoryLimit(Step),
    /// A pointer out of the memory.
    BadBuffer(Step),
    /// No verdict is that number.
    NoVerdict(i32),
    /// The request does not fit.
    NoRoom,
    CarryTooLarge,
}

/// One attack.
pub(crate) struct Attack {
    name: &'static str,
    wasm: Vec<u8>,
    phase: Phase,
    expected: Outcome,
}

/// An attack in the phase `request`, written as text.
pub(crate) fn attack(name: &'static str, expected: Outcome, wat: &str) -> Attack {
    let wasm = wat::parse_str(wat).unwrap_or_else(|error| panic!("{name}: {error}"));
    binary(name, expected, wasm)
}

/// An attack in bytes.
pub(crate) fn binary(name: &'static str, expected: Outcome, wasm: Vec<u8>) -> Attack {
    Attack { name, wasm, phase: Phase::Request, expected }
}

impl Attack {
    pub(crate) fn in_phase(self, phase: Phase) -> Self {
        Self { phase, ..self }
    }
}

/// Evaluations of each attack: more than the pool has slots, so that one that were lost would be missed.
const TURNS: usize = 6;

/// Makes every attack on one engine, and sees what comes of it.
pub(crate) fn withstand(attacks: Vec<Attack>) {
    let engine = engine();
    let good =
        engine.compile(&wat::parse_str(rule("", "i32.const 1")).unwrap()).expect("a rule that harms nobody");
    let watchdog = Watchdog::new();
    for attack in attacks {
        watchdog.begin(attack.name.into());
        make(&engine, &attack);
        for _ in 0..TURNS {
            let inspection = inspect(&good, Phase::Request).expect("a good rule is served after any attack");
            assert_eq!(inspection.verdict, Verdict::Block, "after {}", attack.name);
        }
    }
}

fn make(engine: &Engine, attack: &Attack) {
    let name = attack.name;
    let module = match engine.compile(&attack.wasm) {
        Ok(module) => module,
        Err(error) => return assert_refused(name, &error, &attack.expected),
    };
    // Whatever it does when it is tried out, it does within its limits.
    let _ = module.probe(&limits());
    for _ in 0..TURNS {
        assert_comes_to(name, &inspect(&module, attack.phase), &attack.expected);
    }
    if module.info().abi == 2 {
        let mut worker = WorkerInstance::new(module.clone());
        let shown = view(module.info().describe.sections());
        for _ in 0..TURNS {
            let result = worker.inspect_view(attack.phase, &shown, b"", &limits());
            assert_comes_to(name, &result, &attack.expected);
        }
    }
}

fn inspect(module: &Module, phase: Phase) -> Result<Inspection, InspectError> {
    if module.info().abi == 1 {
        return module.inspect(b"{\"method\":\"GET\"}", &limits());
    }
    module.inspect_view(phase, &view(module.info().describe.sections()), b"", &limits())
}

fn assert_refused(name: &str, error: &CompileError, expected: &Outcome) {
    let message = error.to_string();
    let Outcome::Refused(says) = expected else {
        panic!("{name}: expected {expected:?}, refused: {message}")
    };
    assert!(message.contains(says), "{name}: expected «{says}» in: {message}");
    assert!(!message.contains(char::is_control) && message.len() < 2_000, "{name}: {message:?}");
}

fn assert_comes_to(name: &str, result: &Result<Inspection, InspectError>, expected: &Outcome) {
    use InspectError as E;
    let budget = limits().budget(1 << 20);
    if let Ok(inspection) = result {
        assert!(inspection.fuel_used <= budget, "{name}: {} fuel of {budget}", inspection.fuel_used);
        assert!(inspection.carry.len() <= 4 << 10 && inspection.log.len() <= 16, "{name}");
    }
    let meets = match (result, expected) {
        (Ok(Inspection { verdict, detail: None | Some(Ok(_)), .. }), Outcome::Says(said)) => verdict == said,
        (Ok(Inspection { detail: Some(Err(error)), .. }), Outcome::BadDetail(says)) => {
            let clean =
                matches!(error, DetailError::Failed(_)) || !error.to_string().contains(char::is_control);
            clean && error.to_string().contains(says)
        }
        (Err(E::Trap { step, trap }), Outcome::Trap(at, says)) => step == at && trap.contains(says),
        (Err(E::OutOfFuel { step, .. }), Outcome::OutOfFuel(at))
        | (Err(E::MemoryLimit { step, .. }), Outcome::MemoryLimit(at))
        | (Err(E::BadBuffer { step, .. }), Outcome::BadBuffer(at)) => step == at,
        (Err(E::InvalidVerdict { result, .. }), Outcome::NoVerdict(number)) => result == number,
        (Err(E::RequestDoesNotFit { .. }), Outcome::NoRoom)
        | (Err(E::CarryTooLarge { .. }), Outcome::CarryTooLarge) => true,
        _ => false,
    };
    assert!(meets, "{name}: expected {expected:?}, got {result:?}");
}

/// A rule of ABI 2 with these further fields and this body of `pc_request`, which has two locals.
pub(crate) fn rule(fields: &str, body: &str) -> String {
    with_buffer("i32.const 1024", fields, body)
}

/// As [`rule`], with a body of `pc_buffer`. Two pages, a table of two, a function that does nothing.
pub(crate) fn with_buffer(buffer: &str, fields: &str, body: &str) -> String {
    format!(
        r#"(module
             {fields}
             (memory (export "memory") 2)
             (func (export "pc_buffer") (param $len i32) (result i32) {buffer})
             (func (export "pc_request") (param $ptr i32) (param $len i32) (result i32)
               (local $a i32) (local $b i64)
               {body}))"#
    )
}

/// A rule of ABI 1 with these further fields and this body.
pub(crate) fn rule_1(fields: &str, body: &str) -> String {
    format!(
        r#"(module
             {fields}
             (memory (export "memory") 1)
             (func (export "inspect_request") (param $ptr i32) (param $len i32) (result i32)
               (local $a i32) (local $b i64)
               {body}))"#
    )
}

/// Adds a custom section.
pub(crate) fn with_section(wat: &str, name: &str, bytes: &[u8]) -> Vec<u8> {
    use wasm_encoder::Encode as _;
    let mut wasm = wat::parse_str(wat).unwrap();
    let mut section = Vec::new();
    name.encode(&mut section);
    section.extend_from_slice(bytes);
    wasm.push(0);
    section.encode(&mut wasm);
    wasm
}

/// The deadline is never what ends an attack here; were fuel not counted somewhere, it would.
#[test]
fn limits_of_the_attacks_leave_time_enough() {
    let Limits { deadline, fuel, .. } = limits();
    assert!(deadline.as_micros() > u128::from(fuel));
}
