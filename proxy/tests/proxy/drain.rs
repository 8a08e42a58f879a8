//! The end of a proxy, without losing a request.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use super::client::Client;
use super::upstream::{self, Echo, read_head};
use super::world::{World, wait_until};

#[test]
fn answers_say_close_from_the_start_of_the_drain_on() {
    let upstream = Echo::start();
    let world = World::configured(upstream.address, |config| config.drain.delay = Duration::from_secs(60));
    let (mut old, mut idle) = (world.client(), world.client());
    assert_eq!(old.get("/").header("connection"), None);
    assert_eq!(idle.get("/").header("connection"), None);
    world.drain.start();
    // The worker hears of it a moment later.
    wait_until("an answer to say close", || world.client().get("/").header("connection") == Some("close"));
    let answer = old.get("/");
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    old.assert_closed();
    let mut new = world.client();
    assert_eq!(new.get("/").status, 200);
    new.assert_closed();
    assert!(world.running.as_ref().unwrap().is_serving());
    assert_eq!(idle.get("/").status, 200);
}

#[test]
fn requests_under_way_end_and_idle_connections_are_closed() {
    let go = Arc::<AtomicBool>::default();
    let may_answer = Arc::clone(&go);
    let upstream = upstream::raw(move |_, mut stream| {
        while let Some(head) = read_head(&mut stream) {
            if head.contains("/slow") {
                wait_until("the test to let answers out", || may_answer.load(SeqCst));
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
        }
    });
    let mut world = World::before(upstream);
    let (mut slow, mut idle) = (world.client(), world.client());
    assert_eq!(idle.get("/").status, 200);
    slow.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    world.wait_for_metric("portcullis_requests_in_flight 1");
    world.drain.start();
    idle.assert_closed();
    go.store(true, SeqCst);
    let answer = slow.answer();
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    slow.assert_closed();
    assert_eq!(world.running.take().unwrap().join(), 0);
}

#[test]
fn a_request_that_never_ends_does_not_keep_the_proxy_forever() {
    let upstream = upstream::raw(|_, mut stream| while read_head(&mut stream).is_some() {});
    let mut world = World::configured(upstream, |config| config.drain.timeout = Duration::from_millis(100));
    let mut client = world.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    world.wait_for_metric("portcullis_requests_in_flight 1");
    world.drain.start();
    assert_eq!(world.running.take().unwrap().join(), 0);
    client.assert_closed();
}

/// Ends the one under a load whose answers are counted, and has the load go on to the other.
pub(crate) fn take_over(
    old: &mut World,
    new: &World,
    target: &std::sync::Mutex<std::net::SocketAddr>,
    answered: &AtomicUsize,
) {
    wait_until("some answers", || answered.load(SeqCst) > 200);
    old.drain.start();
    let at_start = answered.load(SeqCst);
    wait_until("answers while draining", || answered.load(SeqCst) > at_start + 50);
    *target.lock().unwrap() = new.address;
    assert_eq!(old.running.take().unwrap().join(), 0);
    let at_end = answered.load(SeqCst);
    wait_until("answers of the new one", || answered.load(SeqCst) > at_end + 50);
}

#[test]
fn no_request_is_lost_when_one_proxy_takes_over_from_another() {
    let upstream = Echo::start();
    let mut old = World::configured(upstream.address, |config| {
        config.workers = 2;
        config.drain.delay = Duration::from_millis(300);
    });
    let new = World::configured(upstream.address, |config| config.workers = 2);
    // What a load balancer does: it sends to the old one until some time after the drain began.
    let target = Arc::new(std::sync::Mutex::new(old.address));
    let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (target, stop, answered) = (Arc::clone(&target), Arc::clone(&stop), Arc::clone(&answered));
            std::thread::spawn(move || {
                let mut connection: Option<Client> = None;
                while !stop.load(SeqCst) {
                    let client = connection.get_or_insert_with(|| Client::connect(*target.lock().unwrap()));
                    let answer = client.get("/");
                    assert_eq!(answer.status, 200);
                    answered.fetch_add(1, SeqCst);
                    if answer.header("connection") == Some("close") {
                        connection = None;
                    }
                }
            })
        })
        .collect();
    take_over(&mut old, &new, &target, &answered);
    stop.store(true, SeqCst);
    for client in clients {
        client.join().unwrap();
    }
}

#[test]
fn a_request_that_has_begun_when_the_connections_close_is_still_served() {
    let upstream = Echo::start();
    let mut world = World::before(upstream.address);
    let mut client = world.client();
    assert_eq!(client.get("/").status, 200);
    // The first answers of the pair make sure that the first half of the next request was read.
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\n");
    assert_eq!(client.answer().status, 200);
    world.drain.start();
    wait_until("the drain to reach new connections", || {
        let mut other = world.client();
        other.get("/").header("connection") == Some("close")
    });
    let answer = client.send("Host: a\r\n\r\n").answer();
    assert!(answer.body.starts_with("GET /second "), "{}", answer.body);
    client.assert_closed();
    assert_eq!(world.running.take().unwrap().join(), 0);
}
