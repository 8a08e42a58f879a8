//! `portcullis explain`: what would become of a request.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use portcullis_crds::wasm_rule::Mode;
use portcullis_engine::{Compiler, CompilerConfig};
use portcullis_node_agent::standalone::explain;
use portcullis_proxy::explain::{AskedRequest, Because, Explanation, PassedOver, RouteOutcome, RunningRule};
use portcullis_proxy::{Timeouts, Upstream};
use serde::Serialize;

use crate::failure::Failure;
use crate::output::OutputArgs;

#[derive(Debug, Args)]
#[command(after_help = "\
Says which route takes a request, and which rules run on it in which order, or why not. It reads the folder as `portcullis
serve` does, compiles its modules and asks the tables that requests would take; it listens nowhere and sends nothing.

Examples:
  portcullis explain --rules ./rules http://shop.example/api/v1
  portcullis explain --rules ./rules --method POST --header 'X-Canary: 1' http://shop.example/api/v1 --format json

Exit code 1 if the request is refused, or no route takes it.")]
pub(crate) struct ExplainArgs {
    /// What a client asks for, as it is sent: http://host/path or https://host/path
    #[arg(value_name = "URL")]
    url: Url,
    /// Folder of WasmRule and WafRoute YAML
    #[arg(long, value_name = "DIR")]
    rules: PathBuf,
    /// Method of the request
    #[arg(long, value_name = "METHOD", default_value = "GET")]
    method: String,
    /// A header of the request; Host instead of the URL's
    #[arg(long = "header", value_name = "'NAME: VALUE'")]
    headers: Vec<Header>,
    #[command(flatten)]
    output: OutputArgs,
}

/// A URL, of which nothing is decoded or left out.
#[derive(Clone, Debug)]
struct Url {
    is_tls: bool,
    authority: String,
    /// Path and query.
    target: String,
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = || format!("expected a URL such as http://shop.example/api, found {text:?}");
        let (scheme, rest) = text.split_once("://").ok_or_else(expected)?;
        let is_tls = match scheme {
            "http" => false,
            "https" => true,
            _ => return Err(expected()),
        };
        if rest.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(format!("{}; percent-encode white space", expected()));
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        if authority.is_empty() {
            return Err(expected());
        }
        let slash = if target.starts_with('/') { "" } else { "/" };
        Ok(Self { is_tls, authority: authority.to_owned(), target: format!("{slash}{target}") })
    }
}

/// A header line.
#[derive(Clone, Debug)]
struct Header(String, String);

impl FromStr for Header {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let line = text.split_once(':').filter(|_| !text.contains(['\r', '\n']));
        let (name, value) =
            line.ok_or_else(|| format!("expected a header such as 'Accept: */*', found {text:?}"))?;
        Ok(Self(name.to_owned(), value.trim().to_owned()))
    }
}

/// The answer.
#[derive(Debug, Serialize)]
struct Explained {
    request: String,
    #[serde(flatten)]
    explanation: Explanation,
}

pub(crate) async fn run(args: &ExplainArgs) -> Result<(), Failure> {
    let request = asked(args);
    // Nothing is sent there; the default route has to lead somewhere.
    let upstream: Upstream = "http://127.0.0.1:80".parse().map_err(Failure::could_not_run)?;
    let compiler = Compiler::new(CompilerConfig::default(), None);
    let explained =
        explain(&args.rules, upstream, compiler, &request).await.map_err(Failure::could_not_run)?;
    let Url { is_tls, authority, target } = &args.url;
    let scheme = if *is_tls { "https" } else { "http" };
    let url = format!("{} {scheme}://{authority}{target}", args.method);
    let explanation = explained.map_err(|refused| Failure::AnswerIsNo(format!("{url}: {refused}")))?;
    let explained = Explained { request: url, explanation };
    args.output.print(&explained)?;
    match explained.explanation.route {
        RouteOutcome::NoMatch => Err(Failure::AnswerIsNo(
            "routes have this host name, and none of them is for the rest of the request: 404".to_owned(),
        )),
        RouteOutcome::Route { refuses_path: true, .. } => Err(Failure::AnswerIsNo(
            "the path has an encoded slash or several in a row, and the route says ambiguousPaths: Refuse: 400"
                .to_owned(),
        )),
        RouteOutcome::Route { backend: None, .. } => {
            Err(Failure::AnswerIsNo("the backend that the route names does not exist: 500".to_owned()))
        }
        RouteOutcome::Default | RouteOutcome::Route { .. } => Ok(()),
    }
}

fn asked(args: &ExplainArgs) -> AskedRequest {
    let Url { is_tls, authority, target } = args.url.clone();
    let given = args.headers.iter().cloned().map(|Header(name, value)| (name, value.into_bytes()));
    let mut headers: Vec<_> = given.collect();
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        headers.insert(0, ("Host".to_owned(), authority.into_bytes()));
    }
    AskedRequest { is_tls, method: args.method.clone(), target, headers }
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Explanation { route, passed_over, runs, does_not_run } = &self.explanation;
        writeln!(f, "request    {}", self.request)?;
        match route {
            RouteOutcome::Default => {
                writeln!(f, "route      the default one: no route has this host name")?;
                writeln!(f, "backend    the --upstream of `portcullis serve`")?;
            }
            RouteOutcome::NoMatch => {
                writeln!(f, "route      none: routes have this host name, but none of them is for the rest")?;
            }
            RouteOutcome::Route { route, rule, matches, backend, timeout, refuses_path } => {
                writeln!(f, "route      {route}, rules[{rule}].matches[{matches}]")?;
                writeln!(f, "backend    {}", backend.as_deref().unwrap_or("does not exist"))?;
                match timeout {
                    Some(timeout) => writeln!(f, "timeout    {timeout:?}")?,
                    None => writeln!(f, "timeout    {:?}, the usual one", Timeouts::default().upstream)?,
                }
                if *refuses_path {
                    writeln!(f, "refused    for the slashes in its path: ambiguousPaths is Refuse")?;
                }
            }
        }
        for PassedOver { route, rule, matches, because } in passed_over {
            writeln!(f, "not by     {route}, rules[{rule}].matches[{matches}]: {because}")?;
        }
        for (index, RunningRule { rule, phase, mode, overridden }) in runs.iter().enumerate() {
            write!(f, "runs       {}. {rule}, {phase}, {}", index + 1, name(*mode))?;
            match overridden {
                Some(own) => writeln!(f, " by an override of the route, instead of {}", name(*own))?,
                None => writeln!(f)?,
            }
        }
        if runs.is_empty() {
            writeln!(f, "runs       no rule")?;
        }
        does_not_run.iter().try_for_each(|idle| {
            let because = match idle.because {
                Because::OtherNamespace => "it is of another namespace than the route",
                Because::Disabled => "it is Disabled",
                Because::DisabledByRoute => "an override of the route says Disabled",
                Because::NotMatched => "its match is for other requests",
                Because::Expired => "it has expired",
                Because::NoPhase => "it has no phase that is run here",
                Because::NoRoute => "no route takes the request",
            };
            writeln!(f, "runs not   {}: {because}", idle.rule)
        })
    }
}

fn name(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "Enforce",
        Mode::Monitor => "Monitor",
        Mode::Disabled => "Disabled",
    }
}
