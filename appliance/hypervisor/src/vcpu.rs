//! Running a virtual processor.

use std::sync::Arc;

use kvm_bindings::KVM_INTERNAL_ERROR_EMULATION;
use kvm_ioctls::{VcpuExit, VcpuFd};

use crate::registers;
use crate::{Entry, Kick, KvmError, Vm};

/// Why a vCPU left the guest.
#[derive(Debug)]
pub enum Exit<'a> {
    /// The guest reads a port: fill `data`, which holds one or (string instruction) several items of `size`
    /// bytes, before the next run.
    PortIn {
        /// Port number.
        port: u16,
        /// 1, 2 or 4.
        size: usize,
        /// A multiple of `size` bytes.
        data: &'a mut [u8],
    },
    /// The guest writes a port.
    PortOut {
        /// Port number.
        port: u16,
        /// 1, 2 or 4.
        size: usize,
        /// A multiple of `size` bytes.
        data: &'a [u8],
    },
    /// The guest reads memory that is not RAM: fill `data`, 1 to 8 bytes, before the next run.
    MemoryRead {
        /// Guest-physical address.
        address: u64,
        /// Where the bytes go.
        data: &'a mut [u8],
    },
    /// The guest writes memory that is not RAM.
    MemoryWrite {
        /// Guest-physical address.
        address: u64,
        /// 1 to 8 bytes.
        data: &'a [u8],
    },
    /// [`Kick::kick`], or nothing in particular: look whether something is wanted, then run again.
    Kicked,
    /// A triple fault.
    TripleFault,
    /// KVM cannot go on with this guest.
    Failed(Failure),
}

/// Why KVM cannot go on, with what helps to find the cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What KVM said.
    pub reason: String,
    /// Instruction pointer, if it could be read.
    pub rip: Option<u64>,
    /// Bytes of the instruction, if KVM gave them.
    pub instruction: Vec<u8>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.reason)?;
        if let Some(rip) = self.rip {
            write!(f, " at rip {rip:#x}")?;
        }
        if !self.instruction.is_empty() {
            f.write_str(", instruction bytes")?;
            for byte in &self.instruction {
                write!(f, " {byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// A virtual processor. Runs on whatever thread calls [`Vcpu::run`], one at a time.
pub struct Vcpu {
    fd: VcpuFd,
    kick: Arc<Kick>,
    /// Keeps the machine, and with it the guest's memory, as long as the guest can run.
    _vm: Arc<Vm>,
}

impl Vcpu {
    pub(crate) fn new(fd: VcpuFd, vm: Arc<Vm>) -> Result<Self, KvmError> {
        registers::set_msrs(&fd);
        let kick = Arc::new(Kick::new(&fd)?);
        Ok(Self { fd, kick, _vm: vm })
    }

    /// Puts the vCPU at a boot entry. For the boot processor, before its first run.
    ///
    /// # Errors
    /// KVM refuses the state.
    pub fn set_entry(&mut self, entry: Entry) -> Result<(), KvmError> {
        registers::set_entry(&self.fd, entry)
    }

    /// The handle that gets the vCPU out of the guest.
    pub fn kick_handle(&self) -> Arc<Kick> {
        Arc::clone(&self.kick)
    }

    /// Binds the vCPU to the calling thread: from now on kicks signal this thread.
    pub fn bind_to_thread(&self) {
        self.kick.bind();
    }

    /// Runs the guest until it needs something.
    ///
    /// # Errors
    /// KVM fails for a reason that is not the guest's.
    pub fn run(&mut self) -> Result<Exit<'_>, KvmError> {
        // Where the data of an exit lies, so that the borrow that `VcpuFd::run` returns can end here.
        enum Data {
            In(u16, *mut [u8]),
            Out(u16, *const [u8]),
            InternalError,
        }
        let data = match self.fd.run() {
            Ok(VcpuExit::IoIn(port, data)) => Data::In(port, data),
            Ok(VcpuExit::IoOut(port, data)) => Data::Out(port, data),
            Ok(VcpuExit::MmioRead(address, data)) => {
                let data: *mut [u8] = data;
                // SAFETY: `data` lies in the run page, mapped as long as `self`, and nothing else touches it
                // until the next run, which needs `self` again.
                let data = unsafe { &mut *data };
                return Ok(Exit::MemoryRead { address, data });
            }
            Ok(VcpuExit::MmioWrite(address, data)) => {
                let data: *const [u8] = data;
                // SAFETY: as for `MmioRead`.
                let data = unsafe { &*data };
                return Ok(Exit::MemoryWrite { address, data });
            }
            Ok(VcpuExit::Shutdown) => return Ok(Exit::TripleFault),
            Ok(VcpuExit::Intr | VcpuExit::Hlt | VcpuExit::IrqWindowOpen) => {
                self.kick.clear();
                return Ok(Exit::Kicked);
            }
            Ok(VcpuExit::InternalError) => Data::InternalError,
            Ok(VcpuExit::FailEntry(reason, _)) => {
                return Ok(self.failed(format!(
                    "the processor refused to enter the guest ({reason:#x})"
                )));
            }
            Ok(VcpuExit::MemoryFault { gpa, .. }) => {
                return Ok(self.failed(format!("guest memory at {gpa:#x} cannot be accessed")));
            }
            Ok(other) => {
                let reason = format!("unexpected exit {other:?}");
                return Ok(self.failed(reason));
            }
            Err(error) if [libc::EINTR, libc::EAGAIN].contains(&error.errno()) => {
                self.kick.clear();
                return Ok(Exit::Kicked);
            }
            Err(error) if error.errno() == libc::EFAULT => {
                return Ok(
                    self.failed("guest memory could not be provided (host out of memory?)".into())
                );
            }
            Err(error) => return Err(KvmError::of("running a virtual processor")(error)),
        };
        match data {
            Data::In(port, data) => {
                let size = self.port_item_size();
                // SAFETY: `data` lies in the vCPU's mapping, which lives as long as `self`, and nothing else
                // touches it until the next run, which needs `self` again.
                let data = unsafe { &mut *data };
                Ok(Exit::PortIn { port, size, data })
            }
            Data::Out(port, data) => {
                let size = self.port_item_size();
                // SAFETY: as for `In`.
                let data = unsafe { &*data };
                Ok(Exit::PortOut { port, size, data })
            }
            Data::InternalError => Ok(self.internal_error()),
        }
    }

    fn port_item_size(&mut self) -> usize {
        // SAFETY: called only after a port exit, when this is the union's live field.
        let size = unsafe { self.fd.get_kvm_run().__bindgen_anon_1.io.size };
        usize::from(size.max(1))
    }

    fn internal_error(&mut self) -> Exit<'static> {
        // SAFETY: called only after an internal-error exit; `internal` is then live, and `emulation_failure` is
        // another view of the same plain integers.
        let (error, detail) = unsafe {
            let run = &self.fd.get_kvm_run().__bindgen_anon_1;
            (run.internal, run.emulation_failure)
        };
        let mut failure = self.failure(format!("KVM internal error {}", error.suberror));
        if error.suberror == KVM_INTERNAL_ERROR_EMULATION {
            failure.reason = "KVM cannot emulate an instruction".into();
            // SAFETY: plain integers, initialised by the kernel or zero.
            let instruction = unsafe { detail.__bindgen_anon_1.__bindgen_anon_1 };
            let length = usize::from(instruction.insn_size).min(instruction.insn_bytes.len());
            if detail.ndata > 0 && detail.flags & 1 != 0 {
                failure.instruction = instruction.insn_bytes[..length].to_vec();
            }
        }
        Exit::Failed(failure)
    }

    fn failed(&self, reason: String) -> Exit<'static> {
        Exit::Failed(self.failure(reason))
    }

    fn failure(&self, reason: String) -> Failure {
        let rip = self.fd.get_regs().ok().map(|registers| registers.rip);
        Failure {
            reason,
            rip,
            instruction: Vec::new(),
        }
    }
}

impl Drop for Vcpu {
    fn drop(&mut self) {
        self.kick.unbind();
    }
}
