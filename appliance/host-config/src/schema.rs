//! What a configuration may say. Everything but the version has a default; an empty configuration asks for addresses by DHCP on
//! every Ethernet interface.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use cpu::CpuSet;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use types::MacAddress;

/// A host's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostConfig {
    /// Version of the schema: [`VERSION`](crate::VERSION).
    pub version: u32,
    /// The host's name: 1–63 letters, digits and dashes. Without one, what DHCP says, or `ashlar-` and a part of its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The zone that the host is in: 1–63 letters, digits and dashes. Instances can ask for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The host's own network; instances have theirs.
    #[serde(default)]
    pub network: Network,
    /// The clock.
    #[serde(default)]
    pub time: Time,
    /// The host's interface for programs.
    #[serde(default)]
    pub api: Api,
    /// Where instances' disks and images are.
    #[serde(default)]
    pub storage: Storage,
    /// The CPUs and who has them.
    #[serde(default)]
    pub cpu: Cpu,
    /// What the kernel is told.
    #[serde(default)]
    pub kernel: Kernel,
    /// How an updated host is judged.
    #[serde(default)]
    pub update: Update,
    /// How the host goes down.
    #[serde(default)]
    pub shutdown: Shutdown,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            version: crate::VERSION,
            hostname: None,
            zone: None,
            network: Network::default(),
            time: Time::default(),
            api: Api::default(),
            storage: Storage::default(),
            cpu: Cpu::default(),
            kernel: Kernel::default(),
            update: Update::default(),
            shutdown: Shutdown::default(),
        }
    }
}

/// The host's own network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// Name servers, before those that DHCP brings.
    pub dns: Vec<IpAddr>,
    /// Domains that short names are completed with.
    pub search: Vec<String>,
    /// Ethernet interfaces. Without any, each asks by DHCP.
    #[serde(rename = "interface")]
    pub interfaces: Vec<Interface>,
    /// Several interfaces as one.
    #[serde(rename = "bond")]
    pub bonds: Vec<Bond>,
    /// VLANs.
    #[serde(rename = "vlan")]
    pub vlans: Vec<Vlan>,
}

/// What an interface carries; the same for Ethernet, bonds and VLANs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Link {
    /// Whether an IPv4 address is leased, and IPv6 addresses are taken from router advertisements.
    pub dhcp: bool,
    /// Fixed addresses with their subnets: `10.0.0.7/24`.
    pub addresses: Vec<IpNet>,
    /// Gateways of default routes, at most one per family, each within one of the addresses' subnets.
    pub gateways: Vec<IpAddr>,
    /// Bytes of the largest packet: 1280–9216.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
}

/// An Ethernet interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// The name it gets, 1–15 characters; without one it has that of its place, such as `enp3s0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Which one it is.
    #[serde(rename = "match")]
    pub matches: Match,
    /// What it carries; nothing when it is a member of a bond.
    #[serde(flatten)]
    pub link: Link,
}

/// Which interface is meant: by exactly one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Match {
    /// Its permanent hardware address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddress>,
    /// Its place: `enp3s0` or `0000:03:00.0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Its driver: every one of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
}

/// Several interfaces as one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bond {
    /// Its name.
    pub name: String,
    /// Names of its members, as they are after naming.
    pub members: Vec<String>,
    /// How they share the work.
    #[serde(default)]
    pub mode: BondMode,
    /// How often their links are looked at, milliseconds, 10–10000.
    #[serde(default = "miimon")]
    pub miimon_ms: u32,
    /// What it carries.
    #[serde(flatten)]
    pub link: Link,
}

fn miimon() -> u32 {
    100
}

/// How the members of a bond share the work (Linux, Documentation/networking/bonding.rst).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BondMode {
    /// One works, the others stand by.
    #[default]
    ActiveBackup,
    /// Link aggregation (IEEE 802.1AX); the switch must be set to it.
    #[serde(rename = "802.3ad")]
    Lacp,
    /// In turn.
    BalanceRr,
    /// By a hash of addresses and ports.
    BalanceXor,
}

/// A VLAN (IEEE 802.1Q).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vlan {
    /// Its name.
    pub name: String,
    /// The interface or bond that carries it.
    pub parent: String,
    /// 1–4094.
    pub id: u16,
    /// What it carries.
    #[serde(flatten)]
    pub link: Link,
}

/// The clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Time {
    /// Time servers, by name or address, before those that DHCP brings. At most 8.
    pub servers: Vec<String>,
}

/// The host's interface for programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Api {
    /// Where it is served, with TLS.
    pub listen: SocketAddr,
    /// Names and addresses beside the host's own that its certificate is for. At most 16.
    pub names: Vec<String>,
}

impl Default for Api {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0_u16; 8], 7443)),
            names: Vec::new(),
        }
    }
}

/// Where instances' disks and images are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Storage {
    /// The disk for the data.
    pub data: DataDisk,
    /// Whether the named disk may be erased if it holds something else.
    pub erase: bool,
    /// Whether the data is encrypted at rest, and by what the key is kept. Counts when the data partition is made.
    pub encryption: Encryption,
}

/// The disk for the data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum DataDisk {
    /// The free space of the disk the host booted from, or the only blank disk.
    #[default]
    Auto,
    /// A device file (`/dev/…`) or `serial:…`.
    Named(String),
}

impl From<String> for DataDisk {
    fn from(text: String) -> Self {
        if text == "auto" {
            Self::Auto
        } else {
            Self::Named(text)
        }
    }
}

impl From<DataDisk> for String {
    fn from(disk: DataDisk) -> Self {
        match disk {
            DataDisk::Auto => "auto".to_owned(),
            DataDisk::Named(name) => name,
        }
    }
}

/// How data is encrypted at rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encryption {
    /// Not at all.
    #[default]
    None,
    /// By a key that the machine's TPM gives out only to a boot of the same kind.
    Tpm,
    /// By a key that the operator keeps, and gives at every boot: on a volume, or over the API.
    Key,
}

/// The CPUs and who has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cpu {
    /// CPUs that instances of enterprise families have for themselves, whole cores at a time, as in `2-7`; none: all share all.
    pub dedicated: CpuSet,
}

/// What the kernel is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kernel {
    /// Modules to load beside those that devices ask for. At most 64.
    pub modules: Vec<String>,
    /// Huge pages of 2 MiB to set aside.
    pub hugepages_2m: u64,
    /// Huge pages of 1 GiB to set aside.
    pub hugepages_1g: u64,
    /// Settings, named as sysctl(8) does; they come after the host's own. At most 256.
    pub sysctl: BTreeMap<String, String>,
}

/// How an updated host is judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Update {
    /// Seconds that an updated host has to be found healthy, 10–3600.
    pub health_deadline_s: u32,
    /// Whether an updated host must have reached its network to be found healthy.
    pub needs_network: bool,
}

impl Default for Update {
    fn default() -> Self {
        Self {
            health_deadline_s: 180,
            needs_network: true,
        }
    }
}

/// How the host goes down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Shutdown {
    /// Seconds that guests have to power off before they are stopped by force, 0–3600.
    pub grace_s: u32,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { grace_s: 60 }
    }
}
