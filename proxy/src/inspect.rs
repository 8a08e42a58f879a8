//! Runs the rules on one request, in order, and says what is to be done with it.

#[cfg(test)]
mod allocations;
mod budget;
mod decide;
mod evaluation;
mod input;
mod inspection;
mod inspector;
mod rule_log;
mod sample;
mod skip_reason;
mod stop;
#[cfg(test)]
mod tests;
mod worker_instances;

#[cfg(test)]
pub(crate) use input::Input;
pub(crate) use input::Subject;
pub(crate) use inspection::Inspection;
pub(crate) use inspector::Inspector;
pub(crate) use stop::{BlockReason, InspectedBody, Stop, WholeBody};
pub(crate) use worker_instances::WorkerInstances;
