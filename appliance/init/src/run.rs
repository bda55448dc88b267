//! The first process: boots, then goes round until it is told to end.

mod daemon;
mod network;
mod screen;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    panic::AssertUnwindSafe,
    path::Path,
    process::ExitCode,
    rc::Rc,
    time::{Duration, Instant},
};

use boot_disk::UpdatePhase;
use futures_util::FutureExt as _;
use host::{power::End, watchdog::Watchdog};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::JoinHandle,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::{
    SOCKET,
    boot::{self, Machine},
    console::{self, Key},
    daemon::{Backoff, Daemon, Log},
    fault::{self, chain},
    health,
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
