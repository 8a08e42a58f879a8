//! The one logging setup.
//!
//! A line of JSON has the same shape in every program: `timestamp` (RFC 3339, UTC), `level`, `target` and `message`, and
//! beside them the fields of the event, so that one query finds a field wherever it was logged.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing::Dispatch;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

/// What is logged where `RUST_LOG` says nothing. The NATS client repeats what we log of it.
const FILTER: &str = "info,async_nats=error";

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

impl Format {
    /// Text for a person at a terminal, JSON for everything else that reads standard error.
    pub fn of_stderr() -> Self {
        if std::io::stderr().is_terminal() { Self::Text } else { Self::Json }
    }
}

/// Logs to standard error from now on. `RUST_LOG` filters.
pub fn init(format: Format) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(FILTER));
    dispatch(format, filter, std::io::stderr).init();
}

/// Writes what passes the filter: for [`init`], and for tests of what is logged.
pub fn dispatch<W>(format: Format, filter: EnvFilter, writer: W) -> Dispatch
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    match format {
        Format::Json => log.json().flatten_event(true).into(),
        Format::Text => log.with_ansi(std::io::stderr().is_terminal()).into(),
    }
}

#[cfg(test)]
mod tests {
    use portcullis_test_tools::log::Captured;

    use super::*;

    /// What `log` logs.
    fn logged(format: Format, log: impl FnOnce()) -> Captured {
        let captured = Captured::default();
        let writer = captured.clone();
        let dispatch = dispatch(format, EnvFilter::new("info"), move || writer.clone());
        tracing::dispatcher::with_default(&dispatch, log);
        captured
    }

    #[test]
    fn the_fields_of_an_event_stand_beside_its_message() {
        let records = logged(Format::Json, || {
            tracing::warn!(target: "portcullis::somewhere", rule = "shop/bots", rules = 3, dotted.name = %"x", "it \"is\" so");
            tracing::debug!("too fine");
            tracing::info!("bare");
        })
        .records();
        let [first, second] = &records[..] else { panic!("expected two lines, found {records:?}") };
        let said = |name: &str| first[name].clone();
        assert_eq!(said("level"), "WARN");
        assert_eq!(said("target"), "portcullis::somewhere");
        assert_eq!(said("message"), "it \"is\" so");
        assert_eq!(
            (said("rule"), said("rules"), said("dotted.name")),
            ("shop/bots".into(), 3.into(), "x".into())
        );
        let mut members: Vec<_> = second.keys().collect();
        members.sort();
        assert_eq!(members, ["level", "message", "target", "timestamp"]);
    }

    #[test]
    fn text_is_one_line_that_a_person_reads() {
        let text = logged(Format::Text, || tracing::info!(rules = 3, "serving")).text();
        assert!(text.contains(" INFO ") && text.ends_with("serving rules=3\n"), "{text}");
    }
}
