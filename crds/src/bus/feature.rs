//! What a desired rule or route may ask of an agent.

/// What this version of an agent can do; an envelope may require some of it.
pub const FEATURES: &[&str] = &[
    "abi/1",
    "abi/2",
    CONFIG_FEATURE,
    PER_WORKER_FEATURE,
    CANDIDATE_FEATURE,
    ROUTE_FEATURE,
    MATCH_FEATURE,
    EXPIRY_FEATURE,
    RATE_LIMIT_FEATURE,
    H2C_FEATURE,
];

/// The feature of an agent that configures modules.
pub const CONFIG_FEATURE: &str = "config";
/// The feature of an agent that lets evaluations share an instance.
pub const PER_WORKER_FEATURE: &str = "isolation/PerWorker";
/// The feature of an agent that holds a candidate beside the stable revision of a rule.
pub const CANDIDATE_FEATURE: &str = "candidate";

/// The feature of an agent whose rules judge only the requests that they match.
pub const MATCH_FEATURE: &str = "match";
/// The feature of an agent that keeps to `expiresAt`.
pub const EXPIRY_FEATURE: &str = "expiry";
/// The feature of an agent that carries out `rateLimit`.
pub const RATE_LIMIT_FEATURE: &str = "rate-limit";
/// The feature of an agent that serves routes.
pub const ROUTE_FEATURE: &str = "route";
/// The feature of an agent that speaks HTTP/2 in clear to the backends of routes.
pub const H2C_FEATURE: &str = "route/h2c";
/// The feature of an agent that speaks TLS to the backends of routes that the bus says. There is none yet: how a backend is
/// verified can be said in files only.
pub const BACKEND_TLS_FEATURE: &str = "route/tls";

/// Those of `required` that are not among `supported`.
pub fn missing_features(required: &[String], supported: &[&str]) -> Vec<String> {
    required.iter().filter(|feature| !supported.contains(&feature.as_str())).cloned().collect()
}
