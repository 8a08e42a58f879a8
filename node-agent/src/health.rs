//! `/healthz`, `/readyz` and `/metrics`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::enforce::Standing;
use crate::enforce::standing::NotReady;
use crate::side_port::{SidePort, answer, text};
use portcullis_proxy::DrainSignal;

/// The content type of the OpenMetrics text format.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Answers questions about this process. Clones are the same.
#[derive(Clone)]
pub struct Health(Arc<Inner>);

struct Inner {
    standing: watch::Receiver<Standing>,
    drain: DrainSignal,
    registry: Registry,
    was_ready: AtomicBool,
}

impl Health {
    /// Readiness comes from `standing` until the drain starts.
    pub fn new(standing: watch::Receiver<Standing>, drain: DrainSignal, registry: Registry) -> Self {
        Self(Arc::new(Inner { standing, drain, registry, was_ready: AtomicBool::new(false) }))
    }

    /// Whether the node may get traffic now.
    pub fn ready(&self, now: Instant) -> Result<(), NotReady> {
        if self.0.drain.is_started() {
            return Err(NotReady::Draining);
        }
        if self.0.was_ready.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.0.standing.borrow().check(now)?;
        self.0.was_ready.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Serves until it is dropped.
    pub async fn serve(self, port: SidePort) {
        port.serve(move |request| {
            let response = self.answer(&request);
            async move { response }
        })
        .await;
    }

    fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n");
        }
        match request.uri().path() {
            // The control thread itself answers.
            "/healthz" => text(StatusCode::OK, "ok\n"),
            "/readyz" => match self.ready(Instant::now()) {
                Ok(()) => text(StatusCode::OK, "ok\n"),
                Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
            },
            "/metrics" => self.metrics(),
            _ => text(StatusCode::NOT_FOUND, "/healthz, /readyz or /metrics\n"),
        }
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let mut out = String::new();
        match prometheus_client::encoding::text::encode(&mut out, &self.0.registry) {
            Ok(()) => answer(StatusCode::OK, OPEN_METRICS, out.into()),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(health: &Health, path: &str) -> StatusCode {
        health.answer(&Request::builder().uri(path).body(()).unwrap()).status()
    }

    #[test]
    fn ready_once_stays_ready_until_the_drain() {
        let (standing, receiver) = watch::channel(Standing::default());
        let drain = DrainSignal::new();
        let health = Health::new(receiver, drain.clone(), Registry::default());
        assert_eq!(status(&health, "/healthz"), StatusCode::OK);
        assert_eq!(status(&health, "/readyz"), StatusCode::SERVICE_UNAVAILABLE);
        standing.send_replace(Standing { complete: true, ..Standing::default() });
        assert_eq!(status(&health, "/readyz"), StatusCode::OK);
        // A rule that fails later must not take all nodes away.
        let waiting_since = Some(Instant::now());
        standing.send_replace(Standing { complete: true, waiting_since, ..Standing::default() });
        assert_eq!(status(&health, "/readyz"), StatusCode::OK);
        drain.start();
        assert_eq!(status(&health, "/readyz"), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(status(&health, "/healthz"), StatusCode::OK);
    }
}
