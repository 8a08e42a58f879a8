//! `/healthz`, `/readyz` and `/metrics` on an admin HTTP server.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use crate::admin_server::AdminServer;
use crate::response::{answer, text};

/// The content type of the OpenMetrics text format.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What a program says of itself. The text is for people.
pub trait Probes {
    /// Whether it does not have to be started anew.
    ///
    /// # Errors
    /// Why it has to.
    fn live(&self) -> Result<String, String>;

    /// Whether it may be given work.
    ///
    /// # Errors
    /// Why not.
    fn ready(&self) -> Result<String, String>;
}

/// Answers until it is dropped.
pub async fn serve<P>(server: AdminServer, probes: P, registry: Arc<Registry>)
where
    P: Probes + Clone + Send + Sync + 'static,
{
    server
        .serve(move |request| {
            let response = respond(&request, &probes, &registry);
            async move { response }
        })
        .await;
}

/// The answer to one request.
pub fn respond<B>(request: &Request<B>, probes: &impl Probes, registry: &Registry) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n");
    }
    match request.uri().path() {
        "/healthz" => told(probes.live()),
        "/readyz" => told(probes.ready()),
        "/metrics" => metrics(registry),
        _ => text(StatusCode::NOT_FOUND, "/healthz, /readyz or /metrics\n"),
    }
}

fn told(outcome: Result<String, String>) -> Response<Full<Bytes>> {
    match outcome {
        Ok(how) => text(StatusCode::OK, how + "\n"),
        Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, why + "\n"),
    }
}

fn metrics(registry: &Registry) -> Response<Full<Bytes>> {
    let mut out = String::new();
    match encode(&mut out, registry) {
        Ok(()) => answer(StatusCode::OK, OPEN_METRICS, out.into()),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Starting;

    impl Probes for Starting {
        fn live(&self) -> Result<String, String> {
            Ok("ok".into())
        }

        fn ready(&self) -> Result<String, String> {
            Err("starting".into())
        }
    }

    fn status(method: Method, path: &str) -> StatusCode {
        let request = Request::builder().method(method).uri(path).body(()).unwrap();
        respond(&request, &Starting, &Registry::default()).status()
    }

    #[test]
    fn who_lives_and_is_not_ready_says_so() {
        assert_eq!(status(Method::GET, "/healthz"), StatusCode::OK);
        assert_eq!(status(Method::GET, "/readyz"), StatusCode::SERVICE_UNAVAILABLE);
    }

    #[test]
    fn metrics_are_there_and_nothing_else_is() {
        assert_eq!(status(Method::GET, "/metrics"), StatusCode::OK);
        assert_eq!(status(Method::GET, "/metrics/more"), StatusCode::NOT_FOUND);
        assert_eq!(status(Method::POST, "/metrics"), StatusCode::METHOD_NOT_ALLOWED);
    }
}
