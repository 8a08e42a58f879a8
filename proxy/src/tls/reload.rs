//! Takes up certificates that change, on a thread of its own, as long as the proxy runs.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use super::certificate_set::CertificatesHandle;
use super::folder::CertificateFolder;

/// How often the folder is looked at. The kubelet takes up to a minute to change a mounted Secret.
const LOOK: Duration = Duration::from_secs(1);

/// Ends the thread when its last clone is dropped.
#[derive(Clone, Debug)]
pub(crate) struct ReloadGuard(#[expect(dead_code, reason = "what counts is that it is there")] Sender<()>);

/// Starts to follow a folder.
pub(crate) fn follow(
    mut folder: CertificateFolder,
    certificates: CertificatesHandle,
) -> io::Result<(ReloadGuard, JoinHandle<()>)> {
    let (guard, dropped) = channel();
    let thread = std::thread::Builder::new()
        .name("certificates".into())
        .spawn(move || run(&mut folder, &certificates, &dropped))?;
    Ok((ReloadGuard(guard), thread))
}

fn run(folder: &mut CertificateFolder, certificates: &CertificatesHandle, dropped: &Receiver<()>) {
    let mut last_error = String::new();
    while let Err(RecvTimeoutError::Timeout) = dropped.recv_timeout(LOOK) {
        let error = match folder.scan(SystemTime::now()) {
            Ok(set) => {
                if let Some(set) = set {
                    certificates.store(Arc::new(set));
                    tracing::info!("certificates were taken up");
                }
                String::new()
            }
            Err(error) => error.to_string(),
        };
        if !error.is_empty() && error != last_error {
            tracing::error!(error, "cannot read the folder of certificates; those that were read go on");
        }
        last_error = error;
    }
}
