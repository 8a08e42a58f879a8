//! Registry and credentials of one command.

use std::io::Read;
use std::path::PathBuf;

use clap::Args;
use portcullis_artifact::{
    AccessError, Credentials, DockerConfig, Login, Outage, PullError, PushError, Reference, Registry,
    RegistryConfig, ResolveError,
};
use thiserror::Error;

use crate::failure::Failure;

/// How to speak to the registry.
#[derive(Debug, Args)]
pub(crate) struct RegistryArgs {
    /// Speak plain HTTP to the registry, for example to one on this machine
    #[arg(long)]
    plain_http: bool,
    /// User name, with --password-stdin; without both, what `docker login` wrote down
    #[arg(long, value_name = "NAME", requires = "password_stdin")]
    username: Option<String>,
    /// Read the password or access token from standard input
    #[arg(long, requires = "username")]
    password_stdin: bool,
}

/// What a registry refuses, or a way to it that fails.
#[derive(Debug, Error)]
#[error(transparent)]
pub(crate) enum RegistryError {
    Resolve(#[from] ResolveError),
    Pull(#[from] PullError),
    Push(#[from] PushError),
}

impl RegistryArgs {
    /// A client for the registry of this reference.
    pub(crate) fn registry(&self, reference: &Reference) -> Result<Registry, Failure> {
        let plain_http = if self.plain_http { vec![reference.registry().to_owned()] } else { Vec::new() };
        Registry::new(RegistryConfig { plain_http, ..RegistryConfig::default() })
            .map_err(Failure::could_not_run)
    }

    /// From the flags, else from docker's configuration, else none.
    pub(crate) fn credentials(&self, reference: &Reference) -> Result<Credentials, Failure> {
        if let Some(username) = &self.username {
            let mut password = String::new();
            std::io::stdin().read_to_string(&mut password).map_err(Failure::reading("standard input"))?;
            let password = password.trim_end_matches(['\r', '\n']).to_owned();
            if password.is_empty() {
                return Err(Failure::CouldNotRun(
                    "--password-stdin: expected a password on standard input, found nothing".to_owned(),
                ));
            }
            return Ok(Credentials::Basic { username: username.clone(), password });
        }
        let Some(path) = docker_config().filter(|path| path.exists()) else {
            return Ok(Credentials::Anonymous);
        };
        let json = std::fs::read(&path).map_err(Failure::reading(&path))?;
        DockerConfig::parse(&json)
            .and_then(|config| config.credentials_for(reference))
            .map(Option::unwrap_or_default)
            .map_err(|error| {
                let path = path.display();
                Failure::CouldNotRun(format!("{path}: {error}; or give --username and --password-stdin"))
            })
    }

    /// The error, and which of the flags here helps against it.
    pub(crate) fn explain(&self, reference: &Reference, error: impl Into<RegistryError>) -> Failure {
        let error = error.into();
        let hint = match error.access() {
            Some(AccessError::Unauthorized { login: Login::Anonymous | Login::User(_), .. }) => {
                let registry = reference.registry();
                format!(". Log in with `docker login {registry}`, or give --username and --password-stdin")
            }
            Some(AccessError::Unreachable { cause: Outage::Tls(_), .. }) if !self.plain_http => {
                " (--plain-http)".to_owned()
            }
            _ => String::new(),
        };
        Failure::CouldNotRun(format!("{error}{hint}"))
    }
}

impl RegistryError {
    fn access(&self) -> Option<&AccessError> {
        match self {
            Self::Resolve(error) => error.access(),
            Self::Pull(PullError::Access(error)) | Self::Push(PushError::Access(error)) => Some(error),
            _ => None,
        }
    }
}

fn docker_config() -> Option<PathBuf> {
    let folder = std::env::var_os("DOCKER_CONFIG")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker")))?;
    Some(folder.join("config.json"))
}
