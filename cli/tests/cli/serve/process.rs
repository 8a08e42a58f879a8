//! A serving process, and the folder of its rules.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::http::{Answer, PATIENCE, get};
use crate::modules::bytes;
use crate::portcullis::command;

/// `portcullis serve`; it ends when this is dropped.
pub(super) struct Serving {
    child: Child,
    /// What it said until it listened.
    pub(super) announced: String,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
    /// Where clients connect.
    pub(super) proxy: SocketAddr,
}

impl Serving {
    /// Starts it on free ports and waits until it listens.
    #[track_caller]
    pub(super) fn start(rules: &Path, upstream: SocketAddr, more: &[&str]) -> Self {
        let upstream = format!("http://{upstream}");
        let rules = rules.to_str().unwrap();
        let fixed = ["serve", "--listen", "127.0.0.1:0", "--upstream", &upstream, "--rules", rules];
        let mut child = command(&[&fixed[..], more].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::<Mutex<String>>::default();
        let reader = Some(collect(child.stderr.take().unwrap(), Arc::clone(&log)));
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut announced = String::new();
        loop {
            let Some(line) = lines.next() else {
                let status = child.wait().unwrap();
                panic!("it ended with {status} instead of listening: {announced}{}", log.lock().unwrap());
            };
            announced.push_str(&line.unwrap());
            announced.push('\n');
            if let Some(proxy) = address(&announced, "listening on http://") {
                return Self { child, announced, log, reader, proxy };
            }
        }
    }

    /// The address that it announced after these words.
    #[track_caller]
    pub(super) fn announced(&self, before: &str) -> SocketAddr {
        address(&self.announced, before).unwrap_or_else(|| panic!("no {before} in {}", self.announced))
    }

    /// Waits until its log has this text, and returns the line.
    #[track_caller]
    pub(super) fn logs(&self, text: &str) -> String {
        let has = || self.log.lock().unwrap().lines().find(|line| line.contains(text)).map(str::to_owned);
        eventually(|| has().ok_or_else(|| format!("no {text:?} in {}", self.log.lock().unwrap())))
    }

    /// All that it logged; it has to end.
    #[track_caller]
    pub(super) fn log_to_the_end(&mut self) -> String {
        self.reader.take().unwrap().join().unwrap();
        self.log.lock().unwrap().clone()
    }

    /// Waits until a GET with this user agent has this status, and returns the answer.
    #[track_caller]
    pub(super) fn answers(&self, user_agent: &str, status: u16) -> Answer {
        eventually(|| {
            let answer = get(self.proxy, user_agent);
            if answer.status == status { Ok(answer) } else { Err(format!("{user_agent}: {answer:?}")) }
        })
    }

    /// Sends it a signal by name, `TERM` for example.
    pub(super) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Waits for its end.
    #[track_caller]
    pub(super) fn ends(&mut self) -> ExitStatus {
        eventually(|| self.child.try_wait().unwrap().ok_or_else(|| "it does not end".to_owned()))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // Both fail only when it has ended already, which is what is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            eprintln!("{}{}", self.announced, self.log.lock().unwrap());
        }
    }
}

fn address(announced: &str, before: &str) -> Option<SocketAddr> {
    let (_, rest) = announced.split_once(before)?;
    let end = rest.find([',', '\n'])?;
    rest[..end].parse().ok()
}

fn collect(pipe: impl Read + Send + 'static, log: Arc<Mutex<String>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let mut log = log.lock().unwrap();
            log.push_str(&line);
            log.push('\n');
        }
    })
}

/// Asks again until it is so.
#[track_caller]
pub(super) fn eventually<T>(mut so: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match so() {
            Ok(it) => return it,
            Err(found) => assert!(Instant::now() < deadline, "waited in vain: {found}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A folder of rules.
pub(super) struct Rules(TempDir);

impl Rules {
    /// With the rule `bad-bot-blocker`, version 1.0.0.
    pub(super) fn new() -> Self {
        let rules = Self(tempfile::tempdir().unwrap());
        rules.module("rule.wasm", "bad-bot-blocker-1.0.0");
        rules.yaml("rule.yaml", "");
        rules
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Puts a module of rules/dist into the folder, as a careful person replaces a file: whole or not at all.
    pub(super) fn module(&self, file: &str, name: &str) {
        self.put(file, &bytes(name));
    }

    /// Writes the rule `bad-bot-blocker` with these more lines of its spec.
    pub(super) fn yaml(&self, file: &str, more: &str) {
        // A deadline that holds on a busy machine.
        let text = format!(
            "apiVersion: portcullis.dev/v1alpha1\nkind: WasmRule\nmetadata: {{name: bad-bot-blocker}}\nspec:\n  \
             source: {{file: rule.wasm}}\n  limits: {{deadline: 10ms}}\n{more}"
        );
        self.put(file, text.as_bytes());
    }

    pub(super) fn put(&self, file: &str, content: &[u8]) -> PathBuf {
        let new = self.path().join(format!(".{file}.new"));
        let file = self.path().join(file);
        std::fs::write(&new, content).unwrap();
        std::fs::rename(&new, &file).unwrap();
        file
    }
}
