//! The daemon: which program it is, what it is told, and what its end means.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use boot_disk::LiveDaemon;
use image_format::layout;
use types::Sha256Digest;

use super::{API_SOCKET, FAULTS_FILE, Init, LIVE_FAILURES};
use crate::{DATA, Fault, LIVE, RUN, SOCKET, daemon, identity::TlsFiles};

impl Init {
    /// The program that is the daemon now, and what it is told.
    pub(super) fn program(&mut self) -> PathBuf {
        let image = Path::new("/").join(layout::DAEMON);
        let live = self.machine.records.record().live.clone();
        let Some(live) = live.filter(|live| live.over == self.machine.release.version) else {
            return image;
        };
        let path = Path::new(LIVE).join("ashlard");
        match is_that(&path, &live) {
            Ok(()) if self.backoff.failures() < LIVE_FAILURES => path,
            Ok(()) => {
                self.forget_live(&format!(
                    "the daemon {} that was updated live ended {LIVE_FAILURES} times",
                    live.version
                ));
                image
            }
            Err(why) => {
                self.forget_live(&why);
                image
            }
        }
    }

    pub(super) fn forget_live(&mut self, why: &str) {
        self.machine
            .keep("go back to the image's daemon", |record| record.live = None);
        self.machine.faults.set(Fault::new(
            "live update",
            format!("{why}; the image's daemon runs"),
            "Update the host as a whole, or try another version.",
        ));
        self.backoff.reset();
    }

    pub(super) fn start_daemon(&mut self) {
        if self.daemon.is_some() || self.start_at.is_none_or(|at| Instant::now() < at) {
            return;
        }
        self.start_at = None;
        let arguments = match self.arguments() {
            Ok(arguments) => arguments,
            Err(error) => {
                self.tell(&format!("cannot prepare the daemon: {error}"));
                self.start_at = Some(Instant::now() + self.backoff.ended(Duration::ZERO));
                return;
            }
        };
        let program = self.program();
        let terminals = self.machine_teller();
        match daemon::start(&program, &arguments, &self.log, terminals) {
            Ok(daemon) => self.daemon = Some(daemon),
            Err(error) => {
                self.health = Some(Err(format!(
                    "the daemon {} cannot be started: {error}",
                    program.display()
                )));
                self.start_at = Some(Instant::now() + self.backoff.ended(Duration::ZERO));
            }
        }
    }

    pub(super) fn arguments(&mut self) -> std::io::Result<Vec<String>> {
        let tls = TlsFiles::write(&Path::new(RUN).join("tls"), &self.machine.identity)?;
        self.write_faults();
        let mut arguments: Vec<String> = ["serve", "--socket", API_SOCKET, "--init-socket", SOCKET]
            .map(str::to_owned)
            .to_vec();
        let mut add = |option: &str, value: String| arguments.extend([option.to_owned(), value]);
        add(
            "--listen-tls",
            self.machine.chosen.config.api.listen.to_string(),
        );
        add("--tls-cert", tls.certificate.display().to_string());
        add("--tls-key", tls.key.display().to_string());
        add("--token-file", tls.token.display().to_string());
        add(
            "--stop-grace-s",
            self.machine.chosen.config.shutdown.grace_s.to_string(),
        );
        if let Some(zone) = &self.machine.chosen.config.zone {
            add("--zone", zone.clone());
        }
        let dedicated = &self.machine.chosen.config.cpu.dedicated;
        if !dedicated.is_empty() {
            add("--dedicated-cpus", dedicated.to_string());
        }
        if self.machine.data.is_some() {
            add("--state", format!("{DATA}/state"));
            add("--pool", format!("{DATA}/pool"));
            add("--plugins", format!("/{}", layout::PLUGINS));
            arguments.push("--restart-instances".to_owned());
        } else {
            add("--state", format!("{RUN}/state"));
            add("--maintenance", FAULTS_FILE.to_owned());
        }
        Ok(arguments)
    }

    pub(super) fn restart_daemon(&mut self) {
        self.backoff.reset();
        self.machine.faults.clear("live update");
        match &self.daemon {
            Some(daemon) => signal_to(daemon.pid, rustix::process::Signal::TERM),
            None => self.start_at = Some(Instant::now()),
        }
    }

    pub(super) fn reap(&mut self) {
        for ended in host::children::reap() {
            let Some(daemon) = self.daemon.take_if(|daemon| daemon.pid == ended.pid) else {
                continue;
            };
            let pause = self.backoff.ended(daemon.started.elapsed());
            self.start_at = Some(Instant::now() + pause);
            let how = match (ended.status, ended.signal) {
                (Some(0), _) => {
                    self.start_at = Some(Instant::now());
                    "it was told to".to_owned()
                }
                (Some(status), _) => format!("status {status}"),
                (None, Some(signal)) => format!("signal {signal}"),
                (None, None) => "no word".to_owned(),
            };
            let last = self
                .log
                .trouble(1)
                .pop()
                .map_or(String::new(), |line| format!(": {line}"));
            self.health = Some(Err(format!("the daemon ended ({how}){last}")));
            self.tell(&format!("the daemon ended ({how}); it is started again"));
        }
    }
}

/// Whether a program is the one that was meant.
fn is_that(path: &Path, live: &LiveDaemon) -> Result<(), String> {
    let bytes = fs::read(path)
        .map_err(|error| format!("the daemon that was updated live cannot be read: {error}"))?;
    if Sha256Digest::of(&bytes) != live.sha256 {
        return Err("the daemon that was updated live is not the one that was checked".to_owned());
    }
    Ok(())
}

fn signal_to(pid: u32, signal: rustix::process::Signal) {
    if let Some(pid) = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
    {
        let _ = rustix::process::kill_process(pid, signal);
    }
}
