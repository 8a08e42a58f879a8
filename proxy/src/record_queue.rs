//! Records on their way to a thread that writes them: bounded, and never waited for. Writing may block, and no request is to
//! wait for whoever reads a log.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Where workers put records. Clones are the same queue.
#[derive(Debug)]
pub(crate) struct RecordQueue<T>(SyncSender<T>);

impl<T> Clone for RecordQueue<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> RecordQueue<T> {
    /// A queue with so many places, and its other end.
    pub(crate) fn new(places: usize) -> (Self, Receiver<T>) {
        let (sender, receiver) = sync_channel(places);
        (Self(sender), receiver)
    }

    /// Hands a record over. False if there is no room. Never waits, and takes no lock of its own.
    #[must_use]
    pub(crate) fn offer(&self, record: T) -> bool {
        self.0.try_send(record).is_ok()
    }
}

impl<T: Send + 'static> RecordQueue<T> {
    /// Starts the thread of this name that is given the records. They end when the last clone is gone.
    pub(crate) fn start(
        name: &str,
        places: usize,
        write: impl FnOnce(Receiver<T>) + Send + 'static,
    ) -> io::Result<(Self, JoinHandle<()>)> {
        let (queue, records) = Self::new(places);
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || write(records))?;
        Ok((queue, thread))
    }
}
