//! Bounds on one function. The compiler is not linear in the size of a function: what counts are the variables that
//! it has to follow through places where control flow meets, the more so inside loops.

use wasmparser::{
    CompositeInnerType, FuncToValidate, FuncValidatorAllocations, FunctionBody, Operator, OperatorsReader,
    ValidatorResources, WasmModuleResources,
};

use crate::compile_error::{CompileError, invalid};
use crate::instance_reuse::Survey;
use crate::settings::FEATURES;

/// Bytes of one function body. Fuel and deadline are looked at where functions begin and loops turn, so this bounds
/// what runs unobserved.
const BODY_BYTES: u64 = 64 << 10;

/// Locals of one function, parameters included. Some 40,000 abort the compiler.
const LOCALS: u64 = 2_000;

/// Blocks inside one another. A `match` with many arms is as many blocks.
const NESTING: u64 = 2_000;

/// Variables to follow through the blocks of one function, each counted once more for every loop around the block.
/// Release builds of large programs stay below 60,000 and compile in milliseconds; the worst function at the bound
/// takes 3 s of CPU time. Without it, 64 KiB of nested loops take minutes.
const FLOW: u64 = 250_000;

/// Places of one function where the code that the compiler writes branches: its blocks and branches, twice for what
/// becomes several (loops look at fuel and deadline, others look whether to call the host). Compile time grows with
/// their square: as many as this take 1 s of CPU time, 20,000 take half a minute. The largest functions of release
/// builds have 5,000.
const BRANCHES: u64 = 8_000;

/// What a function costs the compiler.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FunctionCost {
    /// Variables to follow through blocks and calls.
    pub(crate) flow: u64,
    /// Places where the compiled code branches.
    pub(crate) branches: u64,
}

/// Validates a function and says what its control flow costs the compiler. The survey sees what it does.
pub(crate) fn check(
    function: FuncToValidate<ValidatorResources>,
    body: &FunctionBody<'_>,
    allocations: FuncValidatorAllocations,
    survey: &mut Survey,
) -> Result<(FunctionCost, FuncValidatorAllocations), CompileError> {
    let index = function.index;
    let too_large =
        |unit, found, limit| CompileError::FunctionTooLarge { function: index, unit, found, limit };

    let bytes = body.range().len() as u64;
    if bytes > BODY_BYTES {
        return Err(too_large("bytes", bytes, BODY_BYTES));
    }
    let mut declared: u64 = 0;
    for group in body.get_locals_reader().map_err(invalid)? {
        declared += u64::from(group.map_err(invalid)?.0);
    }
    let mut validator = function.into_validator(allocations);
    // Before the validator takes them in: it says less about what is wrong with that many.
    let locals = declared + u64::from(validator.len_locals());
    if locals > LOCALS {
        return Err(too_large("locals", locals, LOCALS));
    }

    let mut reader = body.get_binary_reader();
    validator.read_locals(&mut reader).map_err(invalid)?;
    reader.set_features(FEATURES);
    let mut operators = OperatorsReader::new(reader);
    let mut flow = Flow::new(locals);
    while !operators.eof() {
        let (operator, offset) = operators.read_with_offset().map_err(invalid)?;
        flow.count(&operator, u64::from(validator.operand_stack_height()), validator.resources());
        validator.op(offset, &operator).map_err(invalid)?;
        survey.operator(&operator);
        if flow.nesting() > NESTING {
            return Err(too_large("nested blocks", flow.nesting(), NESTING));
        }
        if flow.total > FLOW {
            return Err(too_large("variables times blocks", flow.total, FLOW));
        }
        if flow.branches > BRANCHES {
            return Err(too_large("branches", flow.branches, BRANCHES));
        }
    }
    operators.finish().map_err(invalid)?;
    Ok((FunctionCost { flow: flow.total, branches: flow.branches }, validator.into_allocations()))
}

/// Counts what the compiler has to follow.
struct Flow {
    locals: u64,
    /// For each open block: is it a loop?
    open: Vec<bool>,
    loops: u64,
    total: u64,
    branches: u64,
}

impl Flow {
    fn new(locals: u64) -> Self {
        Self { locals, open: Vec::new(), loops: 0, total: 0, branches: 0 }
    }

    fn nesting(&self) -> u64 {
        self.open.len() as u64
    }

    /// `operands` are the values on the stack: at most those are handed on by a branch or into a block.
    fn count(&mut self, operator: &Operator<'_>, operands: u64, module: &impl WasmModuleResources) {
        match operator {
            Operator::Block { .. } | Operator::If { .. } | Operator::Loop { .. } => {
                let is_loop = matches!(operator, Operator::Loop { .. });
                self.open.push(is_loop);
                self.loops += u64::from(is_loop);
                self.branches += 1 + u64::from(is_loop);
                self.add((1 + self.loops) * (self.locals + operands));
            }
            Operator::End => {
                if self.open.pop() == Some(true) {
                    self.loops -= 1;
                }
                self.add(operands);
            }
            Operator::Else | Operator::Br { .. } | Operator::BrIf { .. } => {
                self.branches += 1;
                self.add(operands);
            }
            Operator::BrTable { targets } => {
                self.branches += 1;
                self.add((1 + u64::from(targets.len())) * operands);
            }
            Operator::Call { function_index } => {
                self.add(module.type_index_of_function(*function_index).map_or(0, |ty| values(module, ty)));
            }
            Operator::CallIndirect { type_index, .. } => {
                self.branches += 2;
                self.add(values(module, *type_index));
            }
            Operator::MemoryGrow { .. }
            | Operator::TableGet { .. }
            | Operator::TableSet { .. }
            | Operator::TableGrow { .. } => self.branches += 2,
            _ => {}
        }
    }

    fn add(&mut self, variables: u64) {
        self.total = self.total.saturating_add(variables);
    }
}

/// Parameters and results of a type of functions; none of a type that is invalid, which the validator will say.
fn values(module: &impl WasmModuleResources, type_index: u32) -> u64 {
    module
        .sub_type_at(type_index)
        .filter(|ty| matches!(ty.composite_type.inner, CompositeInnerType::Func(_)))
        .map_or(0, |ty| (ty.unwrap_func().params().len() + ty.unwrap_func().results().len()) as u64)
}
