//! What the host offers a module: `portcullis.log` and `portcullis.match_set` (module ABI 2). Both are paid for in
//! fuel, before anything is done.

use wasmtime::{Caller, Linker, Trap};

use crate::abi2::table::{IMPORT_MODULE, LOG_LINE_BYTES, LOG_LINES, import};
use crate::guest::Guest;
use crate::log_line::{LogLevel, LogLine};

/// Fuel of a line, its bytes apart.
const LOG_FUEL: u64 = 100;
/// Fuel of a search, what the set asks for a byte apart.
const MATCH_FUEL: u64 = 50;

/// What a module may not ask of an import. A trap, as any other that Wasm itself knows: the rule's fault.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Misuse {
    /// A pattern set that there is not.
    #[error("match_set was asked for pattern set {0}, which `portcullis.describe` does not have")]
    NoSuchSet(u32),
    /// The imports work on the memory, which is not theirs before the start function is through.
    #[error("an import was called by the start function; call it in a phase")]
    AtStart,
}

/// The imports of every module.
pub(crate) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    linker.func_wrap(IMPORT_MODULE, import::LOG, log)?;
    linker.func_wrap(IMPORT_MODULE, import::MATCH_SET, match_set)?;
    Ok(linker)
}

fn log(mut caller: Caller<'_, Guest>, level: i32, address: i32, length: i32) -> wasmtime::Result<()> {
    let level = LogLevel::from_number(level).unwrap_or(LogLevel::Error);
    let length = length.cast_unsigned();
    charge(&mut caller, LOG_FUEL + u64::from(length))?;
    let (text, guest) = slice(&mut caller, address.cast_unsigned(), length)?;
    if guest.log.len() < LOG_LINES {
        let text = String::from_utf8_lossy(&text[..text.len().min(LOG_LINE_BYTES)]);
        let text = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        guest.log.push(LogLine { level, text });
    }
    Ok(())
}

fn match_set(mut caller: Caller<'_, Guest>, set: i32, address: i32, length: i32) -> wasmtime::Result<i32> {
    let (set, length) = (set.cast_unsigned(), length.cast_unsigned());
    let fuel = caller.data().patterns.as_ref().and_then(|sets| sets.fuel(set, length.into()));
    let Some(fuel) = fuel else {
        return Err(Misuse::NoSuchSet(set).into());
    };
    charge(&mut caller, MATCH_FUEL.saturating_add(fuel))?;
    let (text, guest) = slice(&mut caller, address.cast_unsigned(), length)?;
    let found = guest.patterns.as_ref().and_then(|sets| sets.find(set, text));
    Ok(found.and_then(|pattern| i32::try_from(pattern).ok()).unwrap_or(-1))
}

/// Takes fuel, or ends the evaluation as running out of it does.
fn charge(caller: &mut Caller<'_, Guest>, fuel: u64) -> wasmtime::Result<()> {
    let left = caller.get_fuel()?.checked_sub(fuel).filter(|left| *left > 0);
    caller.set_fuel(left.unwrap_or(0))?;
    left.map(|_| ()).ok_or_else(|| Trap::OutOfFuel.into())
}

/// Bytes of the module's memory. All arithmetic is in 64 bits, so nothing wraps.
fn slice<'a>(
    caller: &'a mut Caller<'_, Guest>,
    address: u32,
    length: u32,
) -> wasmtime::Result<(&'a [u8], &'a mut Guest)> {
    let Some(memory) = caller.data().memory else {
        return Err(Misuse::AtStart.into());
    };
    let (bytes, guest) = memory.data_and_store_mut(caller);
    let range = u64::from(address)..u64::from(address) + u64::from(length);
    let range = usize::try_from(range.start)?..usize::try_from(range.end)?;
    match bytes.get(range) {
        Some(bytes) => Ok((bytes, guest)),
        None => Err(Trap::MemoryOutOfBounds.into()),
    }
}
