//! The entry of one request, from its head until it is over.

use std::io;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use http::Version;

use super::record::{Cut, Record, Request};
use super::writer;
use crate::access_log_config::AccessLogConfig;
use crate::downstream::Downstream;
use crate::head::{RequestHead, ResponseHead};
use crate::metrics::RequestMetrics;
use crate::record_queue::RecordQueue;
use crate::refusal::Refusal;

/// Entries that wait to be written at most: some seconds of a busy worker's, a few megabytes.
const PLACES: usize = 4096;
/// What became of a request whose client did not wait for the answer.
const CLIENT_GONE: &str = "client_gone";
/// What became of an answer whose end the client did not get.
const BROKE_OFF: &str = "broke_off";

/// Where entries go. Clones are the same log.
#[derive(Clone, Debug)]
pub(crate) struct AccessLog {
    queue: RecordQueue<Record>,
    with_query: bool,
    metrics: RequestMetrics,
}

/// What is known so far of one request. It is written when it is dropped, so that none is missing whatever happens.
#[derive(Debug)]
pub(crate) struct Entry {
    log: AccessLog,
    since: Instant,
    is_over: bool,
    /// There until it is handed over.
    record: Option<Record>,
}

impl AccessLog {
    /// Starts the thread that writes. It ends when the last clone, and the last entry, is gone.
    pub(crate) fn start(
        config: &AccessLogConfig,
        metrics: RequestMetrics,
    ) -> io::Result<(Self, JoinHandle<()>)> {
        let (output, counted) = (config.output.clone(), metrics.clone());
        let (queue, thread) = RecordQueue::start("access-log", PLACES, move |records| {
            writer::write(&records, &output, &counted);
        })?;
        Ok((Self { queue, with_query: config.with_query, metrics }, thread))
    }

    /// Begins the entry of a request, whose head is as it came. `body` is its length, where it says so.
    pub(crate) fn begin(&self, downstream: &Downstream, head: &RequestHead, body: Option<u64>) -> Box<Entry> {
        let mut entry = self.entry(downstream, head.version());
        let query = head.target().split_once('?').map(|(_, query)| query);
        let request = Request {
            method: Cut::new(head.method().as_str().as_bytes()),
            path: Cut::new(head.path().as_bytes()),
            query: query.filter(|_| self.with_query).map(|query| Cut::new(query.as_bytes())),
            host: Cut::new(head.host()),
            user_agent: head.fields().get("user-agent").map(Cut::new),
            body,
        };
        entry.note(|record| record.request = Some(request));
        entry
    }

    /// Writes the entry of a request that was refused before it was one.
    pub(crate) fn refused(&self, downstream: &Downstream, version: Version, refusal: Refusal) {
        let mut entry = self.entry(downstream, version);
        entry.note(|record| {
            record.status = Some(refusal.status());
            record.error = Some(refusal.reason().into());
        });
        entry.over();
    }

    fn entry(&self, downstream: &Downstream, version: Version) -> Box<Entry> {
        let record = Record {
            begun: SystemTime::now(),
            took: Duration::ZERO,
            client: downstream.ip(),
            peer: downstream.ip(),
            is_tls: downstream.tls.is_some(),
            tls_version: downstream.tls.as_ref().map(|tls| tls.version),
            version,
            request: None,
            route: None,
            upstream: None,
            event: None,
            decision: None,
            error: None,
            status: None,
            answered: None,
        };
        Box::new(Entry { log: self.clone(), since: Instant::now(), is_over: false, record: Some(record) })
    }
}

impl Entry {
    /// Adds what is known now.
    pub(crate) fn note(&mut self, add: impl FnOnce(&mut Record)) {
        if let Some(record) = &mut self.record {
            add(record);
        }
    }

    /// What was answered, and how many bytes of the body were taken for the client.
    pub(crate) fn answered(&mut self, head: &ResponseHead, taken: u64) {
        self.note(|record| {
            record.status = Some(head.status);
            let to_head = record.request.as_ref().is_some_and(|request| request.method.bytes() == b"HEAD");
            record.answered = Some(if head.has_body(to_head) { taken } else { 0 });
        });
    }

    /// The last byte of the answer is with the kernel.
    pub(crate) fn over(&mut self) {
        self.is_over = true;
        let took = self.since.elapsed();
        self.note(|record| record.took = took);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let Some(mut record) = self.record.take() else { return };
        if !self.is_over {
            record.took = self.since.elapsed();
            let reason = if record.status.is_some() { BROKE_OFF } else { CLIENT_GONE };
            record.error.get_or_insert(reason.into());
        }
        if !self.log.queue.offer(record) {
            self.log.metrics.access_log_dropped(1);
        }
    }
}
