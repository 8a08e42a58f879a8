//! The routes of the admin API.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyDataStream, Full};
use hyper::body::Incoming;
use portcullis_crds::revision::{ModuleDigest, Revision};
use portcullis_crds::wasm_rule::Mode;
use portcullis_daemon::admin_server::AdminServer;
use portcullis_daemon::response::json as json_answer;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use super::access::Access;
use super::upload::{self, Upload};
use crate::enforce::local::{LocalError, local_rule};
use crate::enforce::{Command, ModuleInfo};
use crate::modules::{Modules, WayIn};

type Answer = Response<Full<Bytes>>;

/// Answers requests of the admin API. Clones are the same.
#[derive(Clone)]
pub struct Admin {
    access: Access,
    modules: Arc<Modules>,
    commands: mpsc::Sender<Command>,
}

impl Admin {
    /// Modules are made ready by `modules` and run by whoever reads `commands`.
    pub fn new(access: Access, modules: Arc<Modules>, commands: mpsc::Sender<Command>) -> Self {
        Self { access, modules, commands }
    }

    /// Serves until it is dropped.
    pub async fn serve(self, server: AdminServer) {
        server
            .serve(move |request| {
                let admin = self.clone();
                async move { admin.answer(request).await }
            })
            .await;
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        if !self.access.admits(request.headers()) {
            let mut answer = failure(StatusCode::UNAUTHORIZED, "send the token: Authorization: Bearer TOKEN");
            answer.headers_mut().insert("www-authenticate", http::HeaderValue::from_static("Bearer"));
            return answer;
        }
        match (request.method(), request.uri().path()) {
            (&Method::POST, "/api/v1/wasm/load") => self.load(request, false).await,
            (&Method::POST, "/api/v1/wasm/reload") => self.load(request, true).await,
            (&Method::GET, "/api/v1/wasm/modules") => self.list().await,
            (_, "/api/v1/wasm/load" | "/api/v1/wasm/reload" | "/api/v1/wasm/modules") => {
                failure(StatusCode::METHOD_NOT_ALLOWED, "POST a module to load or reload, GET the modules")
            }
            _ => failure(
                StatusCode::NOT_FOUND,
                "/api/v1/wasm/load, /api/v1/wasm/reload or /api/v1/wasm/modules",
            ),
        }
    }

    async fn load(&self, request: Request<Incoming>, replace: bool) -> Answer {
        let (head, body) = request.into_parts();
        let Upload { name, file } = match upload::read(&head.headers, BodyDataStream::new(body)).await {
            Ok(upload) => upload,
            Err(error) => return failure(StatusCode::BAD_REQUEST, &error.to_string()),
        };
        let size = file.len() as u64;
        let rule = local_rule(&name, ModuleDigest::of(&file), size);
        let module = match self.modules.prepare_bytes(&rule.stable, file).await {
            Ok(module) => module,
            Err(error) if error.is_retryable() => {
                return failure(StatusCode::SERVICE_UNAVAILABLE, &error.to_string());
            }
            Err(error) => {
                let reason = WayIn::Upload.explain(&error);
                return failure(StatusCode::BAD_REQUEST, &format!("Invalid WASM module: {reason}"));
            }
        };
        let (reply, loaded) = oneshot::channel();
        let command = Command::Load { rule: Box::new(rule), module, replace, reply };
        match self.ask(command, loaded).await {
            Err(ending) => ending,
            Ok(Err(error @ LocalError::Exists(_))) => failure(StatusCode::CONFLICT, &error.to_string()),
            Ok(Err(error @ LocalError::Missing(_))) => failure(StatusCode::NOT_FOUND, &error.to_string()),
            Ok(Ok(without)) if replace => {
                // Rounded up: what was measured is not to look like nothing.
                let downtime_ms = u64::try_from(without.as_micros().div_ceil(1000)).ok();
                let done = Outcome { success: true, message: "Module reloaded", downtime_ms };
                json_answer(StatusCode::OK, &done)
            }
            Ok(Ok(_)) => {
                let done =
                    Outcome { success: true, message: "Module loaded successfully", downtime_ms: None };
                json_answer(StatusCode::OK, &done)
            }
        }
    }

    async fn list(&self) -> Answer {
        let (reply, list) = oneshot::channel();
        match self.ask(Command::List { reply }, list).await {
            Err(ending) => ending,
            Ok(modules) => {
                json_answer(StatusCode::OK, &List { modules: modules.iter().map(Shown::of).collect() })
            }
        }
    }

    async fn ask<T>(&self, command: Command, answer: oneshot::Receiver<T>) -> Result<T, Answer> {
        let ending = || failure(StatusCode::SERVICE_UNAVAILABLE, "the agent is ending");
        self.commands.send(command).await.map_err(|_| ending())?;
        answer.await.map_err(|_| ending())
    }
}

fn failure(status: StatusCode, message: &str) -> Answer {
    json_answer(status, &Outcome { success: false, message, downtime_ms: None })
}

/// As the SecBeat documentation has it.
#[derive(Serialize)]
struct Outcome<'a> {
    success: bool,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    downtime_ms: Option<u64>,
}

#[derive(Serialize)]
struct List<'a> {
    modules: Vec<Shown<'a>>,
}

/// The first three fields as the SecBeat documentation has them.
#[derive(Serialize)]
struct Shown<'a> {
    name: &'a str,
    size: u64,
    loaded_at: String,
    namespace: Option<&'a str>,
    revision: &'a Revision,
    digest: &'a ModuleDigest,
    mode: Mode,
    local: bool,
}

impl<'a> Shown<'a> {
    fn of(module: &'a ModuleInfo) -> Self {
        Self {
            name: &module.key.name,
            size: module.size,
            loaded_at: module.loaded_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            namespace: module.key.namespace.as_deref(),
            revision: &module.revision,
            digest: &module.digest,
            mode: module.mode,
            local: module.local,
        }
    }
}
