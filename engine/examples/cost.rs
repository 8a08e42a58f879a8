//! What a rule costs: `cargo run -p portcullis-engine --example cost -- rule.wasm`.
//!
//! Prints the time to compile it, and fuel and time of one evaluation. Times are this machine's and this moment's;
//! fuel is the same everywhere.

use std::time::Instant;

use portcullis_engine::abi1::{self, RequestView};
use portcullis_engine::{Engine, EngineConfig, Limits};

const EVALUATIONS: u32 = 5_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: cost MODULE (.wasm or .wat)")?;
    let module = wat::parse_file(&path)?;
    let engine = Engine::new(&EngineConfig::default())?;
    let begin = Instant::now();
    let rule = engine.compile(&module)?;
    println!("compiled in {:?}: {:?}", begin.elapsed(), rule.info());

    let mut request = Vec::new();
    abi1::encode(
        &RequestView {
            method: "GET",
            uri: "/p/4711?ref=search",
            version: "HTTP/1.1",
            source_ip: "203.0.113.42".parse()?,
            headers: &[
                ("host", b"shop.example"),
                ("user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
                ("accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
                ("accept-language", b"en-US,en;q=0.5"),
                ("accept-encoding", b"gzip, deflate, br, zstd"),
                ("cookie", b"session=0123456789abcdef0123456789abcdef; consent=all"),
            ],
            body: None,
        },
        &mut request,
    );
    let limits = Limits::default();
    let inspection = rule.inspect(&request, &limits)?;
    let begin = Instant::now();
    for _ in 0..EVALUATIONS {
        rule.inspect(&request, &limits)?;
    }
    println!("{inspection:?} on {} bytes, {:?} each", request.len(), begin.elapsed() / EVALUATIONS);
    Ok(())
}
