//! Child processes: each in a process group of its own, bounded in time, stopped as a group when the user interrupts.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::{interrupt, privilege};

/// No child of `xtask` may take longer than this unless it says so.
const DEFAULT_LIMIT: Duration = Duration::from_secs(30 * 60);
/// How long a child has between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(10);
/// The longest wait without a look at the interrupt flag.
const TICK: Duration = Duration::from_millis(500);
/// How much of a failed child's output an error quotes.
const QUOTED_LINES: usize = 20;

/// A program about to be run.
pub struct Invocation {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, Option<OsString>)>,
    dir: Option<std::path::PathBuf>,
    limit: Duration,
    as_root: bool,
    shielded: bool,
}

impl Invocation {
    /// A program run as the calling user.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            dir: None,
            limit: DEFAULT_LIMIT,
            as_root: false,
            shielded: false,
        }
    }

    /// A program run as root: through `sudo` unless the caller is root already.
    pub fn as_root(program: impl AsRef<OsStr>) -> Self {
        Self {
            as_root: true,
            ..Self::new(program)
        }
    }

    /// Adds one argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env
            .push((name.as_ref().to_owned(), Some(value.as_ref().to_owned())));
        self
    }

    /// Leaves a variable of the environment out; only for programs not run as root.
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), None));
        self
    }

    /// Runs it in that folder.
    pub fn dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.dir = Some(dir.as_ref().to_owned());
        self
    }

    /// The time after which the child is stopped and the run counts as failed.
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// For clean-up: runs to its end (within its limit) even after the user asked to stop.
    pub fn shielded(mut self) -> Self {
        self.shielded = true;
        self.within(Duration::from_secs(60))
    }

    /// Runs it with the caller's standard output and error; an error when it doesn't exit with 0.
    pub fn run(self) -> Result<()> {
        let shown = self.shown();
        let status = self.wait_for(Stdio::inherit(), Stdio::inherit())?;
        if !status.success() {
            bail!("`{shown}` ended with {status}; its output is above");
        }
        Ok(())
    }

    /// Runs it silently and returns its standard output; an error quotes the end of what it wrote.
    pub fn read(self) -> Result<String> {
        let shown = self.shown();
        let Output { status, out, err } = self.capture()?;
        if !status.success() {
            bail!(
                "`{shown}` ended with {status}:\n{}",
                tail(&format!("{out}{err}"))
            );
        }
        Ok(out)
    }

    /// Runs it silently; whether it could be started and exited with 0.
    pub fn succeeds(self) -> bool {
        self.capture().is_ok_and(|output| output.status.success())
    }

    /// Starts it; the caller reads its standard output and owns its end.
    pub fn spawn(self, stdout: Stdio, stderr: Stdio) -> Result<Group> {
        let shown = self.shown();
        let limit = self.limit;
        let shielded = self.shielded;
        if !shielded {
            interrupt::check()?;
        }
        let mut command = self.build();
        command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        let child = command
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start `{shown}`"))?;
        Ok(Group {
            child,
            shown,
            deadline: Instant::now() + limit,
            shielded,
            ended: None,
            left: false,
        })
    }

    /// Runs it silently and returns how it ended and what it wrote.
    pub fn capture(self) -> Result<Output> {
        let mut out = tempfile::tempfile().context("cannot create a temporary file")?;
        let mut err = tempfile::tempfile().context("cannot create a temporary file")?;
        let status = self.wait_for(out.try_clone()?.into(), err.try_clone()?.into())?;
        Ok(Output {
            status,
            out: contents(&mut out)?,
            err: contents(&mut err)?,
        })
    }

    fn wait_for(self, stdout: Stdio, stderr: Stdio) -> Result<ExitStatus> {
        self.spawn(stdout, stderr)?.wait()
    }

    fn build(self) -> Command {
        let through_sudo = self.as_root && !privilege::is_root();
        let mut command = if through_sudo {
            let mut sudo = Command::new("sudo");
            sudo.args(["-n", "env"]);
            for (name, value) in &self.env {
                if let Some(value) = value {
                    let mut pair = name.clone();
                    pair.push("=");
                    pair.push(value);
                    sudo.arg(pair);
                }
            }
            sudo.arg(&self.program);
            sudo
        } else {
            let mut command = Command::new(&self.program);
            for (name, value) in &self.env {
                match value {
                    Some(value) => command.env(name, value),
                    None => command.env_remove(name),
                };
            }
            command
        };
        command.args(&self.args);
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        command
    }

    fn shown(&self) -> String {
        let mut shown = self.program.to_string_lossy().into_owned();
        for arg in &self.args {
            shown.push(' ');
            shown.push_str(&arg.to_string_lossy());
        }
        shown
    }
}

/// How a child ended and what it wrote.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

/// A running child and its process group; stopped when dropped.
pub struct Group {
    child: Child,
    shown: String,
    deadline: Instant,
    shielded: bool,
    ended: Option<ExitStatus>,
    left: bool,
}

impl Group {
    /// The child's standard output, once.
    pub fn stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// Waits until the child ends; stops it at its limit or when the user interrupts, which are errors.
    pub fn wait(mut self) -> Result<ExitStatus> {
        loop {
            if let Some(status) = self.wait_until(self.deadline)? {
                return Ok(status);
            }
            self.still_allowed()?;
        }
    }

    /// An error when the child's time is over or the user asked to stop.
    pub fn still_allowed(&self) -> Result<()> {
        if interrupt::requested() && !self.shielded {
            bail!("interrupted while `{}` ran", beginning(&self.shown));
        }
        if Instant::now() >= self.deadline {
            bail!(
                "`{}` took longer than it may and was stopped",
                beginning(&self.shown)
            );
        }
        Ok(())
    }

    /// Whether the child has ended.
    pub fn has_ended(&mut self) -> Result<bool> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait()?;
        }
        Ok(self.ended.is_some())
    }

    /// Processor time used so far by the child and those it waited for, and by its own children that still run, seconds.
    pub fn cpu_seconds(&self) -> Result<f64> {
        // `timeout` is the child, the program its child: every process of the group counts.
        let mut ticks = 0_u64;
        for entry in std::fs::read_dir("/proc")
            .context("cannot read /proc")?
            .flatten()
        {
            let Ok(text) = std::fs::read_to_string(entry.path().join("stat")) else {
                continue;
            };
            // proc(5): the name in brackets, then state, parent, group …, utime and stime as 12th and 13th.
            let fields: Vec<&str> = text
                .rsplit(')')
                .next()
                .unwrap_or_default()
                .split_whitespace()
                .collect();
            if fields.get(2).and_then(|group| group.parse().ok()) == Some(self.child.id()) {
                let used = [fields.get(11), fields.get(12)];
                ticks += used
                    .into_iter()
                    .flatten()
                    .filter_map(|field| field.parse::<u64>().ok())
                    .sum::<u64>();
            }
        }
        // USER_HZ is 100 on this architecture.
        Ok(std::time::Duration::from_millis(ticks * 10).as_secs_f64())
    }

    /// Lets the child run on after this process has ended.
    pub fn leave(mut self) {
        self.left = true;
    }

    /// Asks the whole group to end, insists after a grace period, and reaps the child.
    pub fn stop(&mut self) {
        for signal in [Signal::TERM, Signal::KILL] {
            if self.has_ended().unwrap_or(true) {
                break;
            }
            self.signal(signal);
            let deadline = Instant::now() + GRACE;
            while Instant::now() < deadline && matches!(self.wait_until(deadline), Ok(None)) {}
        }
    }

    /// Waits at most one tick and not beyond `deadline`.
    fn wait_until(&mut self, deadline: Instant) -> Result<Option<ExitStatus>> {
        if self.has_ended()? {
            return Ok(self.ended);
        }
        let pid = pid_of(&self.child)?;
        let fd = pidfd_open(pid, PidfdFlags::empty())
            .with_context(|| format!("cannot watch `{}`", self.shown))?;
        let left = deadline.saturating_duration_since(Instant::now()).min(TICK);
        let left =
            Timespec::try_from(left).map_err(|_| anyhow!("a wait of {left:?} is too long"))?;
        match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&left)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => {
                return Err(error).with_context(|| format!("cannot wait for `{}`", self.shown));
            }
        }
        self.has_ended()?;
        Ok(self.ended)
    }

    fn signal(&self, signal: Signal) {
        let Ok(pid) = pid_of(&self.child) else { return };
        // A child that sudo started belongs to root: its group can only be reached the same way.
        if kill_process_group(pid, signal) == Err(Errno::PERM) {
            let name = if signal == Signal::KILL {
                "KILL"
            } else {
                "TERM"
            };
            Invocation::as_root("kill")
                .args(["-s", name, "--", &format!("-{}", pid.as_raw_nonzero())])
                .shielded()
                .succeeds();
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.left {
            self.stop();
        }
    }
}

fn pid_of(child: &Child) -> Result<Pid> {
    i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| anyhow!("child {} has no valid process id", child.id()))
}

fn contents(file: &mut File) -> Result<String> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Enough of a command to recognise it.
fn beginning(shown: &str) -> String {
    match shown.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &shown[..end]),
        None => shown.to_owned(),
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let skipped = lines.len().saturating_sub(QUOTED_LINES);
    lines
        .iter()
        .skip(skipped)
        .map(|line| format!("  {line}\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_returned_and_failure_quotes_it() {
        assert_eq!(
            Invocation::new("echo").arg("hello").read().unwrap(),
            "hello\n"
        );
        let error = Invocation::new("sh")
            .args(["-c", "echo why >&2; exit 3"])
            .read()
            .unwrap_err();
        assert!(error.to_string().contains("exit status: 3"), "{error}");
        assert!(error.to_string().contains("why"), "{error}");
    }

    #[test]
    fn a_child_that_takes_too_long_is_stopped_with_its_children() {
        let start = Instant::now();
        let error = Invocation::new("sh")
            .args(["-c", "sleep 600 & wait"])
            .within(Duration::from_millis(200))
            .read()
            .unwrap_err();
        assert!(error.to_string().contains("took longer"), "{error}");
        assert!(start.elapsed() < GRACE, "the group did not end at SIGTERM");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = Invocation::new("ashlar-no-such-program")
            .read()
            .unwrap_err();
        assert!(
            error.to_string().contains("ashlar-no-such-program"),
            "{error}"
        );
    }
}
