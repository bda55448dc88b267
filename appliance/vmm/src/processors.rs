//! The threads that run the guest.
//!
//! ```text
//!             pause               stop
//!  running ──────────▶ paused ───────────▶ ended
//!     ▲ │◀────────────────┘ resume           ▲
//!     └─┴──────────── an outcome ────────────┘
//! ```

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;

use crate::alarm::Alarm;
use hypervisor::{Exit, Kick, Vcpu};

use crate::confine::Confinement;
use crate::platform::{Outcome, Platform};

/// Room for the exit loop and the devices' register accesses.
const STACK_BYTES: usize = 128 << 10;

/// How a machine came to its end: the first outcome counts. Wakes the control thread.
pub(crate) struct Verdict {
    outcome: OnceLock<Outcome>,
    alarm: Arc<Alarm>,
}

impl Verdict {
    pub(crate) fn new(alarm: Arc<Alarm>) -> Self {
        Self {
            outcome: OnceLock::new(),
            alarm,
        }
    }

    /// Reports an outcome; later ones than the first are dropped.
    pub(crate) fn report(&self, outcome: Outcome) {
        let _ = self.outcome.set(outcome);
        self.alarm.ring();
    }

    /// The outcome, once there is one.
    pub(crate) fn get(&self) -> Option<&Outcome> {
        self.outcome.get()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Running,
    Paused,
    Stopped,
}

/// Where vCPU threads wait while paused, and learn that they must end.
struct Gate {
    mode: Mutex<Mode>,
    changed: Condvar,
}

impl Gate {
    /// Waits while paused; tells whether to go on.
    fn pass(&self) -> bool {
        let running = |mode: &mut Mode| *mode == Mode::Paused;
        let mode = self.changed.wait_while(self.lock(), running);
        *mode.unwrap_or_else(PoisonError::into_inner) == Mode::Running
    }

    /// Changes the mode unless stopped.
    fn set(&self, mode: Mode) {
        let mut current = self.lock();
        if *current != Mode::Stopped {
            *current = mode;
            self.changed.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Mode> {
        self.mode.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The running vCPUs of a machine; dropping them stops them.
pub(crate) struct Processors {
    gate: Arc<Gate>,
    kicks: Vec<Arc<Kick>>,
    threads: Vec<JoinHandle<()>>,
}

impl Processors {
    /// Starts a thread for each vCPU. All of them wait until the last is ready, so that a failure starts none.
    pub(crate) fn start(
        vcpus: Vec<Vcpu>,
        platform: &Arc<Platform>,
        verdict: &Arc<Verdict>,
        confinement: &Arc<Confinement>,
    ) -> io::Result<Self> {
        let gate = Arc::new(Gate {
            mode: Mutex::new(Mode::Paused),
            changed: Condvar::new(),
        });
        let kicks = vcpus.iter().map(Vcpu::kick_handle).collect();
        let mut processors = Self {
            gate: Arc::clone(&gate),
            kicks,
            threads: Vec::new(),
        };
        for (index, vcpu) in vcpus.into_iter().enumerate() {
            let thread = VcpuThread {
                vcpu,
                gate: Arc::clone(&gate),
                platform: Arc::clone(platform),
                verdict: Arc::clone(verdict),
            };
            let confinement = Arc::clone(confinement);
            let builder = std::thread::Builder::new()
                .name(format!("vcpu{index}"))
                .stack_size(STACK_BYTES);
            processors
                .threads
                .push(builder.spawn(move || thread.main(&confinement))?);
        }
        gate.set(Mode::Running);
        Ok(processors)
    }

    /// Halts all vCPUs; they leave the guest within microseconds, not necessarily before this returns.
    pub(crate) fn pause(&self) {
        self.gate.set(Mode::Paused);
        self.kick();
    }

    /// Lets them go on.
    pub(crate) fn resume(&self) {
        self.gate.set(Mode::Running);
    }

    /// Whether they are halted by [`Processors::pause`].
    pub(crate) fn paused(&self) -> bool {
        *self.gate.lock() == Mode::Paused
    }

    fn kick(&self) {
        for kick in &self.kicks {
            kick.kick();
        }
    }
}

impl Drop for Processors {
    fn drop(&mut self) {
        self.gate.set(Mode::Stopped);
        self.kick();
        for thread in self.threads.drain(..) {
            // A thread that panicked has reported that already.
            let _ = thread.join();
        }
    }
}

struct VcpuThread {
    vcpu: Vcpu,
    gate: Arc<Gate>,
    platform: Arc<Platform>,
    verdict: Arc<Verdict>,
}

impl VcpuThread {
    fn main(mut self, confinement: &Confinement) {
        let _report = ReportPanic(Arc::clone(&self.verdict));
        self.vcpu.bind_to_thread();
        if let Err(error) = confinement.vcpu() {
            self.verdict.report(Outcome::Failed(error.to_string()));
            return;
        }
        while self.gate.pass() {
            if let Some(outcome) = self.run_until_kicked() {
                // The others go on until the control thread stops them: the guest can still make its end known there.
                self.verdict.report(outcome);
                return;
            }
        }
    }

    /// Runs the guest; `None` means that something may be wanted of this thread.
    fn run_until_kicked(&mut self) -> Option<Outcome> {
        loop {
            let exit = match self.vcpu.run() {
                Ok(exit) => exit,
                Err(error) => return Some(Outcome::Failed(crate::chain(&error))),
            };
            match exit {
                Exit::PortOut { port, size, data } => {
                    let outcome = self.platform.port_out(port, size, data);
                    if outcome.is_some() {
                        return outcome;
                    }
                }
                Exit::PortIn { port, size, data } => self.platform.port_in(port, size, data),
                Exit::MemoryRead { address, data } => self.platform.memory_read(address, data),
                Exit::MemoryWrite { address, data } => self.platform.memory_write(address, data),
                Exit::Kicked => return None,
                Exit::TripleFault => return Some(Outcome::TripleFault),
                Exit::Failed(failure) => return Some(Outcome::GuestFailed(failure.to_string())),
            }
        }
    }
}

/// Turns a panic of a vCPU thread, which would be a defect here, into the machine's end.
struct ReportPanic(Arc<Verdict>);

impl Drop for ReportPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0
                .report(Outcome::Failed("a vCPU thread panicked".into()));
        }
    }
}
