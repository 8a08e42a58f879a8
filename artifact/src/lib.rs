//! OCI artifacts: push and pull by tag and digest, pull secrets, module inspection.
//!
//! A pull is three steps, each with its own error: [`Registry::resolve`] turns a tag into a manifest digest,
//! [`Registry::pull`] turns the digest into checked bytes, [`inspect`](inspect()) says what a module is
//! without running it. Sizes are held against a limit before a download, digests after it, and every error
//! names what was found.
//!
//! Everything a registry sends is untrusted. Absent still: refusing redirects and token services at
//! link-local, loopback or cluster addresses, signatures, and other layouts than our own (see
//! [`UnsupportedArtifact`]).

mod access;
mod answerer;
mod auth;
mod content;
mod credentials;
mod digest;
mod docker_config;
mod error_body;
mod inspect;
mod manifest;
mod outage;
mod pull;
mod push;
mod reason;
mod reference;
mod registry;
mod resolve;
mod session;
#[cfg(feature = "testing")]
pub mod testing;
mod transport;
mod untrusted;

pub use access::AccessError;
pub use answerer::{Answerer, Role};
pub use credentials::{Credentials, Login};
pub use digest::{Digest, DigestError};
pub use docker_config::{DockerConfig, DockerConfigError};
pub use inspect::{Abi, CustomSection, Export, Import, Memory, ModuleSummary, NotAModule, inspect};
pub use manifest::{CONFIG_MEDIA_TYPE, CREATED_ANNOTATION, MODULE_MEDIA_TYPE, UnsupportedArtifact};
pub use outage::Outage;
pub use pull::{FoundLength, PullError, PulledModule};
pub use push::{PushError, Pushed};
pub use reason::Reason;
pub use reference::{Reference, ReferenceError};
pub use registry::{Registry, RegistryConfig, RegistrySetupError};
pub use resolve::{Missing, ResolveError, Resolved};
