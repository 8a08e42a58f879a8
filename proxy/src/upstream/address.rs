//! The upstream's addresses, resolved again every few seconds while requests come.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::config::Upstream;

/// How long an answer of the resolver is used before it is asked again.
const FRESH: Duration = Duration::from_secs(5);

/// One worker's view of the upstream's addresses.
#[derive(Debug)]
pub(super) struct Addresses {
    host: Rc<str>,
    port: u16,
    cache: Rc<Cache>,
}

#[derive(Debug, Default)]
struct Cache {
    addresses: RefCell<Rc<[SocketAddr]>>,
    resolved: Cell<Option<Instant>>,
    refreshing: Cell<bool>,
    /// Grows with each use, so that several addresses take turns.
    turn: Cell<usize>,
}

impl Addresses {
    pub(super) fn new(upstream: &Upstream) -> Self {
        Self { host: upstream.host().into(), port: upstream.port(), cache: Rc::default() }
    }

    /// The addresses, the one whose turn it is first. Waits for the resolver only when nothing was
    /// ever resolved; else an old answer is used while it is asked again, and kept if it fails.
    pub(super) async fn current(&self) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, self.port)]);
        }
        match self.cache.resolved.get() {
            None => self.cache.keep(&resolve(&self.host, self.port).await?),
            Some(at) if at.elapsed() >= FRESH && !self.cache.refreshing.replace(true) => {
                let (host, port, cache) = (Rc::clone(&self.host), self.port, Rc::clone(&self.cache));
                tokio::task::spawn_local(async move {
                    match resolve(&host, port).await {
                        Ok(addresses) => cache.keep(&addresses),
                        Err(error) => {
                            tracing::warn!(%host, %error, "cannot resolve the upstream again; going on with what is known");
                            cache.resolved.set(Some(Instant::now()));
                        }
                    }
                    cache.refreshing.set(false);
                });
            }
            Some(_) => (),
        }
        Ok(self.cache.in_turn())
    }
}

impl Cache {
    fn keep(&self, addresses: &[SocketAddr]) {
        self.addresses.replace(addresses.into());
        self.resolved.set(Some(Instant::now()));
    }

    fn in_turn(&self) -> Vec<SocketAddr> {
        let mut addresses = self.addresses.borrow().to_vec();
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        let length = addresses.len().max(1);
        addresses.rotate_left(turn % length);
        addresses
    }
}

async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let addresses: Vec<_> = tokio::net::lookup_host((host, port)).await?.collect();
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the resolver knows no address of it"));
    }
    Ok(addresses)
}

/// Connects to the first address that accepts.
pub(super) async fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "there is no address");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_addresses_take_turns() {
        let cache = Cache::default();
        let addresses: Vec<SocketAddr> = ["10.0.0.1:80", "10.0.0.2:80"].map(|a| a.parse().unwrap()).into();
        cache.keep(&addresses);
        let first: Vec<_> = (0..4).map(|_| cache.in_turn()[0]).collect();
        assert_eq!(first, [addresses[0], addresses[1], addresses[0], addresses[1]]);
    }
}
