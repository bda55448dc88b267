//! One Ashlar host on this machine, for the main job and for the tests: a private folder with a disk pool, a daemon on it,
//! and its command line. Taken away whole when dropped: instances, networks, mounts, files.
//!
//! ```text
//! Host::new ─→ start ⇄ stop | kill ─→ tear_down (or Drop)
//! ```

use std::fs::{self, DirBuilder, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use crate::command::{Group, Invocation, Output};
use crate::pool::Pool;
use crate::{paths, progress};

/// How long the daemon may take to be ready, or a single command to answer, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a daemon that an earlier run left has to end.
const LAST_GRACE: Duration = Duration::from_secs(10);
/// A daemon runs until it is stopped.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A host of its own.
pub struct Host {
    dir: PathBuf,
    pool: Option<Pool>,
    daemon: Option<Daemon>,
    options: Vec<String>,
    started_before: bool,
}

struct Daemon {
    group: Group,
    pid: String,
}

impl Host {
    /// A host in that folder, which is made private to the caller; what an earlier run left in it is removed. `pool_size` bytes
    /// (sparse) for its disks; `options` go to `ashlard serve`.
    pub fn new(dir: &Path, pool_size: u64, options: &[&str]) -> Result<Self> {
        let mut host = Self {
            dir: dir.to_owned(),
            pool: None,
            daemon: None,
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            started_before: dir.exists(),
        };
        if host.started_before {
            check_owner(dir)?;
            host.remove()
                .context("cannot remove what an earlier run left")?;
        }
        DirBuilder::new()
            .mode(0o700)
            .create(dir)
            .with_context(|| format!("cannot create {}", dir.display()))?;
        host.pool = Some(Pool::make(dir, pool_size)?);
        Ok(host)
    }

    /// From its next start on the daemon has these options instead of those before.
    pub fn set_options(&mut self, options: &[&str]) {
        self.options = options.iter().map(|option| (*option).to_owned()).collect();
    }

    /// Starts the daemon and waits until it serves.
    pub fn start(&mut self) -> Result<()> {
        if self.daemon.is_some() {
            bail!("the daemon on {} runs already", self.dir.display());
        }
        self.started_before = true;
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log())
            .with_context(|| format!("cannot write {}", self.log().display()))?;
        let mut group = self
            .ashlard("serve")
            .args(&self.options)
            .env(
                "ASHLAR_LOG",
                std::env::var("ASHLAR_LOG").unwrap_or_else(|_| "info".to_owned()),
            )
            .within(FOREVER)
            .spawn(Stdio::piped(), log.into())?;
        let ready = first_line(&mut group)?;
        let pid = ready
            .strip_prefix("ready ")
            .and_then(|words| words.split(' ').find_map(|word| word.strip_prefix("pid=")));
        match pid {
            Some(pid) => {
                self.daemon = Some(Daemon {
                    pid: pid.to_owned(),
                    group,
                });
                Ok(())
            }
            None => {
                group.stop();
                bail!("the daemon did not start; it said:\n{}", self.last_words())
            }
        }
    }

    /// Asks the daemon to end and waits for it. Instances go on.
    pub fn stop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.group.stop();
        }
    }

    /// Kills the daemon without a warning. Instances go on.
    pub fn kill(&mut self) -> Result<()> {
        let daemon = self.daemon.take().context("the daemon does not run")?;
        Invocation::as_root("kill")
            .args(["-s", "KILL", &daemon.pid])
            .read()?;
        // The group is reaped as it is dropped.
        Ok(())
    }

    /// Whether the daemon still runs.
    pub fn runs(&mut self) -> bool {
        self.daemon
            .as_mut()
            .is_some_and(|daemon| !daemon.group.has_ended().unwrap_or(true))
    }

    /// The process id of the daemon, if it was started.
    pub fn pid(&self) -> Option<&str> {
        Some(&self.daemon.as_ref()?.pid)
    }

    /// Runs `ashlar ARGS --output json` and returns what it printed; an error quotes what it said.
    pub fn cli<S: AsRef<str>>(&self, args: &[S]) -> Result<Value> {
        let output = self.try_cli(args)?;
        let shown = args.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(" ");
        if !output.status.success() {
            bail!(
                "`ashlar {shown}` ended with {}: {}",
                output.status,
                output.err.trim()
            );
        }
        if output.out.trim().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&output.out)
            .with_context(|| format!("`ashlar {shown}` printed no JSON: {}", output.out))
    }

    /// The same, for commands that may fail.
    pub fn try_cli<S: AsRef<str>>(&self, args: &[S]) -> Result<Output> {
        self.ashlar()
            .args(args.iter().map(AsRef::as_ref))
            .args(["--output", "json"])
            .within(PATIENCE)
            .capture()
    }

    /// `ashlar` for this host, as root: the socket belongs to root.
    pub fn ashlar(&self) -> Invocation {
        Invocation::as_root(paths::program("ashlar")).env("ASHLAR_HOST", self.address())
    }

    /// `ashlard TASK --state …` for this host.
    pub fn ashlard(&self, task: &str) -> Invocation {
        let pool = self
            .pool
            .as_ref()
            .map_or_else(|| self.dir.join("pool"), Pool::path);
        Invocation::as_root(paths::program("ashlard"))
            .arg(task)
            .arg("--state")
            .arg(self.state())
            .arg("--pool")
            .arg(pool.join("volumes"))
    }

    /// What `ASHLAR_HOST` must be.
    pub fn address(&self) -> String {
        format!("unix:{}", self.state().join("api.sock").display())
    }

    /// The state folder.
    pub fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// The folder of images and disks.
    pub fn volumes(&self) -> PathBuf {
        let pool = self
            .pool
            .as_ref()
            .map_or_else(|| self.dir.join("pool"), Pool::path);
        pool.join("volumes")
    }

    /// The daemon's log.
    pub fn log(&self) -> PathBuf {
        self.dir.join("ashlard.log")
    }

    /// The end of the daemon's log.
    pub fn last_words(&self) -> String {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Whether a file system was made for the pool.
    pub fn made_a_pool(&self) -> bool {
        self.pool.as_ref().is_some_and(Pool::was_made)
    }

    /// Leaves everything as it is: the daemon runs on, the pool stays mounted.
    pub fn leave(mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.group.leave();
        }
        if let Some(pool) = self.pool.take() {
            pool.keep();
        }
        self.started_before = false;
        self.dir = PathBuf::new();
    }

    /// Ends the daemon and every instance and removes whatever the host made.
    pub fn tear_down(mut self) -> Result<()> {
        self.remove()
    }

    fn remove(&mut self) -> Result<()> {
        if self.dir.as_os_str().is_empty() || !self.dir.exists() {
            return Ok(());
        }
        self.stop();
        if self.started_before {
            self.stop_left_daemon()?;
        }
        let torn_down =
            if self.started_before && self.state().exists() && paths::program("ashlard").exists() {
                self.ashlard("teardown").shielded().read().map(drop)
            } else {
                Ok(())
            };
        self.pool = None;
        let removed = Pool::remove(&self.dir).and_then(|()| {
            // Made by the daemon as root.
            Invocation::as_root("rm")
                .args(["-rf", "--"])
                .arg(&self.dir)
                .shielded()
                .read()
        });
        // What failed first is why the rest did.
        torn_down.and(removed.map(drop))
    }
}

impl Host {
    /// Ends the daemon that an earlier run left in this folder, if it still runs.
    fn stop_left_daemon(&self) -> Result<()> {
        let read = |file: &Path| Invocation::as_root("cat").arg(file).shielded().read();
        // The daemon writes its process id into the lock of its state folder; the id may be another process's by now.
        let Ok(pid) = read(&self.state().join("lock")) else {
            return Ok(());
        };
        let process = Path::new("/proc").join(pid.trim());
        let runs = || {
            let command = read(&process.join("cmdline")).unwrap_or_default();
            serves(&command, &self.state())
        };
        for signal in ["TERM", "KILL"] {
            if !runs() {
                return Ok(());
            }
            progress::note(format!(
                "ending the daemon that an earlier run left (process {})",
                pid.trim()
            ));
            Invocation::as_root("kill")
                .args(["-s", signal, pid.trim()])
                .shielded()
                .succeeds();
            let deadline = Instant::now() + LAST_GRACE;
            while runs() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        if runs() {
            bail!("the daemon {} does not end", pid.trim());
        }
        Ok(())
    }
}

/// Whether that command line (arguments between NULs) is a daemon's on that state folder.
fn serves(command: &str, state: &Path) -> bool {
    let words: Vec<&str> = command.split('\0').collect();
    let has = |pair: [&str; 2]| words.windows(2).any(|found| found == pair);
    words.get(1) == Some(&"serve") && state.to_str().is_some_and(|state| has(["--state", state]))
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            progress::note(format!(
                "something of the host in {} is left: {error:#}",
                self.dir.display()
            ));
        }
    }
}

/// A folder of somebody else's must not become root's.
fn check_owner(dir: &Path) -> Result<()> {
    let found =
        fs::symlink_metadata(dir).with_context(|| format!("cannot look at {}", dir.display()))?;
    if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() {
        bail!(
            "{} is not a folder of yours: remove it or say where to work with TMPDIR",
            dir.display()
        );
    }
    Ok(())
}

/// The first line of a child's output; empty when it ended without one.
fn first_line(group: &mut Group) -> Result<String> {
    let stdout = group.stdout().context("the daemon's output is not piped")?;
    let (sender, receiver) = mpsc::channel();
    // The thread goes on reading so that the daemon never meets a closed pipe; it ends with the daemon.
    std::thread::spawn(move || {
        let mut lines = BufReader::new(stdout).lines();
        let first = lines.next().transpose().ok().flatten().unwrap_or_default();
        let _ = sender.send(first);
        lines.for_each(drop);
    });
    receiver
        .recv_timeout(PATIENCE)
        .map_err(|_| anyhow!("the daemon was not ready within {} s", PATIENCE.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_daemon_on_that_state_folder_is_recognised() {
        let state = Path::new("/tmp/a/state");
        assert!(serves(
            "ashlard\0serve\0--state\0/tmp/a/state\0--pool\0/tmp/a/pool\0",
            state
        ));
        for other in [
            "",
            "ashlard\0serve\0--state\0/tmp/b/state\0",
            "ashlard\0teardown\0--state\0/tmp/a/state\0",
            "less\0/tmp/a/state\0",
        ] {
            assert!(!serves(other, state), "{other:?}");
        }
    }
}
