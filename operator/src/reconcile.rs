//! One rule, step by step. Each step is a file with an error of its own; the type that a step returns is what
//! the next one needs, so no step can be left out:
//! `Accepted` -> `Resolved` -> `Verified` -> `Validated` -> `Published`.

pub(crate) mod accept;
pub(crate) mod advance;
pub(crate) mod aggregate;
pub(crate) mod conditions;
pub(crate) mod dereference;
pub(crate) mod observe;
mod poll;
mod publish;
mod rule_target;
pub(crate) mod status;
mod stop;
pub(crate) mod update_status;
pub(crate) mod validate;
mod verify;
