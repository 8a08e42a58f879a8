//! What the child may do, looked at while it compiles something slow.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use portcullis_engine::{CompileError, CompilerFault};
use rustix::process::{Pid, Signal, kill_process};

use crate::{compiler, engine, tests, worst};

tests![
    the_child_has_no_files_no_network_and_little_of_everything,
    a_child_that_is_killed_is_nobodys_fault_and_the_next_one_works,
];

/// Starts a compilation that takes seconds, and hands over the child once it has begun.
fn while_compiling(look: impl FnOnce(Pid)) -> Result<portcullis_engine::Module, CompileError> {
    let (engine, compiler) = (engine(), compiler());
    let slow = worst::calls(2_000_000);
    std::thread::scope(|scope| {
        let compiling = scope.spawn(|| compiler.compile(&engine, &slow, None));
        let child = wait_for_child();
        look(child);
        // Whatever was found out, it is not needed any more.
        let _ = kill_process(child, Signal::KILL);
        compiling.join().unwrap()
    })
}

/// A process whose parent is this one and whose filter is in place.
fn wait_for_child() -> Pid {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        for entry in fs::read_dir("/proc").unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let Ok(pid) = name.parse::<i32>() else { continue };
            let status = status(pid);
            if status.get("PPid") == Some(&std::process::id().to_string())
                && status.get("Seccomp").map(String::as_str) == Some("2")
            {
                return Pid::from_raw(pid).unwrap();
            }
        }
        std::thread::yield_now();
    }
    panic!("no compile child was started");
}

fn status(pid: i32) -> BTreeMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

fn the_child_has_no_files_no_network_and_little_of_everything() {
    // One that a child would inherit.
    let leaked = fs::File::open("/proc/self/status").unwrap();
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    let _ = while_compiling(|child| {
        let child = child.as_raw_nonzero().get();
        let status = status(child);
        assert_eq!(status["NoNewPrivs"], "1");
        assert_eq!(status["Threads"], "1");

        let proc = PathBuf::from(format!("/proc/{child}"));
        let mut files: Vec<String> = fs::read_dir(proc.join("fd"))
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| {
                let target = fs::read_link(entry.path()).unwrap();
                format!(
                    "{} {}",
                    entry.file_name().display(),
                    target.display().to_string().split(':').next().unwrap()
                )
            })
            .collect();
        files.sort();
        assert_eq!(files, ["0 pipe", "1 pipe", "2 pipe"]);
        assert_eq!(fs::read(proc.join("environ")).unwrap(), b"");

        let limits = fs::read_to_string(proc.join("limits")).unwrap();
        let limit = |name: &str| -> Vec<String> {
            let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
            line[name.len()..].split_whitespace().take(2).map(str::to_owned).collect()
        };
        assert_eq!(limit("Max cpu time"), ["5", "6"]);
        assert_eq!(limit("Max file size"), ["0", "0"]);
        assert_eq!(limit("Max core file size"), ["0", "0"]);
        assert_eq!(limit("Max processes"), ["0", "0"]);
        let space: u64 = limit("Max address space")[0].parse().unwrap();
        assert!((512 << 20..1 << 30).contains(&space), "{space}");

        assert_eq!(fs::read_to_string(proc.join("oom_score_adj")).unwrap().trim(), "1000");
        let stat = fs::read_to_string(proc.join("stat")).unwrap();
        // After the name, which is in brackets: nice is the 17th field, the scheduling policy the 39th.
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        assert_eq!((fields[16], fields[38]), ("19", "5"));
    });
}

fn a_child_that_is_killed_is_nobodys_fault_and_the_next_one_works() {
    let error = while_compiling(|child| kill_process(child, Signal::KILL).unwrap()).unwrap_err();
    assert_eq!(error, CompileError::Compiler(CompilerFault::Killed { signal: 9, said: String::new() }));
    assert!(error.is_host_fault());
    assert!(compiler().compile(&engine(), &crate::modules::blocks(), None).is_ok());
}
