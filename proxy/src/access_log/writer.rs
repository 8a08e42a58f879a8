//! The thread that writes.

use std::sync::mpsc::Receiver;

use super::line;
use super::record::Record;
use crate::access_log_config::AccessLogOutput;
use crate::metrics::RequestMetrics;

/// Bytes of lines that are written together. Only what is there is: no line waits for another one.
const TOGETHER: usize = 64 * 1024;

/// Writes all records.
pub(super) fn write(records: &Receiver<Record>, output: &AccessLogOutput, metrics: &RequestMetrics) {
    let mut lines = Vec::with_capacity(TOGETHER);
    let mut failed = false;
    while let Ok(record) = records.recv() {
        line::write(&record, &mut lines);
        let mut count = 1;
        while lines.len() < TOGETHER
            && let Ok(record) = records.try_recv()
        {
            line::write(&record, &mut lines);
            count += 1;
        }
        if let Err(error) = output.write(&lines) {
            metrics.access_log_dropped(count);
            if !failed {
                tracing::warn!(%error, "cannot write the access log; is its reader gone? Lines are counted as dropped");
            }
            failed = true;
        } else {
            failed = false;
        }
        lines.clear();
    }
}
