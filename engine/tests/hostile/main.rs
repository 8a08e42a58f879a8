//! Modules written to harm their host. Each is refused, or ends within its limits with the error that it deserves, and
//! the next rule is served as if nothing had been.

mod abi_2;
mod as_rule;
mod bounds;
mod describe;
mod runs;
mod smith;
mod table;
mod watchdog;

use std::time::Duration;

use portcullis_engine::{Engine, EngineConfig, Limits};
use portcullis_view::{Head, Sections, View};

/// A pool of four slots.
fn engine() -> Engine {
    Engine::new(&EngineConfig { workers: 1, ..EngineConfig::default() }).unwrap()
}

/// Bounded by fuel: the deadline is there so that what escapes it fails instead of running for ever.
fn limits() -> Limits {
    Limits { deadline: Duration::from_secs(20), ..Limits::default() }
}

/// A request with something in every section.
fn view(sections: Sections) -> View {
    let mut view = View::new();
    let head = Head::from_localhost(b"POST", b"/a/b?c=d&e=%66");
    let fields: [(&[u8], &[u8]); 3] = [
        (b"host", b"localhost"),
        (b"cookie", b"a=b; c=d"),
        (b"content-type", b"application/x-www-form-urlencoded"),
    ];
    view.head(&head, fields, sections);
    view.body(b"a=b", sections);
    view.trailers([(&b"x"[..], &b"y"[..])], sections);
    view.response_head(200, [(&b"content-type"[..], &b"text/html"[..])], sections);
    view.response_body(b"<html>", sections);
    view.hook(b"sql", b"query", [&b"SELECT 1"[..]], sections);
    view
}
