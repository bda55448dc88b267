//! What a machine is made of.

use serde::{Deserialize, Serialize};

/// One machine. `F` is a descriptor: an owned one where the daemon prepares the machine, a number in the
/// process that runs it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineConfig<F> {
    /// Number of virtual processors, from 1 to [`hypervisor::MAX_VCPUS`].
    pub vcpus: u32,
    /// Guest memory in bytes: a multiple of 4096, at least 2 MiB.
    pub memory_bytes: u64,
    /// What is started.
    pub boot: Boot<F>,
    /// Disks in the order in which the guest finds them.
    pub disks: Vec<Disk<F>>,
    /// Network interfaces in the order in which the guest finds them.
    pub nics: Vec<Nic<F>>,
    /// Whether the guest has an entropy device.
    pub rng: bool,
    /// The host's side.
    pub host: Host<F>,
}

/// What a machine starts with.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Boot<F> {
    /// An ELF image with a PVH entry note.
    Pvh(Kernel<F>),
    /// A Linux bzImage, protocol 2.12 or newer.
    Linux(Kernel<F>),
}

/// A kernel with what is handed to it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel<F> {
    /// The image, open for reading.
    pub image: F,
    /// An initial RAM disk (PVH: module 0), open for reading.
    pub initrd: Option<F>,
    /// The command line: at most 2047 bytes, no NUL.
    pub cmdline: String,
}

/// A disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk<F> {
    /// A regular file or block device, open as the guest may use it (with O_DIRECT where that works).
    pub file: F,
    /// Whether the guest may only read.
    pub read_only: bool,
    /// What the guest sees as serial number: at most 20 ASCII bytes.
    pub serial: String,
}

/// A network interface.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nic<F> {
    /// A tap with a 12-byte virtio-net header (IFF_VNET_HDR), open for reading and writing.
    pub tap: F,
    /// The guest's hardware address.
    pub mac: [u8; 6],
    /// The largest packet in bytes, from 68 to 65535.
    pub mtu: u16,
}

/// The host's side of a machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host<F> {
    /// The guest's memory: [`crate::memory::create`].
    pub memory: F,
    /// The console's ring file: [`crate::console::create`].
    pub console: F,
}

/// All a vmm process is given.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProcessConfig<F> {
    pub(crate) machine: MachineConfig<F>,
    pub(crate) sockets: Sockets<F>,
    /// Where standard error goes from now on.
    pub(crate) stderr: Option<F>,
}

/// Where the daemon is heard.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sockets<F> {
    /// Bound, not yet listening.
    pub(crate) listener: F,
    /// Connected: the first connection, on which the start is reported.
    pub(crate) first: F,
    /// The user that may connect to the listener.
    pub(crate) peer_uid: u32,
}

impl<F> ProcessConfig<F> {
    /// The same with every descriptor replaced.
    pub(crate) fn try_map<G, E>(
        self,
        mut map: impl FnMut(F) -> Result<G, E>,
    ) -> Result<ProcessConfig<G>, E> {
        Ok(ProcessConfig {
            sockets: Sockets {
                listener: map(self.sockets.listener)?,
                first: map(self.sockets.first)?,
                peer_uid: self.sockets.peer_uid,
            },
            stderr: self.stderr.map(&mut map).transpose()?,
            machine: self.machine.try_map(map)?,
        })
    }
}

impl<F> MachineConfig<F> {
    /// The same machine with every descriptor replaced by what `map` makes of it, in a fixed order.
    ///
    /// # Errors
    /// The first error of `map`.
    pub fn try_map<G, E>(
        self,
        mut map: impl FnMut(F) -> Result<G, E>,
    ) -> Result<MachineConfig<G>, E> {
        let map = &mut map;
        Ok(MachineConfig {
            vcpus: self.vcpus,
            memory_bytes: self.memory_bytes,
            boot: match self.boot {
                Boot::Pvh(kernel) => Boot::Pvh(kernel.try_map(map)?),
                Boot::Linux(kernel) => Boot::Linux(kernel.try_map(map)?),
            },
            disks: self
                .disks
                .into_iter()
                .map(|disk| disk.try_map(map))
                .collect::<Result<_, _>>()?,
            nics: self
                .nics
                .into_iter()
                .map(|nic| nic.try_map(map))
                .collect::<Result<_, _>>()?,
            rng: self.rng,
            host: Host {
                memory: map(self.host.memory)?,
                console: map(self.host.console)?,
            },
        })
    }
}

impl<F> Boot<F> {
    /// The same with every descriptor replaced.
    pub(crate) fn map<G>(self, map: impl Fn(F) -> G) -> Boot<G> {
        let kernel = |kernel: Kernel<F>| Kernel {
            image: map(kernel.image),
            initrd: kernel.initrd.map(&map),
            cmdline: kernel.cmdline,
        };
        match self {
            Self::Pvh(image) => Boot::Pvh(kernel(image)),
            Self::Linux(image) => Boot::Linux(kernel(image)),
        }
    }

    /// The kernel, whatever the protocol.
    pub fn kernel(&self) -> &Kernel<F> {
        match self {
            Self::Pvh(kernel) | Self::Linux(kernel) => kernel,
        }
    }
}

impl<F> Kernel<F> {
    fn try_map<G, E>(self, map: &mut impl FnMut(F) -> Result<G, E>) -> Result<Kernel<G>, E> {
        Ok(Kernel {
            image: map(self.image)?,
            initrd: self.initrd.map(map).transpose()?,
            cmdline: self.cmdline,
        })
    }
}

impl<F> Disk<F> {
    fn try_map<G, E>(self, map: &mut impl FnMut(F) -> Result<G, E>) -> Result<Disk<G>, E> {
        Ok(Disk {
            file: map(self.file)?,
            read_only: self.read_only,
            serial: self.serial,
        })
    }
}

impl<F> Nic<F> {
    fn try_map<G, E>(self, map: &mut impl FnMut(F) -> Result<G, E>) -> Result<Nic<G>, E> {
        Ok(Nic {
            tap: map(self.tap)?,
            mac: self.mac,
            mtu: self.mtu,
        })
    }
}
