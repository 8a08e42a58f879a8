//! Registry and credentials of one command.

use std::io::Read;
use std::path::PathBuf;

use clap::Args;
use portcullis_artifact::{Credentials, DockerConfig, Reference, Registry, RegistryConfig};

use crate::failure::Failure;

/// How to speak to the registry.
#[derive(Debug, Args)]
pub(crate) struct RegistryArgs {
    /// Speak plain HTTP to the registry. For a registry on this machine.
    #[arg(long)]
    plain_http: bool,
    /// User name; with --password-stdin. Without both, `docker login`'s file is used.
    #[arg(long, requires = "password_stdin")]
    username: Option<String>,
    /// Read the password from standard input.
    #[arg(long, requires = "username")]
    password_stdin: bool,
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
            std::io::stdin().read_to_string(&mut password).map_err(Failure::file("standard input"))?;
            let password = password.trim_end_matches(['\r', '\n']).to_owned();
            return Ok(Credentials::Basic { username: username.clone(), password });
        }
        let Some(path) = docker_config().filter(|path| path.exists()) else {
            return Ok(Credentials::Anonymous);
        };
        let json = std::fs::read(&path).map_err(Failure::file(&path))?;
        DockerConfig::parse(&json)
            .and_then(|config| config.credentials_for(reference.registry()))
            .map(Option::unwrap_or_default)
            .map_err(|error| Failure::CouldNotRun(format!("{}: {error}", path.display())))
    }
}

fn docker_config() -> Option<PathBuf> {
    let folder = std::env::var_os("DOCKER_CONFIG")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker")))?;
    Some(folder.join("config.json"))
}
