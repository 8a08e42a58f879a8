//! WafRoutes: who may serve what, what nodes are told, and what a route's status says. No I/O.

pub(crate) mod conditions;
pub(crate) mod grants;
pub(crate) mod plan;
pub(crate) mod state;
pub(crate) mod target;
