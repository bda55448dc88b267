//! The loop: statements in, events out.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use guest_rt::pci::Function;
use guest_rt::platform::Platform;
use guest_rt::smp::Cpu;
use guest_rt::virtio::{Block, Entropy};
use guest_rt::{BootInfo, cpu, pci, println, ram_bytes, time, virtio};
use script::{Action, Command, Line, PowerButton};

use crate::net::Network;
use crate::shell::Input;

/// Longest time a device may take for anything.
pub const DEVICE_LIMIT_US: u64 = 30_000_000;

/// Why a command failed, in words.
pub type Outcome = Result<(), String>;

/// A disk, or why there is none at its number.
pub enum Disk {
    /// In use.
    Ready(Box<Block>),
    /// It cannot be used, or no longer.
    Failed(String),
}

/// The guest's state.
pub struct Probe {
    pub platform: Platform,
    functions: Option<Vec<Function>>,
    disks: Option<Vec<Disk>>,
    entropy: Option<Entropy>,
    pub network: Option<Network>,
    /// CPUs besides this one that were started.
    pub cpus: Vec<Cpu>,
    pub input: Input,
    on_power_button: PowerButton,
    sequence: u64,
    /// Times this CPU went to sleep.
    pub sleeps: u64,
}

impl Probe {
    /// Takes the machine over and says so.
    pub fn start(boot: &BootInfo) -> Self {
        let platform = Platform::start(boot.rsdp);
        println!(
            "probe: ready tsc_khz={} memory_mib={} cpus={}",
            time::tsc_khz(),
            ram_bytes() >> 20,
            platform.acpi().cpu_ids().len().max(1)
        );
        Self {
            platform,
            functions: None,
            disks: None,
            entropy: None,
            network: None,
            cpus: Vec::new(),
            input: Input::default(),
            on_power_button: PowerButton::PowerOff,
            sequence: 0,
            sleeps: 0,
        }
    }

    /// Obeys the script, then the console.
    pub fn run(mut self, text: &str) -> ! {
        for statement in script::statements(text) {
            self.obey(statement);
        }
        println!("probe: script-end");
        loop {
            self.shell();
        }
    }

    /// Obeys one statement and answers with one line, `done` or `error`. Returns whether it was `exit`.
    pub fn obey(&mut self, statement: &str) -> bool {
        self.sequence += 1;
        let sequence = self.sequence;
        let start = time::tsc();
        let (tag, outcome, exit) = match script::parse(statement) {
            Ok(Line { tag, command }) => {
                let exit = command == Command::Exit;
                (tag, self.execute(&command), exit)
            }
            Err(reason) => (None, Err(reason), false),
        };
        let tag = tag.map(|tag| format!(" tag={tag}")).unwrap_or_default();
        match outcome {
            Ok(()) => println!(
                "probe: done seq={sequence}{tag} elapsed_us={}",
                elapsed_us(start)
            ),
            Err(reason) => println!(
                "probe: error seq={sequence}{tag} command=\"{}\" reason=\"{}\"",
                quotable(statement),
                quotable(&reason)
            ),
        }
        exit
    }

    fn execute(&mut self, command: &Command) -> Outcome {
        match command {
            Command::Disk(command) => self.disk(command),
            Command::Net(command) => self.net(command),
            Command::Cpus(count) => self.use_cpus(*count),
            Command::Touch(mib) => crate::compute::touch(*mib),
            Command::Spin { us, cpus } => self.spin(*us, *cpus),
            Command::Sleep(us) => {
                self.wait::<()>(time::after_us(*us), |_| None);
                Ok(())
            }
            Command::Rng(bytes) => self.random(*bytes),
            Command::Say(text) => {
                println!("probe: say text=\"{}\"", quotable(text));
                Ok(())
            }
            Command::Info => self.info(),
            Command::End(action) => self.end(*action),
            Command::OnPowerButton(answer) => {
                self.on_power_button = *answer;
                Ok(())
            }
            Command::Shell => {
                self.shell();
                Ok(())
            }
            Command::Exit => Ok(()),
            Command::Repeat(count, inner) => {
                let mut round = 0;
                while count.is_none_or(|count| round < count) {
                    self.execute(inner)
                        .map_err(|reason| format!("round {round}: {reason}"))?;
                    round += 1;
                }
                Ok(())
            }
        }
    }

    fn end(&self, action: Action) -> ! {
        match action {
            Action::Halt => cpu::halt(),
            Action::TripleFault => cpu::triple_fault(),
            Action::Reset => self.platform.reset(),
            Action::PowerOff => self.platform.power_off(),
            Action::Panic => panic!("asked to"),
        }
    }

    /// Waits until `ready` returns something, or a counter value is reached. Meanwhile the network is served, the
    /// power button heeded, and the CPU asleep whenever there is nothing to do. `ready` must make sure that an
    /// interrupt comes when it should be asked again.
    pub fn wait<T>(
        &mut self,
        deadline: u64,
        mut ready: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<T> {
        loop {
            cpu::clear_wake();
            if let Some(result) = ready(self) {
                return Some(result);
            }
            self.heed_power_button();
            self.input.gather();
            let mut wake_at = deadline;
            if let Some(network) = &mut self.network {
                if network.poll() {
                    continue;
                }
                wake_at = wake_at.min(network.next_poll());
            }
            let now = time::tsc();
            if now >= deadline {
                return ready(self);
            }
            if now >= wake_at
                || self
                    .network
                    .as_mut()
                    .is_some_and(|network| !network.ask_interrupt())
            {
                continue;
            }
            if wake_at != u64::MAX {
                time::arm(wake_at);
            }
            self.sleeps += 1;
            cpu::wait_for_interrupt();
        }
    }

    fn heed_power_button(&mut self) {
        if !self.platform.take_power_button() {
            return;
        }
        println!("probe: power-button");
        match self.on_power_button {
            PowerButton::PowerOff => self.platform.power_off(),
            PowerButton::Reset => self.platform.reset(),
            PowerButton::Ignore => {}
        }
    }

    fn functions(&mut self) -> &[Function] {
        let ecam = self.platform.acpi().ecam;
        self.functions
            .get_or_insert_with(|| ecam.map(pci::scan).unwrap_or_default())
    }

    /// The PCI functions that are virtio devices of a type, in PCI order.
    pub fn virtio(&mut self, kind: u16) -> Vec<Function> {
        let all = self.functions().iter();
        all.filter(|function| virtio::device_type(function) == Some(kind))
            .copied()
            .collect()
    }

    /// All disks; started at the first call.
    pub fn all_disks(&mut self) -> &mut Vec<Disk> {
        if self.disks.is_none() {
            let functions = self.virtio(virtio::TYPE_BLOCK);
            let start = |function: &Function| match Block::new(function) {
                Ok(block) => Disk::Ready(Box::new(block)),
                Err(error) => Disk::Failed(format!("{}: {error}", function.location)),
            };
            self.disks = Some(functions.iter().map(start).collect());
        }
        self.disks.get_or_insert_default()
    }

    fn random(&mut self, bytes: u64) -> Outcome {
        if self.entropy.is_none() {
            let function = *self
                .virtio(virtio::TYPE_ENTROPY)
                .first()
                .ok_or("there is no entropy device")?;
            self.entropy = Some(Entropy::new(&function).map_err(|error| error.to_string())?);
        }
        let mut device = self.entropy.take().ok_or("there is no entropy device")?;
        let (mut left, mut first) = (bytes, Vec::<u8>::new());
        while left > 0 {
            device.request(usize::try_from(left).unwrap_or(Entropy::LIMIT));
            let part = self.wait(time::after_us(DEVICE_LIMIT_US), |_| {
                if device.ask_interrupt() {
                    return None;
                }
                let part = device.take()?;
                first.extend(part.iter().take(32 - first.len().min(32)));
                Some(part.len() as u64)
            });
            match part {
                Some(part @ 1..) => left = left.saturating_sub(part),
                Some(0) => return Err("the entropy device returned no bytes".to_string()),
                // Dropping the device takes its memory back.
                None => return Err("the entropy device did not answer within 30 s".to_string()),
            }
        }
        self.entropy = Some(device);
        let hex: String = first.iter().map(|byte| format!("{byte:02x}")).collect();
        println!("probe: rng bytes={bytes} first={hex}");
        Ok(())
    }

    fn info(&mut self) -> Outcome {
        let virtio_functions = |probe: &mut Self, kind| probe.virtio(kind).len();
        let disks = virtio_functions(self, virtio::TYPE_BLOCK);
        let interfaces = virtio_functions(self, virtio::TYPE_NET);
        let entropy = virtio_functions(self, virtio::TYPE_ENTROPY);
        println!(
            "probe: info disks={disks} interfaces={interfaces} entropy={entropy} heap_kib={} sleeps={}",
            guest_rt::heap_in_use() >> 10,
            self.sleeps
        );
        for function in self.functions() {
            println!(
                "probe: pci at={} id={:04x}:{:04x}",
                function.location, function.vendor, function.device
            );
        }
        Ok(())
    }
}

/// Microseconds since a counter value.
pub fn elapsed_us(start: u64) -> u64 {
    time::ticks_to_ns(time::tsc().saturating_sub(start)) / 1000
}

/// A text that can stand between quotation marks on one line.
pub fn quotable(text: &str) -> String {
    text.chars()
        .map(|character| {
            if character == '"' || character.is_control() {
                '\''
            } else {
                character
            }
        })
        .collect()
}
