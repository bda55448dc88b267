//! The daemon as a child: started, listened to, started again ever more slowly when it ends.

use std::{
    collections::VecDeque,
    io::{BufRead as _, BufReader, Read as _},
    path::PathBuf,
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// Lines of the daemon's log that are kept.
const KEPT_LINES: usize = 200;
/// The longest line that is kept, bytes.
const MAX_LINE: u64 = 2048;
/// The pause before it is started again.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Having run for so long, a daemon's end is no failure to start.
const STEADY: Duration = Duration::from_secs(60);

/// How long to wait before the daemon is started again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The daemon ended after `ran`; the pause that is due.
    pub fn ended(&mut self, ran: Duration) -> Duration {
        if ran >= STEADY {
            self.failures = 0;
        }
        let pause = FIRST_PAUSE
            .saturating_mul(1 << self.failures.min(10))
            .min(LONGEST_PAUSE);
        self.failures += 1;
        pause
    }

    /// Ends in a row, none of them after a steady run.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Somebody mended something.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// The daemon, running.
pub(crate) struct Daemon {
    pub pid: u32,
    pub started: Instant,
}

/// The last lines of the daemon's log.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<VecDeque<String>>>);

impl Log {
    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() >= KEPT_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// The last lines that tell of trouble, at most `count`.
    pub fn trouble(&self, count: usize) -> Vec<String> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found: Vec<String> = lines
            .iter()
            .rev()
            .filter(|line| tells_of_trouble(line))
            .take(count)
            .cloned()
            .collect();
        found.reverse();
        found
    }
}

fn tells_of_trouble(line: &str) -> bool {
    line.contains("ERROR") || line.starts_with("ashlard: ") || line.contains("panicked at")
}

/// Starts the daemon. What it says is kept in `log`; lines that tell of trouble also go to `tell`.
///
/// # Errors
/// It cannot be started.
pub(crate) fn start(
    program: &PathBuf,
    arguments: &[String],
    log: &Log,
    tell: impl Fn(&str) + Send + 'static,
) -> std::io::Result<Daemon> {
    let mut child = Command::new(program)
        .args(arguments)
        .env("PATH", "/usr/sbin:/usr/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(said) = child.stderr.take() {
        let log = log.clone();
        let listener = thread::Builder::new()
            .name("daemon-log".into())
            .stack_size(128 << 10);
        let listen = move || {
            let mut reader = BufReader::new(said);
            let mut bytes = Vec::new();
            // Ends with the daemon and all who have its standard error.
            while (&mut reader)
                .take(MAX_LINE)
                .read_until(b'\n', &mut bytes)
                .is_ok_and(|count| count > 0)
            {
                let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
                if tells_of_trouble(&line) {
                    tell(&line);
                }
                log.push(line);
                bytes.clear();
            }
        };
        listener.spawn(listen)?;
    }
    // The child is not waited for here: the first process takes the ends of all.
    Ok(Daemon {
        pid: child.id(),
        started: Instant::now(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_a_steady_run_starts_over() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u128> = (0..10)
            .map(|_| backoff.ended(Duration::from_secs(1)).as_millis())
            .collect();
        assert_eq!(
            pauses,
            [
                200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000
            ]
        );
        assert_eq!(backoff.failures(), 10);
        assert_eq!(backoff.ended(STEADY), FIRST_PAUSE);
        assert_eq!(backoff.failures(), 1);
    }

    #[test]
    fn what_the_daemon_says_is_kept_and_trouble_is_told() {
        let log = Log::default();
        let (tell, told) = std::sync::mpsc::channel();
        let script = "echo fine >&2; echo 'ashlard: cannot' >&2; echo '  ERROR x' >&2";
        let tell = move |line: &str| {
            let _ = tell.send(line.to_owned());
        };
        start(&"/bin/sh".into(), &["-c".into(), script.into()], &log, tell).unwrap();
        let lines: Vec<String> = told.iter().collect();
        assert_eq!(lines, ["ashlard: cannot", "  ERROR x"]);
        assert_eq!(log.trouble(1), ["  ERROR x"]);
        assert!(start(&"/nonexistent".into(), &[], &log, |_| {}).is_err());
    }
}
