//! One virtual machine.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use kvm_bindings::{KVM_PIT_SPEAKER_DUMMY, kvm_pit_config, kvm_userspace_memory_region};
use kvm_ioctls::{Cap, IoEventAddress, NoDatamatch, VmFd};
use vm_memory::{Address, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};
use vmm_sys_util::eventfd::EventFd;

use crate::routing::Routes;
use crate::{Cpuid, KvmError, Vcpu};

/// Three pages for KVM's use on hosts without unrestricted guests.
const TSS_ADDRESS: usize = 0xFFFB_D000;
/// One page for KVM's use on such hosts.
const IDENTITY_MAP_ADDRESS: u64 = 0xFFFB_C000;

/// A virtual machine. Shared by all that hold a piece of it; the last one to go closes it.
pub struct Vm {
    fd: VmFd,
    memory: OnceLock<Arc<GuestMemoryMmap>>,
    routes: Mutex<Routes>,
}

impl Vm {
    pub(crate) fn new(fd: VmFd) -> Self {
        Self {
            fd,
            memory: OnceLock::new(),
            routes: Mutex::new(Routes::new()),
        }
    }

    /// Gives the machine its memory: one slot per region. Once only; further calls fail.
    ///
    /// # Errors
    /// The machine has memory, or KVM refuses a region (not page aligned, too large).
    pub fn set_memory(&self, memory: Arc<GuestMemoryMmap>) -> Result<(), KvmError> {
        let operation = "giving the machine its memory";
        self.memory
            .set(Arc::clone(&memory))
            .map_err(|_| KvmError::io(operation)(std::io::ErrorKind::AlreadyExists.into()))?;
        for (slot, region) in (0..).zip(memory.iter()) {
            let host = memory
                .get_host_address(region.start_addr())
                .map_err(|error| KvmError::io(operation)(std::io::Error::other(error)))?;
            let region = kvm_userspace_memory_region {
                slot,
                flags: 0,
                guest_phys_addr: region.start_addr().raw_value(),
                memory_size: region.len(),
                userspace_addr: host.addr() as u64,
            };
            // SAFETY: the range is a live mapping of `memory`, which `self` keeps from here on, and every vCPU
            // keeps `self`; regions of one GuestMemoryMmap do not overlap.
            unsafe { self.fd.set_user_memory_region(region) }.map_err(KvmError::of(operation))?;
        }
        Ok(())
    }

    /// Makes the in-kernel PIC, I/O APIC, local APICs and PIT. Before any vCPU is made.
    ///
    /// # Errors
    /// KVM refuses.
    pub fn create_interrupt_controllers(&self) -> Result<(), KvmError> {
        self.fd
            .set_tss_address(TSS_ADDRESS)
            .map_err(KvmError::of("setting the TSS address"))?;
        self.fd
            .set_identity_map_address(IDENTITY_MAP_ADDRESS)
            .map_err(KvmError::of("setting the identity map address"))?;
        self.fd
            .create_irq_chip()
            .map_err(KvmError::of("making the interrupt controllers"))?;
        let pit = kvm_pit_config {
            flags: KVM_PIT_SPEAKER_DUMMY,
            ..Default::default()
        };
        self.fd
            .create_pit2(pit)
            .map_err(KvmError::of("making the timer"))
    }

    /// Makes vCPU `id` with its view of the processor. Ids count from 0; 0 starts, the others wait for INIT
    /// and SIPI.
    ///
    /// # Errors
    /// KVM refuses (id taken or too high).
    pub fn create_vcpu(self: &Arc<Self>, id: u8, cpuid: &Cpuid) -> Result<Vcpu, KvmError> {
        let fd = self
            .fd
            .create_vcpu(u64::from(id))
            .map_err(KvmError::of("making a virtual processor"))?;
        let tsc_khz = fd.get_tsc_khz().ok();
        let view = cpuid.of_vcpu(id, tsc_khz, self.fd.check_extension(Cap::TscDeadlineTimer));
        fd.set_cpuid2(&view)
            .map_err(KvmError::of("setting CPUID"))?;
        Vcpu::new(fd, Arc::clone(self))
    }

    /// From now on a write of any width at guest-physical `address` adds 1 to `event` instead of exiting.
    ///
    /// # Errors
    /// The address is taken, or KVM's limit of doorbells is reached.
    pub fn add_doorbell(&self, address: u64, event: &EventFd) -> Result<(), KvmError> {
        self.fd
            .register_ioevent(event, &IoEventAddress::Mmio(address), NoDatamatch)
            .map_err(KvmError::of("adding a doorbell"))
    }

    /// Takes back [`Vm::add_doorbell`].
    ///
    /// # Errors
    /// There is no such doorbell.
    pub fn remove_doorbell(&self, address: u64, event: &EventFd) -> Result<(), KvmError> {
        self.fd
            .unregister_ioevent(event, &IoEventAddress::Mmio(address), NoDatamatch)
            .map_err(KvmError::of("removing a doorbell"))
    }

    /// Sets the level of an I/O APIC input.
    ///
    /// # Errors
    /// KVM refuses: no such input, or no interrupt controllers.
    pub fn set_level(&self, gsi: u32, active: bool) -> Result<(), KvmError> {
        self.fd
            .set_irq_line(gsi, active)
            .map_err(KvmError::of("setting an interrupt line"))
    }

    pub(crate) fn raw(&self) -> &VmFd {
        &self.fd
    }

    pub(crate) fn routes(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
