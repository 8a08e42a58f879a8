//! The walls that the compile child puts around itself before it looks at the module. They need no privileges: a
//! process may always give up what it has.

use std::fs;
use std::io;

use rustix::io::Errno;
use rustix::process::{
    Pid, Resource, Rlimit, Signal, getpid, getppid, set_parent_process_death_signal, setpriority_process,
    setrlimit,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use super::bounds::{CostBounds, Priority};

/// Gives everything up but stdin, stdout, stderr, memory and CPU time as `cost` says.
pub(crate) fn confine(cost: CostBounds, priority: Priority) -> Result<(), String> {
    let what = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
    close_other_files().map_err(what("close what was inherited"))?;
    die_with_parent().map_err(what("die with the parent"))?;
    step_back(priority);
    limit(cost).map_err(what("set resource limits"))?;
    seccompiler::apply_filter(&filter()?).map_err(|error| format!("install the system call filter: {error}"))
}

fn close_other_files() -> io::Result<()> {
    // SAFETY: nothing in this process owns a descriptor above stderr: it has opened none.
    match unsafe { libc::close_range(3, libc::c_uint::MAX, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn die_with_parent() -> io::Result<()> {
    let parent = getppid();
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have died before; then somebody else is the parent now.
    if parent.is_none() || getppid() != parent {
        return Err(io::Error::other("the parent is gone"));
    }
    Ok(())
}

/// Requests are served by others. None of this is needed for safety, so what a sandbox around us forbids is left out.
fn step_back(priority: Priority) {
    // The kernel's out-of-memory killer takes this process first.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    match priority {
        Priority::Idle => {
            let _ = setpriority_process(None, 19);
            let idle = libc::sched_param { sched_priority: 0 };
            // SAFETY: `idle` outlives the call, which only reads it.
            let _ = unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const idle) };
        }
        Priority::Low => {
            let _ = setpriority_process(None, 10);
        }
    }
}

fn limit(cost: CostBounds) -> io::Result<()> {
    // Out of CPU time is told by its signal, which a parent may have had ignored.
    // SAFETY: no handler is installed, and no other thread runs.
    unsafe { libc::signal(libc::SIGXCPU, libc::SIG_DFL) };
    let exactly = |value| Rlimit { current: Some(value), maximum: Some(value) };
    setrlimit(Resource::Core, exactly(0))?;
    setrlimit(Resource::Fsize, exactly(0))?;
    setrlimit(Resource::Nproc, exactly(0))?;
    setrlimit(Resource::As, exactly(address_space()?.saturating_add(cost.memory_bytes)))?;
    // Beyond the second one the kernel kills without a word; the first one says why.
    let cpu = Rlimit { current: Some(cost.cpu_seconds), maximum: Some(cost.cpu_seconds + 1) };
    Ok(setrlimit(Resource::Cpu, cpu)?)
}

/// Bytes of address space in use.
fn address_space() -> io::Result<u64> {
    let statm = fs::read_to_string("/proc/self/statm")?;
    let pages = statm.split(' ').next().and_then(|pages| pages.parse::<u64>().ok());
    let pages = pages.ok_or_else(|| io::Error::from(Errno::INVAL))?;
    Ok(pages * rustix::param::page_size() as u64)
}

/// What allocating, compiling, running Wasm, aborting and exiting need. Nothing opens, connects, forks or executes.
const ALLOWED: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_futex,
    libc::SYS_clock_gettime,
    libc::SYS_getrandom,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

fn filter() -> Result<BpfProgram, String> {
    let failed = |error: seccompiler::BackendError| format!("make the system call filter: {error}");
    let mut rules: std::collections::BTreeMap<_, _> =
        ALLOWED.iter().map(|&call| (call, Vec::new())).collect();
    // `abort` signals the process it is called in, and no other.
    let own =
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, own_pid()).map_err(failed)?;
    rules.insert(libc::SYS_tgkill, vec![SeccompRule::new(vec![own]).map_err(failed)?]);
    let arch = std::env::consts::ARCH.try_into().map_err(failed)?;
    SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, arch)
        .and_then(BpfProgram::try_from)
        .map_err(failed)
}

fn own_pid() -> u64 {
    Pid::as_raw(Some(getpid())).cast_unsigned().into()
}
