//! A bounded pool of threads for rules that take too long for a thread that serves requests. When its queue is full,
//! requests are shed: nobody waits behind more than can be done soon.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::inspect::{Evaluated, Evaluation, Input, KeptInstances, Skipped};
use crate::metrics::RequestMetrics;
use crate::rules::ActiveSet;

/// Evaluations that wait for each thread at most. With the longest deadline of a WasmRule, 10 ms, the last of them
/// waits for 160 ms.
const PLACES: usize = 16;

/// Where workers put evaluations. Clones share the queue.
#[derive(Clone, Debug)]
pub(super) struct Offload {
    queue: SyncSender<Job>,
}

/// What comes back: the input, so that its buffers are used again, and what came of the evaluation.
pub(super) type Done = (Box<Input>, Evaluated);

enum Job {
    Evaluate { set: Arc<ActiveSet>, evaluation: Evaluation, input: Box<Input>, reply: oneshot::Sender<Done> },
    Check { skipped: Skipped, input: Box<Input> },
}

impl Offload {
    /// Starts the threads; they end when the last clone is gone.
    pub(super) fn start(threads: usize, metrics: &RequestMetrics) -> io::Result<(Self, Vec<JoinHandle<()>>)> {
        let (queue, jobs) = sync_channel(threads * PLACES);
        let jobs = Arc::new(Mutex::new(jobs));
        let threads = (0..threads).map(|index| {
            let (jobs, metrics) = (Arc::clone(&jobs), metrics.clone());
            std::thread::Builder::new().name(format!("rules-{index}")).spawn(move || work(&jobs, &metrics))
        });
        Ok((Self { queue }, threads.collect::<io::Result<_>>()?))
    }

    /// Has a rule evaluated. Gives the input back when there is no room.
    pub(super) fn evaluate(
        &self,
        set: &Arc<ActiveSet>,
        evaluation: Evaluation,
        input: Box<Input>,
    ) -> Result<oneshot::Receiver<Done>, Box<Input>> {
        let (reply, done) = oneshot::channel();
        let job = Job::Evaluate { set: Arc::clone(set), evaluation, input, reply };
        match self.queue.try_send(job) {
            Ok(()) => Ok(done),
            Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => Err(job.into_input()),
        }
    }

    /// Has an evaluation done that was skipped. False when there is no room.
    pub(super) fn check(&self, skipped: Skipped, input: Box<Input>) -> bool {
        self.queue.try_send(Job::Check { skipped, input }).is_ok()
    }
}

impl Job {
    fn into_input(self) -> Box<Input> {
        match self {
            Self::Evaluate { input, .. } | Self::Check { input, .. } => input,
        }
    }
}

fn work(jobs: &Mutex<Receiver<Job>>, metrics: &RequestMetrics) {
    let mut kept = KeptInstances::default();
    loop {
        // The lock is held while waiting: whoever has it takes the next job.
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        // Whoever waits for a job that panicked sees its reply dropped.
        if catch_unwind(AssertUnwindSafe(|| run(job, &mut kept))).is_err() {
            metrics.panicked();
            kept = KeptInstances::default();
        }
    }
}

fn run(job: Job, kept: &mut KeptInstances) {
    match job {
        // The client has gone.
        Job::Evaluate { reply, .. } if reply.is_closed() => (),
        Job::Evaluate { set, evaluation, input, reply } => {
            let evaluated = evaluation.run(&set, &input, kept);
            // The client may have gone meanwhile.
            drop(reply.send((input, evaluated)));
        }
        Job::Check { skipped, input } => skipped.check(&input),
    }
}
