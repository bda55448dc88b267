//! One emulated machine with UEFI, its console in a file, and the command line of the product pointed at it from outside.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::parts::{Parts, Stage};
use crate::command::{Group, Invocation, Output};
use crate::setup::FIRMWARE;
use crate::{interrupt, paths};

/// The same firmware with Secure Boot, and with the key enrolled that Debian's package has for tests.
const SECURE_FIRMWARE: &str = "/usr/share/OVMF/OVMF_CODE_4M.snakeoil.fd";
const SECURE_VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd";
/// No machine runs longer, whatever happens.
const LIMIT: Duration = Duration::from_secs(900);
/// How long a host may take from power-on to being well.
pub const BOOT: Duration = Duration::from_secs(150);
const LOOK: Duration = Duration::from_millis(100);
const MEMORY_MIB: u32 = 1024;
/// What the console says of a host that is well.
pub const WELL: &str = "health       well";

/// A running machine; off when dropped, as by a power cut.
pub struct Machine {
    qemu: Group,
    _tpm: Option<Group>,
    console: PathBuf,
    line: UnixStream,
    monitor: PathBuf,
    port: u16,
    config: PathBuf,
    started: Instant,
}

impl Machine {
    /// Switches a machine on.
    pub fn start(stage: &Stage, name: &str, parts: &Parts) -> Result<Self> {
        let console = stage.file(&format!("{name}.log"));
        let (line, monitor) = (
            stage.file(&format!("{name}.line")),
            stage.file(&format!("{name}.monitor")),
        );
        let port = free_port()?;
        let (firmware, vars) = if parts.secure_boot {
            let vars = stage.file("secure-vars.fd");
            fs::copy(SECURE_VARIABLES, &vars)
                .context("cannot copy the firmware's variables: install ovmf")?;
            (SECURE_FIRMWARE, vars)
        } else {
            (FIRMWARE, stage.file("vars.fd"))
        };
        let board = if parts.secure_boot {
            "q35,smm=on"
        } else {
            "q35"
        };
        let mut qemu = Invocation::new("timeout")
            .args([
                "--kill-after=10",
                &LIMIT.as_secs().to_string(),
                "qemu-system-x86_64",
            ])
            .args([
                "-accel",
                "tcg,thread=multi",
                "-cpu",
                "max",
                "-machine",
                board,
                "-smp",
                "1",
            ])
            .args([
                "-m",
                &MEMORY_MIB.to_string(),
                "-display",
                "none",
                "-nodefaults",
            ])
            // It starts when somebody listens to its console.
            .args([
                "-chardev",
                &format!("socket,id=console,path={},server=on", line.display()),
            ])
            .args(["-serial", "chardev:console"])
            .args([
                "-qmp",
                &format!("unix:{},server=on,wait=off", monitor.display()),
            ])
            .args(["-device", "i6300esb", "-device", "virtio-rng-pci"])
            .within(LIMIT + Duration::from_secs(20));
        if parts.kernel.is_none() {
            qemu = qemu
                .args([
                    "-drive",
                    &format!("if=pflash,format=raw,readonly=on,file={firmware}"),
                ])
                .args([
                    "-drive",
                    &format!("if=pflash,format=raw,file={}", vars.display()),
                ]);
        }
        for (index, disk) in parts.disks.iter().enumerate() {
            let file = disk.file.display();
            let node = format!("d{index}");
            let protocol = format!(
                "driver=file,filename={file},node-name=f{index},cache.direct=off,cache.no-flush=on"
            );
            let format = match &parts.log_writes {
                Some(log) if index == 0 => format!(
                    "driver=blklogwrites,node-name={node},file.driver=raw,file.file=f{index},log.driver=file,log.filename={},log-append=off,log-super-update-interval=1",
                    log.display()
                ),
                _ => format!("driver=raw,node-name={node},file=f{index}"),
            };
            let serial = &disk.serial;
            qemu = qemu
                .args(["-blockdev", &protocol, "-blockdev", &format])
                .args([
                    "-device",
                    &format!(
                        "virtio-blk-pci,drive={node},serial={serial},bootindex={}",
                        index + 2
                    ),
                ]);
        }
        if let Some(iso) = &parts.iso {
            let drive = format!(
                "if=none,id=cd,media=cdrom,readonly=on,file={}",
                iso.display()
            );
            qemu = qemu.args(["-drive", &drive, "-device", "ide-cd,drive=cd,bootindex=1"]);
        }
        if let Some((kernel, initramfs, command_line)) = &parts.kernel {
            qemu = qemu
                .arg("-kernel")
                .arg(kernel)
                .arg("-initrd")
                .arg(initramfs)
                .args(["-append", command_line]);
        }
        qemu = qemu.args(parts.network.arguments(port));
        if parts.secure_boot {
            qemu = qemu.args(["-global", "driver=cfi.pflash01,property=secure,value=on"]);
        }
        let mut tpm = None;
        if let Some(folder) = &parts.tpm {
            let socket = stage.file(&format!("{name}-tpm.sock"));
            tpm = Some(start_tpm(folder, &socket)?);
            qemu = qemu
                .args([
                    "-chardev",
                    &format!("socket,id=tpm,path={}", socket.display()),
                ])
                .args([
                    "-tpmdev",
                    "emulator,id=tpm0,chardev=tpm",
                    "-device",
                    "tpm-crb,tpmdev=tpm0",
                ]);
        }
        let errors = fs::File::create(stage.file(&format!("{name}-qemu.log")))?;
        let mut qemu = qemu.spawn(Stdio::null(), errors.into())?;
        let line = connect(&mut qemu, &line)?;
        let (mut said, mut kept) = (line.try_clone()?, fs::File::create(&console)?);
        // Ends with the machine.
        std::thread::spawn(move || std::io::copy(&mut said, &mut kept));
        Ok(Self {
            qemu,
            _tpm: tpm,
            console,
            line,
            monitor,
            port,
            config: stage.file("config"),
            started: Instant::now(),
        })
    }

    /// What the console said so far.
    pub fn console(&self) -> String {
        let bytes = fs::read(&self.console).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\r', "")
    }

    /// Waits until the console has said that so many times since power-on.
    pub fn wait_for(&mut self, said: &str, times: usize, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        while self.console().matches(said).count() < times {
            interrupt::check()?;
            ensure!(
                !self.qemu.has_ended()?,
                "the machine ended before its console said {said:?}: {}",
                self.last_words()
            );
            ensure!(
                Instant::now() < deadline,
                "the console did not say {said:?} within {} s: {}",
                limit.as_secs(),
                self.last_words()
            );
            sleep(LOOK);
        }
        Ok(())
    }

    /// Types on its serial console.
    pub fn type_keys(&self, keys: &str) -> Result<()> {
        (&self.line)
            .write_all(keys.as_bytes())
            .context("cannot type on the machine's console")
    }

    /// Presses its power button (QEMU, "QMP Reference Manual", system_powerdown).
    pub fn press_power(&self) -> Result<()> {
        let monitor =
            UnixStream::connect(&self.monitor).context("cannot reach the machine's monitor")?;
        monitor.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut answers = BufReader::new(monitor.try_clone()?);
        let mut line = String::new();
        answers.read_line(&mut line)?;
        for command in ["qmp_capabilities", "system_powerdown"] {
            (&monitor).write_all(format!("{{\"execute\": \"{command}\"}}\n").as_bytes())?;
            line.clear();
            answers.read_line(&mut line)?;
            ensure!(
                !line.contains("\"error\""),
                "the monitor refused {command}: {line}"
            );
        }
        Ok(())
    }

    /// Waits until the machine is off.
    pub fn wait_for_end(&mut self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        while !self.qemu.has_ended()? {
            interrupt::check()?;
            ensure!(
                Instant::now() < deadline,
                "the machine did not power off within {} s: {}",
                limit.as_secs(),
                self.last_words()
            );
            sleep(LOOK);
        }
        Ok(())
    }

    /// Time since power-on.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Power is cut.
    pub fn cut(mut self) {
        self.qemu.stop();
    }

    fn last_words(&self) -> String {
        let console = self.console();
        let lines: Vec<&str> = console
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect();
        lines[lines.len().saturating_sub(12)..].join(" | ")
    }

    /// The command line of the product, run outside.
    fn ashlar(&self, args: &[&str]) -> Invocation {
        Invocation::new(paths::program("ashlar"))
            .env("XDG_CONFIG_HOME", &self.config)
            .args(args)
            .within(Duration::from_secs(240))
    }

    /// Its answer, JSON.
    pub fn cli(&self, args: &[&str]) -> Result<Value> {
        let text = self.ashlar(&["-o", "json"]).args(args).read()?;
        if text.trim().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text)
            .with_context(|| format!("`ashlar {}` printed no JSON", args.join(" ")))
    }

    /// What it prints.
    pub fn cli_text(&self, args: &[&str]) -> Result<String> {
        self.ashlar(args).read()
    }

    /// Processor time the emulator has used, seconds.
    pub fn cpu_seconds(&self) -> Result<f64> {
        self.qemu.cpu_seconds()
    }

    /// Waits until the API says that the host runs from that slot and is well.
    pub fn wait_until_well(&self, slot: &str) -> Result<()> {
        self.wait_until(&format!("slot {slot} is well"), BOOT, |machine| {
            let slot_runs = machine
                .health()
                .is_ok_and(|system| system["booted_slot"] == slot);
            let well = slot_runs && machine.attempt(&["ps"])?.status.success();
            Ok(if well {
                Ok(())
            } else {
                Err(machine.last_words())
            })
        })
    }

    /// Looks until it is as it should be; `look` says how it is instead.
    pub fn wait_until(
        &self,
        what: &str,
        limit: Duration,
        look: impl Fn(&Self) -> Result<std::result::Result<(), String>>,
    ) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            interrupt::check()?;
            let Err(instead) = look(self)? else {
                return Ok(());
            };
            ensure!(
                Instant::now() < deadline,
                "not within {} s that {what}: {instead}",
                limit.as_secs()
            );
            sleep(LOOK);
        }
    }

    /// Waits until an instance runs.
    pub fn wait_for_instance(&self, id: &str) -> Result<()> {
        self.wait_until(&format!("instance {id} runs"), BOOT, |machine| {
            let shown = machine.attempt(&["-o", "json", "show", id])?;
            let state = serde_json::from_str::<Value>(&shown.out).unwrap_or_default();
            Ok(if state["state"] == "Running" {
                Ok(())
            } else {
                Err(shown.out + &shown.err)
            })
        })
    }

    /// How it ended, and what it said.
    pub fn attempt(&self, args: &[&str]) -> Result<Output> {
        self.ashlar(args).capture()
    }

    /// That it is refused, with such words.
    pub fn refused(&self, args: &[&str], words: &[&str]) -> Result<()> {
        let output = self.attempt(args)?;
        ensure!(
            !output.status.success(),
            "`ashlar {}` was not refused: {}",
            args.join(" "),
            output.out
        );
        for word in words {
            ensure!(
                output.err.contains(word),
                "`ashlar {}` does not say {word:?}: {}",
                args.join(" "),
                output.err
            );
        }
        Ok(())
    }

    /// Enrols with what the screen shows.
    pub fn enroll(&self) -> Result<()> {
        let console = self.console();
        let after = |what: &str| {
            let line = console
                .lines()
                .find_map(|line| line.trim_start().strip_prefix(what));
            line.map(|text| text.trim().to_owned())
                .with_context(|| format!("the screen shows no {what:?}"))
        };
        let (token, fingerprint) = (after("enrol once   token ")?, after("fingerprint  ")?);
        let address = format!("https://127.0.0.1:{}", self.port);
        // Without the fingerprint nobody is trusted.
        self.refused(
            &["enroll", &address, "--token", &token],
            &["which is not known", "--fingerprint"],
        )?;
        self.cli(&[
            "enroll",
            &address,
            "--token",
            &token,
            "--fingerprint",
            &fingerprint,
            "--name",
            "lab",
        ])
        .map(drop)
        .or_else(|error| {
            if error.to_string().contains("printed no JSON") {
                Ok(())
            } else {
                Err(error)
            }
        })?;
        // The token is used up.
        self.refused(
            &[
                "enroll",
                &address,
                "--token",
                &token,
                "--fingerprint",
                &fingerprint,
            ],
            &["was used already"],
        )
    }

    /// The same host on another port, after a reboot of the machine.
    pub fn moved(&self) -> Result<()> {
        let path = self.config.join("ashlar/hosts.json");
        let text = fs::read_to_string(&path).context("nobody enrolled")?;
        let mut hosts: Value = serde_json::from_str(&text)?;
        hosts["hosts"]["lab"]["address"] = format!("https://127.0.0.1:{}", self.port).into();
        fs::write(&path, hosts.to_string()).context("cannot write the known hosts")
    }

    /// The health as anybody may ask for it, once the API answers.
    pub fn health(&self) -> Result<Value> {
        let text = self.ashlar(&["-o", "json", "host", "system"]).read()?;
        Ok(serde_json::from_str(&text)?)
    }

    /// That the host says of one thing what is wrong with it.
    pub fn has_fault(&self, what: &str, words: &str) -> Result<()> {
        let system = self.health()?;
        let faults = system["faults"].as_array().cloned().unwrap_or_default();
        let found = faults.iter().find(|fault| fault["what"] == what);
        match found {
            Some(fault)
                if fault["message"]
                    .as_str()
                    .unwrap_or_default()
                    .contains(words) =>
            {
                Ok(())
            }
            _ => bail!("no fault of {what} that says {words:?}: {faults:?}"),
        }
    }
}

/// The other end of a machine's console, once it opens it.
fn connect(qemu: &mut Group, path: &Path) -> Result<UnixStream> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match UnixStream::connect(path) {
            Ok(line) => return Ok(line),
            Err(error) => ensure!(
                Instant::now() < deadline && !qemu.has_ended()?,
                "the machine does not open its console {}: {error}",
                path.display()
            ),
        }
        sleep(LOOK);
    }
}

/// A port nobody listens on now.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("there is no free port")?;
    Ok(listener.local_addr()?.port())
}

/// A TPM as a process beside the machine; it ends with it.
fn start_tpm(folder: &Path, socket: &Path) -> Result<Group> {
    fs::create_dir_all(folder)?;
    let _ = fs::remove_file(socket);
    let swtpm = Invocation::new("swtpm")
        .args([
            "socket",
            "--tpm2",
            "--tpmstate",
            &format!("dir={}", folder.display()),
        ])
        .args(["--ctrl", &format!("type=unixio,path={}", socket.display())])
        .within(LIMIT)
        .spawn(Stdio::null(), Stdio::null())?;
    let deadline = Instant::now() + Duration::from_secs(20);
    while !socket.exists() {
        ensure!(
            Instant::now() < deadline,
            "swtpm does not open {}",
            socket.display()
        );
        sleep(LOOK);
    }
    Ok(swtpm)
}
