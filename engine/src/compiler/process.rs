//! Talks to one compile child: gives it its input, takes no more output than it may have, and waits no longer than
//! it may take.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::ioctl_fionbio;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::fault::CompilerFault;

/// Bytes of stderr that are kept: a panic's message, or that memory ran out.
const STDERR_KEPT: usize = 2 << 10;

/// What is started, and how much of it is waited for.
pub(crate) struct Conversation<'a> {
    pub(crate) program: &'a PathBuf,
    pub(crate) args: &'a [OsString],
    /// All of stdin.
    pub(crate) input: &'a [u8],
    /// Bytes of stdout.
    pub(crate) output_limit: usize,
    /// Real time, which a busy machine stretches.
    pub(crate) patience: Duration,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Conversation<'_> {
    /// Starts the process and waits for its end, on this thread: the child dies with the thread that started it.
    pub(crate) fn run(&self) -> Result<Ended, CompilerFault> {
        let child = Command::new(self.program)
            .args(self.args)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| CompilerFault::NotStarted(error.to_string()))?;
        let mut reaped = Reaped(child);
        let talked = self.talk(&mut reaped.0);
        // Whatever it still does, it has nobody to tell.
        let _ = reaped.0.kill();
        let status = reaped.0.wait().map_err(|error| CompilerFault::NotStarted(error.to_string()))?;
        let Talked { stdout, stderr, problem } =
            talked.map_err(|error| CompilerFault::NotStarted(error.to_string()))?;
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        match problem {
            None => Ok(Ended { status, stdout, stderr }),
            Some(Problem::TooMuch) => Err(CompilerFault::Broke {
                what: format!("wrote more than {} bytes", self.output_limit),
                said: stderr,
            }),
            Some(Problem::TooLong) => Err(CompilerFault::Starved(self.patience)),
        }
    }

    /// Until the process has ended and its pipes are read.
    fn talk(&self, child: &mut Child) -> io::Result<Talked> {
        let deadline = Instant::now() + self.patience;
        let ended = pidfd(child)?;
        let mut stdin = child.stdin.take();
        let mut stdout = Source::new(child.stdout.take(), self.output_limit)?;
        let mut stderr = Source::new(child.stderr.take(), STDERR_KEPT)?;
        if let Some(pipe) = &stdin {
            ioctl_fionbio(pipe, true)?;
        }
        let mut unsent = self.input;
        let mut problem = None;
        loop {
            let has_ended = wait(&ended, stdin.as_ref(), &stdout, &stderr, deadline)?;
            if let Some(pipe) = &mut stdin
                && send(pipe, &mut unsent)?
            {
                stdin = None;
            }
            stderr.drain()?;
            if stdout.drain()? {
                problem = Some(Problem::TooMuch);
                break;
            }
            if has_ended {
                break;
            }
            if Instant::now() >= deadline {
                problem = Some(Problem::TooLong);
                break;
            }
        }
        Ok(Talked { stdout: stdout.bytes, stderr: stderr.bytes, problem })
    }
}

struct Talked {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    problem: Option<Problem>,
}

enum Problem {
    TooMuch,
    TooLong,
}

/// Leaves no zombie behind, whatever happens.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        // Neither fails for a child that was waited for already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One of the child's outputs.
struct Source<R> {
    pipe: Option<R>,
    bytes: Vec<u8>,
    limit: usize,
}

impl<R: Read + AsFd> Source<R> {
    fn new(pipe: Option<R>, limit: usize) -> io::Result<Self> {
        if let Some(pipe) = &pipe {
            ioctl_fionbio(pipe, true)?;
        }
        Ok(Self { pipe, bytes: Vec::new(), limit })
    }

    /// Reads what is there, and says whether that is more than there may be. What is too much is not kept.
    fn drain(&mut self) -> io::Result<bool> {
        let mut too_much = false;
        while let Some(pipe) = &mut self.pipe {
            let mut chunk = [0; 64 << 10];
            match pipe.read(&mut chunk) {
                Ok(0) => self.pipe = None,
                Ok(read) => {
                    let room = self.limit - self.bytes.len();
                    too_much |= read > room;
                    self.bytes.extend_from_slice(&chunk[..read.min(room)]);
                    if too_much {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(too_much)
    }
}

/// Writes what fits into the pipe, and says whether there is nothing more to write.
fn send(pipe: &mut impl Write, unsent: &mut &[u8]) -> io::Result<bool> {
    while !unsent.is_empty() {
        match pipe.write(unsent) {
            Ok(written) => *unsent = &unsent[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // It does not read on; its answer or its end says why.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(true),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// Waits until there is something to do, and says whether the process has ended.
fn wait(
    ended: &OwnedFd,
    stdin: Option<&impl AsFd>,
    stdout: &Source<impl AsFd>,
    stderr: &Source<impl AsFd>,
    deadline: Instant,
) -> io::Result<bool> {
    let mut events = vec![PollFd::new(ended, PollFlags::IN)];
    events.extend(stdin.map(|pipe| PollFd::new(pipe, PollFlags::OUT)));
    events.extend(stdout.pipe.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
    events.extend(stderr.pipe.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
    let left = deadline.saturating_duration_since(Instant::now());
    let left = Timespec::try_from(left).map_err(io::Error::other)?;
    match poll(&mut events, Some(&left)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(!events[0].revents().is_empty()),
        Err(error) => Err(error.into()),
    }
}

/// A descriptor that becomes readable when the process ends.
fn pidfd(child: &Child) -> io::Result<OwnedFd> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("a process without a number"))?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

/// The signal that ended a process.
pub(crate) fn signal(status: ExitStatus) -> Option<i32> {
    status.signal()
}
