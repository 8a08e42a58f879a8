//! A CPU quota around one process: a control group, of version 1 or 2.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Microseconds of one period.
const PERIOD: u32 = 100_000;

/// A control group with one process in it; removed when this is dropped, and the process is gone or moved back.
pub(crate) struct Quota {
    group: PathBuf,
    root: PathBuf,
    pid: u32,
    is_version_2: bool,
}

impl Quota {
    /// Puts a process into a group of its own, without a limit yet.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let is_version_2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        let root = PathBuf::from(if is_version_2 { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/cpu" });
        let group = root.join(format!("portcullis-overload-{pid}"));
        if is_version_2 {
            write(&root.join("cgroup.subtree_control"), "+cpu")?;
        }
        fs::create_dir(&group)
            .with_context(|| format!("{}: this test needs root and CPU control groups", group.display()))?;
        write(&group.join("cgroup.procs"), &pid.to_string())?;
        Ok(Self { group, root, pid, is_version_2 })
    }

    /// Limits the process to so many CPUs.
    pub(crate) fn set(&self, cpus: f64) -> Result<()> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 1 ms and minutes"
        )]
        let quota = (cpus * f64::from(PERIOD)).max(1_000.0) as u64;
        if self.is_version_2 {
            return write(&self.group.join("cpu.max"), &format!("{quota} {PERIOD}"));
        }
        write(&self.group.join("cpu.cfs_period_us"), &PERIOD.to_string())?;
        write(&self.group.join("cpu.cfs_quota_us"), &quota.to_string())
    }

    /// Periods in which the process wanted more than it got.
    pub(crate) fn throttled(&self) -> Result<u64> {
        let stat = fs::read_to_string(self.group.join("cpu.stat"))?;
        let count = stat.lines().find_map(|line| line.strip_prefix("nr_throttled "));
        count.context("cpu.stat has no nr_throttled")?.parse().context("nr_throttled is no number")
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = fs::write(self.root.join("cgroup.procs"), self.pid.to_string());
        if let Err(error) = fs::remove_dir(&self.group) {
            eprintln!("{}: {error}", self.group.display());
        }
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("{}: cannot write {text:?}", path.display()))
}
