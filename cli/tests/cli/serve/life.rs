//! Health, and the end.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use crate::http::{Answer, BROWSER, get, request, tcp};
use crate::serve::process::{Rules, Serving, eventually};
use portcullis_test_tools::upstream::{answer, serving, upstream};

#[test]
fn sigterm_lets_requests_under_way_end_and_exits_0() {
    let rules = Rules::new();
    let (held, upstream) = Held::start();
    let mut serving = Serving::start(rules.path(), upstream, &[]);
    let client = asking(serving.proxy);
    held.arrived();
    serving.signal("TERM");
    serving.logs("draining");
    held.release.send(()).unwrap();
    let answer = client.join().unwrap();
    assert_eq!((answer.status, &*answer.body), (200, "at last"));
    assert_eq!(serving.ends().code(), Some(0));
}

#[test]
fn a_second_signal_does_not_wait_for_requests_under_way() {
    let rules = Rules::new();
    let (held, upstream) = Held::start();
    let mut serving = Serving::start(rules.path(), upstream, &[]);
    let client = asking(serving.proxy);
    held.arrived();
    serving.signal("INT");
    serving.logs("draining");
    serving.signal("INT");
    assert_eq!(serving.ends().code(), Some(2));
    serving.logs("ended by a second signal");
    assert!(client.join().is_err(), "its connection broke");
}

#[test]
fn health_and_metrics_are_on_their_own_port_and_ready_ends_with_the_first_signal() {
    let rules = Rules::new();
    let mut serving = Serving::start(rules.path(), upstream(), &["--health-listen", "127.0.0.1:0"]);
    let health = serving.announced("health and metrics on http://");
    let side = |path: &str| tcp(health, &request("GET", path, "Connection: close\r\n", b""));
    assert_eq!((side("/healthz").status, side("/readyz").status), (200, 200));
    assert_eq!(get(serving.proxy, BROWSER).status, 200);
    assert!(side("/metrics").body.contains("portcullis_"), "{:?}", side("/metrics"));
    serving.signal("TERM");
    // While a load balancer finds out, connections are taken as before.
    eventually(|| match side("/readyz") {
        answer if answer.status == 503 => Ok(()),
        answer => Err(format!("{answer:?}")),
    });
    assert_eq!(get(serving.proxy, BROWSER).status, 200);
    assert_eq!(serving.ends().code(), Some(0));
}

/// An upstream that says when a request has come, and answers it when told to.
struct Held {
    arrived: Receiver<()>,
    release: Sender<()>,
}

impl Held {
    fn start() -> (Self, SocketAddr) {
        let ((tell, arrived), (release, wait)) = (channel(), channel());
        let wait = Mutex::new(wait);
        let address = serving(move |_| {
            tell.send(()).unwrap();
            match wait.lock().unwrap().recv() {
                Ok(()) => answer("200 OK", "at last"),
                // The test has ended: there is nobody to read it.
                Err(_) => String::new(),
            }
        });
        (Self { arrived, release }, address)
    }

    fn arrived(&self) {
        self.arrived.recv_timeout(crate::http::PATIENCE).unwrap();
    }
}

fn asking(proxy: SocketAddr) -> JoinHandle<Answer> {
    std::thread::spawn(move || get(proxy, BROWSER))
}
