//! Where the access log goes, and what may be in it.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// What is asked of the access log.
#[derive(Clone, Debug)]
pub struct AccessLogConfig {
    /// Whether queries are part of it: they may hold secrets.
    pub with_query: bool,
    /// Where its lines go.
    pub output: AccessLogOutput,
}

impl AccessLogConfig {
    /// To standard output.
    pub fn stdout(with_query: bool) -> Self {
        Self { with_query, output: AccessLogOutput::new(io::stdout()) }
    }
}

/// Where lines go. Clones are the same place.
#[derive(Clone)]
pub struct AccessLogOutput(Arc<Mutex<dyn Write + Send>>);

impl AccessLogOutput {
    /// A place of its own.
    pub fn new(writer: impl Write + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(writer)))
    }

    /// Writes lines, all of them or an error.
    pub(crate) fn write(&self, lines: &[u8]) -> io::Result<()> {
        // Whatever a writer left behind that panicked: the next line is one of its own.
        let mut writer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        writer.write_all(lines)?;
        writer.flush()
    }
}

impl fmt::Debug for AccessLogOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessLogOutput")
    }
}
