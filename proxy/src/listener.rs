//! One listening socket a worker, all on one address.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel queues for one worker; also bounded by net.core.somaxconn.
pub(super) const BACKLOG: i32 = 4096;

/// Where one worker accepts connections.
#[derive(Debug)]
pub(super) struct Listeners {
    pub(super) plain: TcpListener,
    pub(super) tls: Option<TcpListener>,
}

/// Binds a listener that shares its address with the other workers' (SO_REUSEPORT): the kernel
/// spreads connections over them. When one is closed its queue is reset, so a worker empties its
/// queue before it ends.
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = unbound(address)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Fails if somebody listens on the address: another proxy would silently get a share of the
/// connections, or we of its.
pub(super) fn check_free(address: SocketAddr) -> io::Result<()> {
    unbound(address)?.bind(&address.into())
}

fn unbound(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Else connections of a proxy that just ended would keep the address for a minute.
    socket.set_reuse_address(true)?;
    Ok(socket)
}
