//! The end of a host: guests first, then the daemon, then everybody, then the disks.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use host::{power::End, watchdog::Watchdog};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::fault::chain;

/// How long the daemon gets beyond the time that its guests have.
const BEYOND: Duration = Duration::from_secs(15);
/// How long everybody else gets.
const OTHERS: Duration = Duration::from_secs(3);
/// How often is looked whether somebody is still there.
const LOOK: Duration = Duration::from_millis(50);

/// Ends the machine. `grace` is how long guests have to power off; the daemon stops them and then itself.
pub(crate) fn end(
    how: End,
    daemon: Option<u32>,
    grace: Duration,
    mut watchdog: Option<Watchdog>,
    tell: &dyn Fn(&str),
) {
    tell(match how {
        End::Reboot => "going down to start again",
        End::PowerOff => "going down to power off",
    });
    if let Some(pid) = daemon.and_then(pid) {
        let _ = kill_process(pid, Signal::POWER);
        let deadline = Instant::now() + grace + BEYOND;
        while is_there(pid) && Instant::now() < deadline {
            wait(&mut watchdog);
        }
        if is_there(pid) {
            tell("the daemon does not end by itself");
        }
    }
    for signal in [Signal::TERM, Signal::KILL] {
        let others = others();
        if others.is_empty() {
            break;
        }
        for pid in &others {
            let _ = kill_process(*pid, signal);
        }
        let deadline = Instant::now() + OTHERS;
        while others.iter().any(|pid| is_there(*pid)) && Instant::now() < deadline {
            wait(&mut watchdog);
        }
    }
    for error in host::mounts::undo_all() {
        tell(&chain(&error));
    }
    if how == End::PowerOff
        && let Some(watchdog) = watchdog.take()
    {
        watchdog.disarm();
    }
    if let Err(error) = host::power::end(how) {
        tell(&chain(&error));
    }
}

/// Takes the ends of children meanwhile: what ended and was not waited for counts as there.
fn wait(watchdog: &mut Option<Watchdog>) {
    if let Some(watchdog) = watchdog {
        watchdog.feed();
    }
    let _ = host::children::reap();
    thread::sleep(LOOK);
}

fn pid(number: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(number).ok()?)
}

fn is_there(pid: Pid) -> bool {
    test_kill_process(pid).is_ok()
}

/// Every process but this one and the kernel's own, which have no program.
fn others() -> Vec<Pid> {
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|number| *number != std::process::id())
        .filter(|number| {
            std::fs::read_link(Path::new("/proc").join(number.to_string()).join("exe")).is_ok()
        })
        .filter_map(pid)
        .collect()
}
