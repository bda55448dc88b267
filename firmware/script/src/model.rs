//! What a script can say.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use crate::{Order, Pattern};

/// A statement: the command and what its answer is tagged with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Tag, if given.
    pub tag: Option<String>,
    /// What to do.
    pub command: Command,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Something with a disk.
    Disk(DiskCommand),
    /// Something with the network.
    Net(NetCommand),
    /// Use this many CPUs at once.
    Cpus(u32),
    /// Write one word in every page of so many MiB.
    Touch(u64),
    /// Keep so many CPUs busy for a time.
    Spin {
        /// For how long.
        us: u64,
        /// How many.
        cpus: u32,
    },
    /// Do nothing for so many microseconds.
    Sleep(u64),
    /// Read so many random bytes.
    Rng(u64),
    /// Print a text.
    Say(String),
    /// Print facts about the machine.
    Info,
    /// End this way.
    End(Action),
    /// What to do when the power button is pressed.
    OnPowerButton(PowerButton),
    /// Obey the console until `exit`.
    Shell,
    /// Leave the shell.
    Exit,
    /// Do a command several times; `None`: until something ends the guest.
    Repeat(Option<u64>, Box<Command>),
}

/// Ways to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Stop with interrupts off, for good.
    Halt,
    /// Shut the CPU down by a fault.
    TripleFault,
    /// Reset the machine.
    Reset,
    /// Switch it off.
    PowerOff,
    /// Panic.
    Panic,
}

/// Answers to the power button.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerButton {
    /// Switch off.
    PowerOff,
    /// Reset.
    Reset,
    /// Say that it was pressed and go on.
    Ignore,
}

/// Disk commands. Disks are numbered from 0 in PCI order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskCommand {
    /// List them.
    List,
    /// Write a pattern.
    Write(Transfer),
    /// Read and compare with a pattern.
    Verify(Transfer),
    /// Measure.
    Bench(Bench),
    /// Make writes durable.
    Flush(usize),
    /// Give sectors up.
    Discard(usize, Extent),
    /// Make sectors zero; true: their space may be given up.
    Zero(usize, Extent, bool),
}

/// A range of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// First sector.
    pub start: u64,
    /// Sectors; `None`: to the end of the disk.
    pub sectors: Option<u64>,
}

/// A pass over a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// Which disk.
    pub disk: usize,
    /// Where.
    pub extent: Extent,
    /// What.
    pub pattern: Pattern,
    /// Bytes a request.
    pub block: u64,
    /// Requests on their way.
    pub depth: u16,
}

/// How to wait for completions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Sleep until an interrupt.
    Interrupt,
    /// Look again and again.
    Poll,
}

/// A measurement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bench {
    /// Which disk.
    pub disk: usize,
    /// Where.
    pub extent: Extent,
    /// Writes instead of reads.
    pub write: bool,
    /// Order of blocks.
    pub order: Order,
    /// Bytes a request.
    pub block: u64,
    /// Requests on their way.
    pub depth: u16,
    /// End after so many requests.
    pub count: Option<u64>,
    /// End after so many microseconds.
    pub time_us: Option<u64>,
    /// How to wait.
    pub wait: Wait,
}

/// Network commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetCommand {
    /// Get an address by DHCP.
    Dhcp {
        /// Give up after.
        timeout_us: u64,
    },
    /// Take an address.
    Ip {
        /// The address.
        address: Ipv4Addr,
        /// Length of the network's prefix.
        prefix: u8,
        /// Default router.
        gateway: Option<Ipv4Addr>,
    },
    /// Echo on these ports in the background.
    Serve {
        /// TCP ports.
        tcp: Vec<u16>,
        /// UDP ports.
        udp: Vec<u16>,
    },
    /// Connect by TCP, and echo so many bytes if not 0.
    Connect {
        /// Where to.
        to: (Ipv4Addr, u16),
        /// Give up after.
        timeout_us: u64,
        /// Bytes to send and get back.
        echo: u64,
    },
    /// Send a datagram of so many bytes and wait for it to come back.
    Udp {
        /// Where to.
        to: (Ipv4Addr, u16),
        /// Give up after.
        timeout_us: u64,
        /// Bytes.
        bytes: u64,
    },
    /// Ask for ICMP echoes.
    Ping {
        /// Whom.
        address: Ipv4Addr,
        /// How often, once a second.
        count: u64,
        /// Give each up after.
        timeout_us: u64,
    },
}
