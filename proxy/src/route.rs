//! Which route takes a request: by host name, path, method and headers, most specific first, as the Gateway API has it.
//! A look-up costs the same whatever the number of routes.

mod canonical;
mod hosts;
mod matches;
mod paths;
mod scope;
mod table;

pub(crate) use canonical::has_ambiguous_slash;
pub(crate) use matches::Unmet;
pub(crate) use scope::{Scope, can_include};
pub(crate) use table::{Found, Place, RouteTable};
