//! What costs a client little and a server much, sent in bulk: the connection ends, and others are served meanwhile.

use super::frames::{
    self, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, Frames, GOAWAY, HEADERS, PING,
    RST_STREAM, SETTINGS, frame,
};
use super::h2::cleartext;
use super::h2_client::{H2Client, block_on};
use super::upstream::Echo;

/// A client that sends `start` and then each of `more`, until it is told to be calm, and not longer than that.
#[track_caller]
fn flood(start: &[u8], more: impl Fn(u32) -> Vec<u8>, most: u32, reason: &str) {
    let upstream = Echo::start();
    let world = cleartext(upstream.address);
    block_on(async {
        let good = H2Client::connect(world.address).await;
        let mut bad = Frames::connect(world.address);
        bad.send(start);
        for number in 0..most {
            bad.send(more(number));
            if number % 1_000 == 0 {
                assert_eq!(good.get("http://a/").await.status, 200);
            }
        }
        let goaway = bad.wait_for(GOAWAY).expect("a flood is told why it ends");
        assert_eq!(goaway.code(), ENHANCE_YOUR_CALM);
        assert!(std::iter::from_fn(|| bad.next()).count() < 20, "it goes on");
        assert_eq!(good.get("http://a/").await.status, 200);
    });
    world.wait_for_metric(&format!(r#"portcullis_http2_connections_ended_total{{reason="{reason}"}} 1"#));
    world.wait_for_metric("portcullis_requests_in_flight 0");
    assert!(upstream.requests() < 500, "{} requests reached the upstream", upstream.requests());
}

fn id(number: u32) -> u32 {
    2 * number + 1
}

#[test]
fn rapid_reset() {
    let open_and_reset = |number| {
        let head = frame(HEADERS, END_HEADERS | END_STREAM, id(number), &frames::get(&[]));
        [head, frame(RST_STREAM, 0, id(number), &8u32.to_be_bytes())].concat()
    };
    // One at a time our own rate ends it; in one piece the library does, before any was accepted.
    let upstream = Echo::start();
    let world = cleartext(upstream.address);
    let mut bad = Frames::connect(world.address);
    bad.send((0..10_000).flat_map(open_and_reset).collect::<Vec<_>>());
    assert_eq!(bad.wait_for(GOAWAY).unwrap().code(), ENHANCE_YOUR_CALM);
    assert!(upstream.requests() < 500, "{} requests reached the upstream", upstream.requests());
    world.wait_for_metric("portcullis_connections 0");
    assert_eq!(world.client().get("/").status, 200);
}

#[test]
fn resets_of_streams_that_were_accepted() {
    let upstream = Echo::start();
    let world = cleartext(upstream.address);
    let mut bad = Frames::connect(world.address);
    for number in 0..2_000 {
        bad.send(frame(HEADERS, END_HEADERS, id(number), &frames::get(&[])));
        // The answer says that it was accepted.
        bad.send(frame(PING, 0, 0, &[0; 8]));
        let answered = std::iter::from_fn(|| bad.next()).find(|frame| matches!(frame.kind, PING | GOAWAY));
        match answered {
            Some(answered) if answered.kind == GOAWAY => {
                assert_eq!(answered.code(), ENHANCE_YOUR_CALM);
                assert!(number > 100, "a fair client was ended after {number} resets");
                world.wait_for_metric(r#"portcullis_http2_connections_ended_total{reason="resets"} 1"#);
                return;
            }
            _ => drop(bad.send(frame(RST_STREAM, 0, id(number), &8u32.to_be_bytes()))),
        }
    }
    panic!("two thousand resets are no flood");
}

#[test]
fn settings() {
    flood(&[], |_| frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]), 5_000, "settings");
}

#[test]
fn pings() {
    flood(&[], |_| frame(PING, 0, 0, &[0; 8]), 5_000, "pings");
}

#[test]
fn priorities() {
    flood(&[], |_| frame(2, 0, 1, &[0, 0, 0, 0, 16]), 20_000, "control_frames");
}

#[test]
fn data_without_data() {
    let start = frame(HEADERS, END_HEADERS, 1, &frames::get(&[]));
    flood(&start, |_| frame(DATA, 0, 1, &[]), 5_000, "protocol");
}

#[test]
fn a_head_in_endless_continuations() {
    let start = frame(HEADERS, END_STREAM, 1, &frames::get(&[]));
    flood(
        &start,
        |_| frame(CONTINUATION, 0, 1, &frames::block(&[("x", &"y".repeat(100))])),
        5_000,
        "protocol",
    );
}

#[test]
fn a_head_in_empty_continuations() {
    let start = frame(HEADERS, END_STREAM, 1, &frames::get(&[]));
    flood(&start, |_| frame(CONTINUATION, 0, 1, &[]), 5_000, "protocol");
}
