//! One request on a connection of its own, one answer.

use std::net::SocketAddr;
use std::path::Path;

use portcullis_test_tools::http::ask;
pub(crate) use portcullis_test_tools::http::{Answer, form, request};
use tokio::net::{TcpStream, UnixStream};

pub(crate) async fn get(address: SocketAddr, path: &str) -> Result<Answer, String> {
    tcp(address, &request("GET", path, "", b"")).await
}

pub(crate) async fn tcp(address: SocketAddr, request: &[u8]) -> Result<Answer, String> {
    let stream = TcpStream::connect(address).await.map_err(|e| e.to_string())?;
    ask(stream, request).await.map_err(|e| e.to_string())
}

pub(crate) async fn unix(socket: &Path, request: &[u8]) -> Result<Answer, String> {
    let stream = UnixStream::connect(socket).await.map_err(|e| e.to_string())?;
    ask(stream, request).await.map_err(|e| e.to_string())
}
