//! Whether this process lives, and may lead.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use portcullis_daemon::admin_server::AdminServer;
use portcullis_daemon::health::{self, Probes};
use prometheus_client::registry::Registry;
use tokio::time::Instant;

/// The election looks at its lease every two seconds, whether it leads or not.
const BEAT_MAX: Duration = Duration::from_secs(60);

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

    fn lives(&self, now: Instant) -> Result<String, String> {
        let since = now.saturating_duration_since(self.0.lock().unwrap_or_else(PoisonError::into_inner).beat);
        if since < BEAT_MAX {
            Ok("ok".to_owned())
        } else {
            Err(format!("the main loop has stood still for {} s", since.as_secs()))
        }
    }
}

impl Probes for Health {
    fn live(&self) -> Result<String, String> {
        self.lives(Instant::now())
    }

    fn ready(&self) -> Result<String, String> {
        let word = |up: bool| if up { "up" } else { "down" };
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).role {
            Role::Starting => Err("starting: the API server is not reached yet".into()),
            Role::Follower => Ok("follower".to_owned()),
            Role::Leader { api, bus } => {
                let what = format!("leader: API server {}, bus {}", word(api), word(bus));
                if api && bus { Ok(what) } else { Err(what) }
            }
        }
    }
}

/// Binds the port, so that a wrong address is told at once.
pub(crate) async fn bind(listen: SocketAddr) -> io::Result<AdminServer> {
    AdminServer::tcp(listen).await
}

/// Answers for as long as the process lives.
pub(crate) async fn serve(server: AdminServer, health: Health, registry: Arc<Registry>) {
    health::serve(server, health, registry).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_follower_is_ready_and_a_leader_only_with_api_and_bus() {
        let health = Health::new();
        assert!(health.ready().is_err());
        health.set(Role::Follower);
        assert!(health.ready().is_ok());
        health.set(Role::Leader { api: false, bus: false });
        health.api(true);
        let why = health.ready().expect_err("the bus is down");
        assert!(why.contains("API server up") && why.contains("bus down"), "{why}");
        health.bus(true);
        assert!(health.ready().is_ok());
    }

    #[test]
    fn a_main_loop_that_stands_still_is_not_alive() {
        let health = Health::new();
        assert!(health.lives(Instant::now()).is_ok());
        assert!(health.lives(Instant::now() + BEAT_MAX * 2).is_err());
    }
}
