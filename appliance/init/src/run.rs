//! The first process: boots, then goes round until it is told to end.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    process::ExitCode,
    rc::Rc,
    time::{Duration, Instant},
};

use boot_disk::{Disk, LiveDaemon, UpdatePhase};
use futures_util::FutureExt as _;
use host::{clock::Correction, power::End, watchdog::Watchdog};
use image_format::layout;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::JoinHandle,
    time::{MissedTickBehavior, interval, timeout},
};
use types::Sha256Digest;

use crate::{
    DATA, Fault, LIVE, RUN, SOCKET,
    boot::{self, Machine},
    config, console,
    console::{Key, Shown},
    daemon::{self, Backoff, Daemon, Log},
    fault::{self, chain},
    health, identity,
    identity::TlsFiles,
    protocol::{Answer, MAX_LINE, Request},
    requests::{self, Then},
    shutdown,
    terminal::Terminals,
    verdict::Boot,
};

/// How often everything is looked at.
const TICK: Duration = Duration::from_secs(1);
/// How long a request on the socket may take to arrive.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the network may take before the configuration's URL is asked.
const URL_PATIENCE: Duration = Duration::from_secs(30);
/// How often the time servers are asked.
const CLOCK_INTERVAL: Duration = Duration::from_secs(1800);
/// How soon they are asked again when none answered.
const CLOCK_RETRY: Duration = Duration::from_secs(60);
/// Ends in a row after which a daemon that was updated live is given up.
const LIVE_FAILURES: u32 = 3;
/// The guests' time when a host goes down that was not found good: nobody may wait for a host that is not well.
const SHORT_GRACE: Duration = Duration::from_secs(5);
/// The API's socket.
const API_SOCKET: &str = "/run/ashlar/api.sock";
/// What the daemon reads when it can only say what is wrong.
const FAULTS_FILE: &str = "/run/ashlar/faults.json";

/// Runs as the first process; returns only if something else is the first process, or the kernel does not end.
#[must_use]
pub fn run() -> ExitCode {
    if std::process::id() != 1 {
        eprintln!(
            "ashlard init is for the first process of a host image; on a running system start `ashlard serve`"
        );
        return ExitCode::from(2);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(async { Init::boot().await.go_round().await }),
        Err(error) => println!("ashlar: cannot start: {error}"),
    }
    // The kernel panics when its first process ends, and the boot loader then tries again or goes back.
    ExitCode::FAILURE
}

/// What the first process waits for.
enum Event {
    /// A process of ours, or one that lost its parent, ended.
    ChildEnded,
    /// The power button, or Ctrl-Alt-Del.
    End { reboot: bool },
    /// A device with this alias is new; any, where none is named.
    Device(Option<String>),
    /// A key was typed.
    Key(u8),
    /// The daemon asks something.
    Asked(UnixStream),
    /// A second is over.
    Tick,
}

struct Init {
    machine: Machine,
    terminals: Rc<Terminals>,
    keys: mpsc::Receiver<u8>,
    uplink: Option<uplink::Handle>,
    watchdog: Option<Watchdog>,
    daemon: Option<Daemon>,
    backoff: Backoff,
    /// When the daemon is started again.
    start_at: Option<Instant>,
    log: Log,
    health: Option<Result<(), String>>,
    /// When the trial of an update is over.
    deadline: Option<Instant>,
    asked: Option<Key>,
    screen: String,
    next_clock: Instant,
    /// The time servers are being asked; what comes of it, in a line, or why they cannot be.
    clock: Option<JoinHandle<Result<Option<String>, String>>>,
}

impl Init {
    async fn boot() -> Self {
        let terminals = Rc::new(Terminals::open());
        let teller = Rc::clone(&terminals);
        let machine = boot::boot(&move |text| tell(&teller, text));
        // Opened anew: device files are there only now.
        let terminals = Terminals::open();
        let keys = terminals.keys();
        let mut init = Self {
            machine,
            terminals: Rc::new(terminals),
            keys,
            uplink: None,
            watchdog: None,
            daemon: None,
            backoff: Backoff::default(),
            start_at: None,
            log: Log::default(),
            health: None,
            deadline: None,
            asked: None,
            screen: String::new(),
            next_clock: Instant::now(),
            clock: None,
        };
        init.watchdog = Watchdog::arm().unwrap_or_else(|error| {
            init.tell(&chain(&error));
            None
        });
        let _ = host::power::catch_ctrl_alt_del();
        init.start_network();
        if let Some(url) = init
            .machine
            .config_url
            .clone()
            .filter(|_| init.machine.chosen.text.is_none())
        {
            init.fetch_configuration(&url).await;
        }
        init.apply_kernel_settings();
        init.check_cpus();
        if init.machine.verdict == Boot::Trial {
            let limit =
                Duration::from_secs(init.machine.chosen.config.update.health_deadline_s.into());
            init.deadline = Some(Instant::now() + limit);
            init.tell(&format!(
                "this slot is on trial: it must be healthy within {} s",
                limit.as_secs()
            ));
        }
        if let Err(error) = host::mounts::read_only_root() {
            init.tell(&chain(&error));
        }
        init
    }

    async fn go_round(mut self) {
        let mut children = signal(SignalKind::child()).ok();
        let mut ctrl_alt_del = signal(SignalKind::interrupt()).ok();
        let listener = self.listen();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.start_at = Some(Instant::now());
        let mut devices = self.new_devices();
        let mut buttons = self.power_button();
        loop {
            let event = tokio::select! {
                () = heard(&mut children) => Event::ChildEnded,
                () = heard(&mut ctrl_alt_del) => Event::End { reboot: true },
                Some(()) = buttons.recv() => Event::End { reboot: false },
                Some(alias) = devices.recv() => Event::Device(alias),
                Some(byte) = self.keys.recv() => Event::Key(byte),
                Some(stream) = accepted(listener.as_ref()) => Event::Asked(stream),
                _ = tick.tick() => Event::Tick,
            };
            // A mistake of ours is a fault like any other: the machine and its guests go on.
            let then = AssertUnwindSafe(self.meet(event)).catch_unwind().await;
            let then = then.unwrap_or_else(|panic| {
                self.machine.faults.set(fault::of_panic(panic.as_ref()));
                Then::Nothing
            });
            match then {
                Then::Nothing => {}
                Then::RestartDaemon => self.restart_daemon(),
                Then::End { reboot } => {
                    let grace =
                        Duration::from_secs(self.machine.chosen.config.shutdown.grace_s.into());
                    self.end(reboot, grace);
                }
            }
            self.start_daemon();
        }
    }

    async fn meet(&mut self, event: Event) -> Then {
        match event {
            Event::ChildEnded => {
                self.reap();
                Then::Nothing
            }
            Event::End { reboot } => {
                let how = if reboot { "reboot" } else { "power off" };
                self.tell(&format!("asked at the machine to {how}"));
                Then::End { reboot }
            }
            Event::Device(alias) => {
                self.load_driver(alias.as_deref());
                Then::Nothing
            }
            Event::Key(byte) => self.key(byte),
            Event::Asked(stream) => self.serve(stream).await,
            Event::Tick => self.look().await,
        }
    }

    /// Once a second: the watchdog, the network, the daemon's health, an update's verdict, the screen.
    async fn look(&mut self) -> Then {
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.feed();
        }
        self.reap();
        self.note_network();
        if self.daemon.is_some() {
            let health = health::check(Path::new(API_SOCKET)).await;
            if health.is_ok() {
                self.backoff.reset();
            }
            self.health = Some(health);
        }
        self.synchronise_clock();
        self.judge();
        let then = match self.deadline {
            Some(deadline) if Instant::now() >= deadline => self.give_up(),
            _ => Then::Nothing,
        };
        self.write_faults();
        self.draw(false);
        then
    }

    /// Marks a slot on trial good once the host is well.
    fn judge(&mut self) {
        if self.deadline.is_none() || !self.is_well() {
            return;
        }
        let Some(booted) = self.machine.booted() else {
            return;
        };
        if let Err(error) = self.machine.with_esp(|esp| esp.mark_good(booted)) {
            self.tell(&chain(&error));
            return;
        }
        self.deadline = None;
        self.machine.verdict = Boot::Ordinary;
        let now = boot::now();
        self.machine
            .keep("write down that the update is good", |record| {
                if let Some(update) = &mut record.update {
                    update.phase = UpdatePhase::Good;
                    update.reason = None;
                    update.ended = Some(now);
                    record.security_floor =
                        record.security_floor.max(update.minimum_security_version);
                }
            });
        self.tell("this slot is good from now on");
    }

    fn is_well(&self) -> bool {
        let network =
            !self.machine.chosen.config.update.needs_network || !self.addresses().is_empty();
        network && self.health == Some(Ok(()))
    }

    /// The trial is over: the reason is kept, and the other slot boots.
    fn give_up(&mut self) -> Then {
        self.deadline = None;
        let why = match &self.health {
            None => "the daemon never started".to_owned(),
            Some(Err(why)) => why.clone(),
            Some(Ok(())) => "the host did not reach its network".to_owned(),
        };
        self.tell(&format!("this slot is not good: {why}"));
        let now = boot::now();
        let reason = why.clone();
        self.machine
            .keep("write down why the update failed", |record| {
                if let Some(update) = &mut record.update {
                    update.reason = Some(reason);
                    update.ended = Some(now);
                }
            });
        if let Some(booted) = self.machine.booted()
            && let Err(error) = self.machine.with_esp(|esp| esp.mark_bad(booted))
        {
            self.tell(&chain(&error));
        }
        self.end(true, SHORT_GRACE);
        Then::Nothing
    }

    /// The network as the configuration wants it, with the modules loaded that it takes.
    fn network_plan(&mut self) -> uplink::Plan {
        let plan = config::network_plan(&self.machine.chosen.config, &self.machine.hostname());
        if let Some(modules) = &mut self.machine.modules {
            let needed: Vec<&str> = plan.modules().collect();
            for error in needed
                .into_iter()
                .filter_map(|name| modules.load(name).err())
            {
                self.machine.faults.set(Fault::because(
                    "network",
                    &error,
                    "Use an image with that module, or a configuration without.",
                ));
            }
        }
        plan
    }

    fn start_network(&mut self) {
        let plan = self.network_plan();
        match uplink::Uplink::start(plan, uplink::Options::default()) {
            Ok(handle) => self.uplink = Some(handle),
            Err(error) => {
                self.machine.faults.set(Fault::because(
                    "network",
                    &error,
                    "Reboot; if it happens again, report it.",
                ));
            }
        }
    }

    async fn fetch_configuration(&mut self, url: &str) {
        if let Some(uplink) = &self.uplink {
            uplink.reachable(URL_PATIENCE).await;
        }
        let asked = url.to_owned();
        let fetched = tokio::task::spawn_blocking(move || config::fetch(&asked)).await;
        let text = match fetched {
            Ok(Ok(text)) => text,
            Ok(Err(why)) => {
                self.machine.faults.set(Fault::new(
                    "configuration",
                    why,
                    "Check the URL in the boot script and the server behind it.",
                ));
                return;
            }
            Err(_) => return,
        };
        let mut candidates = config::candidates(self.machine.records.record(), None, None, None);
        candidates.url = Some(text);
        self.machine.chosen = host_config::choose(&candidates);
        self.machine.note_configuration();
        let plan = self.network_plan();
        let _ = host::settings::host_name(&self.machine.hostname());
        if let Some(uplink) = &self.uplink {
            let _ = uplink.reapply(plan).await;
        }
    }

    fn apply_kernel_settings(&mut self) {
        let kernel = self.machine.chosen.config.kernel.clone();
        let mut wrong = Vec::new();
        if let Some(modules) = &mut self.machine.modules {
            wrong.extend(
                kernel
                    .modules
                    .iter()
                    .filter_map(|name| modules.load(name).err()),
            );
        }
        wrong.extend(
            kernel
                .sysctl
                .iter()
                .filter_map(|(name, value)| host::settings::set(name, value).err()),
        );
        match host::settings::huge_pages(kernel.hugepages_2m, kernel.hugepages_1g) {
            Ok(got) if got == (kernel.hugepages_2m, kernel.hugepages_1g) => {}
            Ok((small, large)) => self.tell(&format!(
                "room for {small} huge pages of 2 MiB and {large} of 1 GiB only"
            )),
            Err(error) => wrong.push(error),
        }
        if !wrong.is_empty() {
            let all: Vec<String> = wrong.iter().map(|error| chain(error)).collect();
            self.machine.faults.set(Fault::new(
                "kernel",
                all.join("; "),
                "Correct `[kernel]` in the configuration.",
            ));
        }
    }

    /// A list of CPUs that this machine cannot do without is a fault; then nobody has CPUs of their own, and the daemon starts.
    fn check_cpus(&mut self) {
        let Ok(cpus) = std::thread::available_parallelism() else {
            return;
        };
        let dedicated = &mut self.machine.chosen.config.cpu.dedicated;
        let there = |cpu| usize::try_from(cpu).is_ok_and(|cpu| cpu < cpus.get());
        let shared = (0..u32::MAX)
            .take(cpus.get())
            .any(|cpu| !dedicated.contains(cpu));
        let message = match dedicated.iter().find(|cpu| !there(*cpu)) {
            Some(cpu) => {
                format!("there is no CPU {cpu} to dedicate: this machine has {cpus}, from 0 on")
            }
            None if !shared => {
                format!("the CPUs {dedicated} are all of this machine's, and none is left to share")
            }
            None => return,
        };
        *dedicated = Default::default();
        self.machine.faults.set(Fault::new(
            "cpu",
            format!("{message}; all instances share all CPUs"),
            "Correct `dedicated` in `[cpu]` of the configuration.",
        ));
    }

    fn note_network(&mut self) {
        let Some(uplink) = &self.uplink else { return };
        let status = uplink.status().borrow().clone();
        if !status.applied {
            return;
        }
        if status.is_reachable() {
            self.machine.faults.clear("network");
            return;
        }
        let mut lines: Vec<String> = status.interfaces.iter().map(ToString::to_string).collect();
        lines.extend(status.problems);
        if lines.is_empty() {
            lines.push("there is no Ethernet interface".to_owned());
        }
        self.machine.faults.set(Fault::new(
            "network",
            lines.join("; "),
            "Check cable, switch and DHCP server, or configure addresses.",
        ));
    }

    fn addresses(&self) -> Vec<String> {
        let status = self
            .uplink
            .as_ref()
            .map(|uplink| uplink.status().borrow().clone());
        status
            .map(|status| {
                status
                    .addresses()
                    .map(|address| address.to_string())
                    .collect()
            })
            .unwrap_or_default()
    }

    fn synchronise_clock(&mut self) {
        if let Some(told) = self.clock.as_mut().and_then(|asked| asked.now_or_never()) {
            self.clock = None;
            match told {
                Ok(Ok(None)) => {}
                Ok(Ok(Some(line))) => self.tell(&line),
                Ok(Err(why)) => {
                    self.next_clock = Instant::now() + CLOCK_RETRY;
                    self.tell(&why);
                }
                Err(error) => self.tell(&chain(&error)),
            }
        }
        if Instant::now() < self.next_clock {
            return;
        }
        let Some(status) = self
            .uplink
            .as_ref()
            .map(|uplink| uplink.status().borrow().clone())
        else {
            return;
        };
        if !status.is_reachable() {
            return;
        }
        self.next_clock = Instant::now() + CLOCK_INTERVAL;
        let mut servers = self.machine.chosen.config.time.servers.clone();
        servers.extend(status.ntp.iter().map(ToString::to_string));
        if !servers.is_empty() {
            self.clock = Some(tokio::task::spawn_blocking(move || correct_clock(&servers)));
        }
    }

    /// The program that is the daemon now, and what it is told.
    fn program(&mut self) -> PathBuf {
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

    fn forget_live(&mut self, why: &str) {
        self.machine
            .keep("go back to the image's daemon", |record| record.live = None);
        self.machine.faults.set(Fault::new(
            "live update",
            format!("{why}; the image's daemon runs"),
            "Update the host as a whole, or try another version.",
        ));
        self.backoff.reset();
    }

    fn start_daemon(&mut self) {
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

    fn arguments(&mut self) -> std::io::Result<Vec<String>> {
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

    fn restart_daemon(&mut self) {
        self.backoff.reset();
        self.machine.faults.clear("live update");
        match &self.daemon {
            Some(daemon) => signal_to(daemon.pid, rustix::process::Signal::TERM),
            None => self.start_at = Some(Instant::now()),
        }
    }

    fn reap(&mut self) {
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

    /// The aliases of devices that are plugged in from now on.
    fn new_devices(&self) -> mpsc::Receiver<Option<String>> {
        let (sender, receiver) = mpsc::channel(64);
        let told = host::uevents::listen(move |alias| {
            sender.blocking_send(alias.map(str::to_owned)).is_ok()
        });
        if let Err(error) = told {
            self.tell(&chain(&error));
        }
        receiver
    }

    /// Hears of the power button.
    fn power_button(&self) -> mpsc::Receiver<()> {
        let (sender, receiver) = mpsc::channel(1);
        if let Err(error) = host::buttons::listen(move || sender.blocking_send(()).is_ok()) {
            self.tell(&chain(&error));
        }
        receiver
    }

    fn load_driver(&mut self, alias: Option<&str>) {
        let failed = self.machine.modules.as_mut().map(|modules| match alias {
            Some(alias) => modules.load_for(alias),
            None => modules.load_for_devices(),
        });
        for error in failed.into_iter().flatten() {
            self.tell(&chain(&error));
        }
    }

    fn listen(&mut self) -> Option<UnixListener> {
        let _ = fs::remove_file(SOCKET);
        let listener = UnixListener::bind(SOCKET).and_then(|listener| {
            fs::set_permissions(SOCKET, fs::Permissions::from_mode(0o600)).map(|()| listener)
        });
        listener
            .map_err(|error| self.tell(&format!("cannot listen on {SOCKET}: {error}")))
            .ok()
    }

    async fn serve(&mut self, mut stream: UnixStream) -> Then {
        let (reader, mut writer) = stream.split();
        let mut line = String::new();
        let mut reader = BufReader::new(reader.take(MAX_LINE));
        if !matches!(timeout(REQUEST_TIMEOUT, reader.read_line(&mut line)).await, Ok(Ok(count)) if count > 0)
        {
            return Then::Nothing;
        }
        let addresses = self.addresses();
        let (answer, then) = match serde_json::from_str::<Request>(&line) {
            Ok(request) => requests::answer(&mut self.machine, &addresses, request),
            Err(error) => {
                let answer = Answer::Refused {
                    message: format!("the first process does not understand the daemon: {error}"),
                    next_step: "Reboot, so that both are of one version.".to_owned(),
                };
                (answer, Then::Nothing)
            }
        };
        let mut text = serde_json::to_string(&answer).unwrap_or_default();
        text.push('\n');
        let _ = timeout(REQUEST_TIMEOUT, writer.write_all(text.as_bytes())).await;
        then
    }

    fn key(&mut self, byte: u8) -> Then {
        let asked = self.asked.take();
        let key = match (asked, Key::of(byte)) {
            (Some(key), _) if byte.eq_ignore_ascii_case(&b'y') => key,
            (Some(_), _) => {
                self.terminals.show("  not done\n");
                return Then::Nothing;
            }
            (None, Some(key)) => {
                if let Some(question) = key.question() {
                    self.terminals.show(&format!("  {question}\n"));
                    self.asked = Some(key);
                    return Then::Nothing;
                }
                key
            }
            (None, None) => return Then::Nothing,
        };
        match key {
            Key::Redraw => self.draw(true),
            Key::Retry => {
                self.terminals.show("  trying again\n");
                if self.machine.data.is_none() {
                    let terminals = Rc::clone(&self.terminals);
                    self.machine
                        .open_data(&Disk::all(), None, &|text| tell(&terminals, text));
                }
                self.restart_daemon();
            }
            Key::NewToken => {
                let token = identity::new_token();
                let digest = Sha256Digest::of(token.as_bytes());
                let kept = self.machine.keep("keep the enrolment token", |record| {
                    if let Some(identity) = &mut record.identity {
                        identity.enrolment_sha256 = Some(digest);
                    }
                });
                if kept {
                    self.machine.identity.enrolment_sha256 = Some(digest);
                    self.machine.token = Some(token);
                }
                self.draw(true);
            }
            Key::PreviousSlot => return self.answered(requests::rollback),
            Key::ResetConfiguration => {
                self.answered(requests::reset_configuration);
                return Then::End { reboot: true };
            }
            Key::ForgetState => match self.machine.forget_state() {
                Ok(()) => return Then::End { reboot: true },
                Err(error) => self.terminals.show(&format!("  {}\n", chain(&error))),
            },
            Key::Reboot => return Then::End { reboot: true },
            Key::PowerOff => return Then::End { reboot: false },
        }
        Then::Nothing
    }

    /// Does what a request does, and shows a refusal.
    fn answered(&mut self, work: fn(&mut Machine) -> (Answer, Then)) -> Then {
        let (answer, then) = work(&mut self.machine);
        if let Answer::Refused { message, next_step } = answer {
            self.terminals
                .show(&format!("  {message}\n  -> {next_step}\n"));
        }
        then
    }

    fn draw(&mut self, always: bool) {
        let network = self
            .uplink
            .as_ref()
            .map(|uplink| uplink.status().borrow().clone());
        let shown = Shown {
            health: self.health.clone(),
            token: self.machine.token.clone(),
            network: network
                .map(|status| status.interfaces.iter().map(ToString::to_string).collect())
                .unwrap_or_default(),
            port: self.machine.chosen.config.api.listen.port(),
            last_errors: if matches!(self.health, Some(Err(_))) {
                self.log.trouble(3)
            } else {
                Vec::new()
            },
        };
        let screen = console::render(&requests::status(&self.machine, &self.addresses()), &shown);
        if always || screen != self.screen {
            self.terminals.show(&screen);
            self.screen = screen;
        }
    }

    /// What the daemon reads in maintenance, and whoever looks.
    fn write_faults(&self) {
        let text = serde_json::to_string(self.machine.faults.all()).unwrap_or_default();
        if fs::read_to_string(FAULTS_FILE).is_ok_and(|old| old == text) {
            return;
        }
        let part = format!("{FAULTS_FILE}.part");
        let written = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&part)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .and_then(|()| fs::rename(&part, FAULTS_FILE));
        if let Err(error) = written {
            self.tell(&format!("cannot write {FAULTS_FILE}: {error}"));
        }
    }

    fn end(&mut self, reboot: bool, grace: Duration) {
        let how = if reboot { End::Reboot } else { End::PowerOff };
        let daemon = self.daemon.take().map(|daemon| daemon.pid);
        let terminals = Rc::clone(&self.terminals);
        shutdown::end(how, daemon, grace, self.watchdog.take(), &move |text| {
            tell(&terminals, text)
        });
    }

    fn tell(&self, text: &str) {
        tell(&self.terminals, text);
    }

    /// Shows the daemon's trouble from the thread that listens to it.
    fn machine_teller(&self) -> impl Fn(&str) + Send + 'static {
        |text| {
            println!(
                "{}\r",
                console::event(host::facts::uptime().as_secs_f64(), text)
            )
        }
    }
}

fn tell(terminals: &Terminals, text: &str) {
    terminals.show(&console::event(
        host::facts::uptime().as_secs_f64(),
        &format!("{text}\n"),
    ));
}

async fn heard(signal: &mut Option<tokio::signal::unix::Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

async fn accepted(listener: Option<&UnixListener>) -> Option<UnixStream> {
    match listener {
        Some(listener) => listener.accept().await.ok().map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

fn signal_to(pid: u32, signal: rustix::process::Signal) {
    if let Some(pid) = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
    {
        let _ = rustix::process::kill_process(pid, signal);
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

/// Asks the servers in turn, and corrects the clock as the first one says that answers. A line if it was set.
fn correct_clock(servers: &[String]) -> Result<Option<String>, String> {
    let mut why = Vec::new();
    for server in servers {
        let corrected =
            host::clock::ask(server).and_then(|offset| Ok((offset, host::clock::correct(offset)?)));
        match corrected {
            Ok((offset, Correction::Step)) => {
                return Ok(Some(format!(
                    "the clock was set by {offset:+.3} s, as {server} says"
                )));
            }
            Ok(_) => return Ok(None),
            Err(error) => why.push(chain(&error)),
        }
    }
    Err(why.join("; "))
}
