//! `/healthz`, `/readyz` and `/metrics`.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::time::Instant;

/// The election looks at its lease every two seconds, whether it leads or not.
const BEAT_MAX: Duration = Duration::from_secs(60);
/// Longest that a client may take to send its request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// What the process knows of its own health. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Health(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    beat: Instant,
    role: Role,
}

/// What this process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It has not seen the API server yet.
    Starting,
    /// It waits for the lease; ready to take over.
    Follower,
    /// It leads.
    Leader {
        /// Rules are being watched.
        api: bool,
        /// Desired state can be written.
        bus: bool,
    },
}

// === impl Health ===

impl Health {
    /// Of a process that has just started.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(State { beat: Instant::now(), role: Role::Starting })))
    }

    /// The process's main loop is alive.
    pub(crate) fn beat(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).beat = Instant::now();
    }

    /// What the process does from now on.
    pub(crate) fn set(&self, role: Role) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).role = role;
    }

    /// Rules are being watched.
    pub(crate) fn api(&self, up: bool) {
        if let Role::Leader { api, .. } = &mut self.0.lock().unwrap_or_else(PoisonError::into_inner).role {
            *api = up;
        }
    }

    /// Desired state can be written, or not.
    pub(crate) fn bus(&self, up: bool) {
        if let Role::Leader { bus, .. } = &mut self.0.lock().unwrap_or_else(PoisonError::into_inner).role {
            *bus = up;
        }
    }

    fn live(&self, now: Instant) -> (StatusCode, String) {
        let since = now.saturating_duration_since(self.0.lock().unwrap_or_else(PoisonError::into_inner).beat);
        if since < BEAT_MAX {
            (StatusCode::OK, "ok\n".to_owned())
        } else {
            (
                StatusCode::SERVICE_UNAVAILABLE,
                format!("the main loop has stood still for {} s\n", since.as_secs()),
            )
        }
    }

    fn ready(&self) -> (StatusCode, String) {
        let word = |up: bool| if up { "up" } else { "down" };
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).role {
            Role::Starting => {
                (StatusCode::SERVICE_UNAVAILABLE, "starting: the API server is not reached yet\n".into())
            }
            Role::Follower => (StatusCode::OK, "follower\n".to_owned()),
            Role::Leader { api, bus } => {
                let code = if api && bus { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                (code, format!("leader: API server {}, bus {}\n", word(api), word(bus)))
            }
        }
    }
}

/// Binds the port, so that a wrong address is told at once.
pub(crate) async fn bind(listen: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(listen).await
}

/// Answers for as long as the process lives.
pub(crate) async fn serve(listener: TcpListener, health: Health, registry: Arc<Registry>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, for example: there will be some again.
                tracing::warn!(%error, "a connection to the health port could not be accepted");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let (health, registry) = (health.clone(), registry.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = answer(request.uri().path(), &health, &registry);
                async move { Ok::<_, Infallible>(answer) }
            });
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
            if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(%error, "a connection to the health port broke");
            }
        });
    }
}

fn answer(path: &str, health: &Health, registry: &Registry) -> Response<Full<Bytes>> {
    let (status, content_type, body) = match path {
        "/healthz" => text(health.live(Instant::now())),
        "/readyz" => text(health.ready()),
        "/metrics" => {
            let mut body = String::new();
            match encode(&mut body, registry) {
                Ok(()) => {
                    (StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", body)
                }
                Err(error) => text((StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n"))),
            }
        }
        _ => text((StatusCode::NOT_FOUND, "there is /healthz, /readyz and /metrics\n".to_owned())),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response
}

fn text((status, body): (StatusCode, String)) -> (StatusCode, &'static str, String) {
    (status, "text/plain; charset=utf-8", body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_follower_is_ready_and_a_leader_only_with_api_and_bus() {
        let health = Health::new();
        assert_eq!(health.ready().0, StatusCode::SERVICE_UNAVAILABLE);
        health.set(Role::Follower);
        assert_eq!(health.ready().0, StatusCode::OK);
        health.set(Role::Leader { api: false, bus: false });
        health.api(true);
        let (status, body) = health.ready();
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body.contains("API server up") && body.contains("bus down"), "{body}");
        health.bus(true);
        assert_eq!(health.ready().0, StatusCode::OK);
    }

    #[test]
    fn a_main_loop_that_stands_still_is_not_alive() {
        let health = Health::new();
        assert_eq!(health.live(Instant::now()).0, StatusCode::OK);
        assert_eq!(health.live(Instant::now() + BEAT_MAX * 2).0, StatusCode::SERVICE_UNAVAILABLE);
    }

    #[test]
    fn metrics_are_given_as_text() {
        let mut registry = Registry::default();
        crate::metrics::Metrics::default().register(&mut registry);
        let response = answer("/metrics", &Health::new(), &registry);
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(answer("/other", &Health::new(), &registry).status(), StatusCode::NOT_FOUND);
    }
}
