//! The contract between the parts of Portcullis: API types, conditions, bus subjects and messages.
//!
//! No I/O. `operator` and `node-agent` know each other only through this crate.

pub mod bus;
pub mod condition;
mod definition;
mod explain;
pub mod generated;
pub mod hostname;
pub mod module_digest;
pub mod quantity;
mod range;
pub mod rate_limit;
pub mod request_match;
pub mod revision;
pub mod route_key;
pub mod rule_config;
pub mod rule_key;
pub mod status;
pub mod waf_route;
pub mod wasm_rule;

pub use hostname::Hostname;
pub use module_digest::ModuleDigest;
pub use quantity::{ByteSize, Span};
pub use revision::Revision;
pub use route_key::RouteKey;
pub use rule_config::{CanonicalConfig, RuleConfig};
pub use rule_key::RuleKey;
pub use status::WasmRuleStatus;
pub use waf_route::{WafRoute, WafRouteSpec};
pub use wasm_rule::{WasmRule, WasmRuleSpec};

/// API group of every kind.
pub const GROUP: &str = "portcullis.dev";
/// The one served version.
pub const VERSION: &str = "v1alpha1";
