//! A registry that takes its time: the real one, ten seconds later.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use portcullis_e2e::cluster::{Look, until};
use portcullis_e2e::registry::HOST;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What pods reach of this machine.
const ADDRESS: &str = "10.213.0.1:15099";
/// Before anything is passed on.
const DELAY: Duration = Duration::from_secs(10);

pub(crate) struct SlowRegistry {
    /// HOST:PORT, from pods.
    pub(crate) address: String,
    /// Held by each connection that is open.
    open: Arc<()>,
    accepting: JoinHandle<()>,
}

impl SlowRegistry {
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind(ADDRESS).await?;
        let open = Arc::new(());
        let held = open.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass_on(client, held.clone()));
            }
        });
        Ok(Self { address: ADDRESS.to_owned(), open, accepting })
    }

    /// Waits until no request is under way any more.
    pub(crate) async fn answered(&self) -> Result<()> {
        // The rules of one namespace take turns at it.
        until("the slow registry to have answered", Duration::from_secs(300), || async {
            // One of its own, one of the task that accepts.
            let open = Arc::strong_count(&self.open) - 2;
            Ok(if open == 0 { Look::Done(()) } else { Look::NotYet(format!("{open} connections")) })
        })
        .await
    }
}

impl Drop for SlowRegistry {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn pass_on(mut client: TcpStream, _open: Arc<()>) {
    tokio::time::sleep(DELAY).await;
    let Ok(mut registry) = TcpStream::connect(HOST).await else { return };
    // A connection that is kept open says nothing any more; it ends with its idle time.
    let copied = tokio::io::copy_bidirectional(&mut client, &mut registry);
    drop(tokio::time::timeout(Duration::from_secs(60), copied).await);
}
