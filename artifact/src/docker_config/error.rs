//! Why a docker configuration cannot be used.

use thiserror::Error;

/// Why a docker configuration cannot be used. Secrets never appear in a message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[allow(missing_docs)] // each message says what the variant means
pub enum DockerConfigError {
    #[error("the docker configuration is empty: expected JSON with an \"auths\" object")]
    Empty,
    // Only the position: serde_json's own text quotes a wrong scalar, which may be the password.
    #[error("the docker configuration is not valid JSON of the expected shape, line {line} column {column}")]
    Json { line: usize, column: usize },
    #[error("the docker configuration has no \"auths\" object, found the keys {keys}; {hint}")]
    NoAuths { keys: String, hint: &'static str },
    #[error(
        "the docker configuration's entry \"{entry}\" has an \"auth\" that is not base64 of \"user:password\": {problem}"
    )]
    Auth { entry: String, problem: &'static str },
    #[error(
        "the docker configuration's entry \"{entry}\" has a {what} but no password: use a user name and an access \
         token instead"
    )]
    TokenOnly { entry: String, what: &'static str },
    #[error(
        "the docker configuration leaves the credentials of \"{registry}\" to the helper program \
         \"docker-credential-{helper}\", which is not used here: write the user name and access token themselves, \
         for example with `kubectl create secret docker-registry`"
    )]
    Helper { registry: String, helper: String },
    #[error(
        "the docker configuration's entry \"{entry}\" is incomplete: expected \"auth\", or \"username\" and \"password\""
    )]
    Incomplete { entry: String },
}
