//! Versions change while requests run.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::JoinHandle;

use crate::http::{BROWSER, Client, SCRIPT};
use crate::serve::process::{Rules, Serving};
use portcullis_test_tools::upstream::upstream;

#[test]
fn a_module_is_replaced_while_requests_run_and_none_is_lost() {
    let rules = Rules::new();
    let serving = Serving::start(rules.path(), upstream(), &[]);
    let load = Load::start(serving.proxy);
    for (version, status) in [("2.0.0", 403), ("1.0.0", 200), ("2.0.0", 403)] {
        rules.module("rule.wasm", &format!("bad-bot-blocker-{version}"));
        serving.answers(SCRIPT, status);
    }
    let Answered { let_through, blocked } = load.stop();
    // Both versions answered under load.
    assert!(let_through > 0 && blocked > 0, "{let_through} let through, {blocked} blocked");
}

/// Two clients that send one request after the other, each on one connection.
struct Load {
    stop: Arc<AtomicBool>,
    clients: [JoinHandle<Answered>; 2],
}

/// What became of the requests of a program that 1.0.0 lets through and 2.0.0 blocks.
#[derive(Default)]
struct Answered {
    let_through: usize,
    blocked: usize,
}

impl Load {
    fn start(proxy: SocketAddr) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let clients = [(); 2].map(|()| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || run(proxy, &stop))
        });
        Self { stop, clients }
    }

    /// What was answered; a request that was lost fails the test.
    fn stop(self) -> Answered {
        self.stop.store(true, SeqCst);
        self.clients.into_iter().map(|client| client.join().unwrap()).fold(
            Answered::default(),
            |sum, client| Answered {
                let_through: sum.let_through + client.let_through,
                blocked: sum.blocked + client.blocked,
            },
        )
    }
}

fn run(proxy: SocketAddr, stop: &AtomicBool) -> Answered {
    let mut answered = Answered::default();
    let mut client = Client::connect(proxy).unwrap();
    let mut ask = |user_agent| client.get(user_agent).expect("no request is lost");
    while !stop.load(SeqCst) {
        let browser = ask(BROWSER);
        assert_eq!((browser.status, &*browser.body), (200, "upstream"));
        let script = ask(SCRIPT);
        match script.status {
            200 => {
                assert_eq!(script.body, "upstream");
                answered.let_through += 1;
            }
            403 => {
                assert!(script.body.starts_with("Blocked by WASM rule: bad-bot-blocker\n"), "{script:?}");
                answered.blocked += 1;
            }
            _ => panic!("an answer of neither version: {script:?}"),
        }
    }
    answered
}
