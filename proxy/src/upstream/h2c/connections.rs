//! One worker's connections to an upstream that speaks HTTP/2.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::super::address::Addresses;
use super::super::error::UpstreamError;
use super::connection::{Connection, NoConnection, Place};
use crate::config::{Http2Limits, Timeouts, Upstream};

/// Connections, of which another one is opened when those that there are have no room.
#[derive(Debug)]
pub(super) struct Connections {
    addresses: Addresses,
    open: RefCell<Vec<Rc<Connection>>>,
    /// Held by who opens one: a burst of requests waits for the one connection that it needs.
    opening: Mutex<()>,
    /// Grows with each attempt to open one that fails.
    failures: Cell<u64>,
    failed: RefCell<Option<Failure>>,
    limits: Http2Limits,
    connect: Duration,
    idle: Duration,
    age: Duration,
}

/// Why no connection could be opened, for those who waited for it.
#[derive(Clone, Debug)]
enum Failure {
    Resolve(io::ErrorKind),
    Connect(io::ErrorKind),
    Timeout,
    NoHttp2(h2::Reason),
}

impl Connections {
    pub(super) fn new(upstream: &Upstream, limits: Http2Limits, timeouts: &Timeouts) -> Self {
        Self {
            addresses: Addresses::new(upstream),
            open: RefCell::default(),
            opening: Mutex::default(),
            failures: Cell::new(0),
            failed: RefCell::default(),
            limits,
            connect: timeouts.connect,
            idle: timeouts.upstream_idle,
            age: timeouts.upstream_age,
        }
    }

    /// A place for one stream, and whether its connection was opened for it.
    pub(super) async fn place(&self) -> Result<(Place, bool), UpstreamError> {
        if let Some(place) = self.place_on_open(Instant::now()) {
            return Ok((place, false));
        }
        let failures = self.failures.get();
        let _opening = self.opening.lock().await;
        // Who held it before may have opened one with room, or have learned that there is none to be had.
        if let Some(place) = self.place_on_open(Instant::now()) {
            return Ok((place, false));
        }
        if self.failures.get() != failures
            && let Some(failure) = &*self.failed.borrow()
        {
            return Err(failure.clone().into());
        }
        match self.connect().await {
            Ok(connection) => {
                let place = Place::on(&connection);
                self.open.borrow_mut().push(connection);
                Ok((place, true))
            }
            Err(error) => {
                self.failures.set(self.failures.get() + 1);
                self.failed.replace(Failure::of(&error));
                Err(error)
            }
        }
    }

    /// Lets go of connections that nobody used for too long, that are too old, or that the upstream is about to close. Their
    /// streams come to their end.
    pub(super) fn expire(&self, now: Instant) {
        self.open.borrow_mut().retain(|connection| {
            let is_idle = connection
                .quiet_since()
                .is_some_and(|since| now.saturating_duration_since(since) >= self.idle);
            !is_idle && !self.is_too_old(connection, now) && !connection.is_leaving()
        });
    }

    /// A place on the first connection that has one, so that the others grow quiet and are closed after a burst.
    fn place_on_open(&self, now: Instant) -> Option<Place> {
        self.expire(now);
        self.open.borrow().iter().find(|connection| connection.has_room()).map(Place::on)
    }

    fn is_too_old(&self, connection: &Connection, now: Instant) -> bool {
        now.saturating_duration_since(connection.opened()) >= self.age
    }

    async fn connect(&self) -> Result<Rc<Connection>, UpstreamError> {
        let addresses = self.addresses.current().await.map_err(UpstreamError::Resolve)?;
        match tokio::time::timeout(self.connect, Connection::open(&addresses, &self.limits)).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(NoConnection::Connect(error))) => Err(UpstreamError::Connect(error)),
            Ok(Err(NoConnection::NoHttp2(error))) => Err(UpstreamError::NoHttp2(error)),
            Err(_) => Err(UpstreamError::ConnectTimeout),
        }
    }
}

impl Failure {
    fn of(error: &UpstreamError) -> Option<Self> {
        match error {
            UpstreamError::Resolve(error) => Some(Self::Resolve(error.kind())),
            UpstreamError::Connect(error) => Some(Self::Connect(error.kind())),
            UpstreamError::ConnectTimeout => Some(Self::Timeout),
            UpstreamError::NoHttp2(error) => {
                Some(Self::NoHttp2(error.reason().unwrap_or(h2::Reason::PROTOCOL_ERROR)))
            }
            _ => None,
        }
    }
}

impl From<Failure> for UpstreamError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Resolve(kind) => Self::Resolve(kind.into()),
            Failure::Connect(kind) => Self::Connect(kind.into()),
            Failure::Timeout => Self::ConnectTimeout,
            Failure::NoHttp2(reason) => Self::NoHttp2(reason.into()),
        }
    }
}
