//! Where an interface sits in the machine, and the name this gives it: that of systemd's predictable names, policy `path`
//! (systemd.net-naming-scheme(7)), so that names stay when cards are added or drivers come up in another order.

use std::fs;
use std::path::{Path, PathBuf};

/// Linux `IFNAMSIZ` without the final zero.
const LONGEST_NAME: usize = 15;

/// What sysfs tells about an interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) pci: Option<Pci>,
    pub(crate) usb: bool,
    pub(crate) driver: Option<String>,
}

/// A PCI function, and which of its ports.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pci {
    domain: u32,
    bus: u8,
    slot: u8,
    function: u8,
    multifunction: bool,
    /// The number of a virtual function (SR-IOV) of this one.
    virtual_function: Option<u32>,
    port: Port,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Port {
    Only,
    Number(u32),
    Name(String),
}

impl Place {
    /// Reads it below `sysfs` (`/sys`). What is missing there is missing here.
    pub(crate) fn read(sysfs: &Path, device: &str) -> Self {
        let class = sysfs.join("class/net").join(device);
        let Ok(function) = fs::canonicalize(class.join("device")) else {
            return Self::default();
        };
        let driver = fs::read_link(function.join("driver"));
        let driver = driver
            .ok()
            .and_then(|path| Some(path.file_name()?.to_str()?.to_owned()));
        // A virtio device is one step below its function.
        let mut holder = function.as_path();
        if name_of(holder).is_some_and(|n| n.starts_with("virtio")) {
            holder = holder.parent().unwrap_or(holder);
        }
        Self {
            pci: Pci::read(holder, &class),
            usb: function
                .iter()
                .any(|part| part.to_str().is_some_and(is_usb_bus)),
            driver,
        }
    }

    /// The name from the place; from the hardware address where the place gives none.
    pub(crate) fn name(&self, mac: [u8; 6]) -> String {
        let by_place = self
            .pci
            .as_ref()
            .map(Pci::name)
            .filter(|n| n.len() <= LONGEST_NAME);
        by_place.unwrap_or_else(|| name_by_mac(mac))
    }

    /// Whether a rule's text names this place.
    pub(crate) fn is(&self, text: &str, mac: [u8; 6]) -> bool {
        let address = self.pci.as_ref().map(Pci::address);
        let plain = text.strip_prefix("pci-").unwrap_or(text);
        address.is_some_and(|a| a.eq_ignore_ascii_case(plain)) || self.name(mac) == text
    }
}

/// `enx` and the hardware address: always there, always short enough.
pub(crate) fn name_by_mac(mac: [u8; 6]) -> String {
    mac.iter()
        .fold("enx".to_owned(), |name, byte| format!("{name}{byte:02x}"))
}

fn is_usb_bus(part: &str) -> bool {
    part.strip_prefix("usb")
        .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

fn name_of(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

fn text(path: PathBuf) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned()).filter(|t| !t.is_empty())
}

impl Pci {
    fn read(function: &Path, class: &Path) -> Option<Self> {
        // A virtual function is named after the physical one.
        let physical = fs::canonicalize(function.join("physfn")).ok();
        let virtual_function = physical.as_ref().and_then(|p| virtual_number(p, function));
        let holder = match (&physical, virtual_function) {
            (Some(physical), Some(_)) => physical.as_path(),
            _ => function,
        };
        let (domain, bus, slot, number) = parse_address(name_of(holder)?)?;
        // Bit 7 of the header type, PCI 3.0 §6.2.1.
        let header = fs::read(holder.join("config"))
            .ok()
            .and_then(|c| c.get(0x0e).copied());
        let port = match text(class.join("phys_port_name")) {
            Some(name) if name.bytes().all(|b| b.is_ascii_alphanumeric()) => Port::Name(name),
            _ => match text(class.join("dev_port")).and_then(|t| t.parse().ok()) {
                Some(n) if n > 0 => Port::Number(n),
                _ => Port::Only,
            },
        };
        Some(Self {
            domain,
            bus,
            slot,
            function: number,
            multifunction: header.is_some_and(|h| h & 0x80 != 0),
            virtual_function,
            port,
        })
    }

    fn name(&self) -> String {
        let mut name = "en".to_owned();
        if self.domain > 0 {
            name += &format!("P{}", self.domain);
        }
        name += &format!("p{}s{}", self.bus, self.slot);
        if self.function > 0 || self.multifunction {
            name += &format!("f{}", self.function);
        }
        match &self.port {
            Port::Only => {}
            Port::Number(n) => name += &format!("d{n}"),
            Port::Name(text) => name += &format!("n{text}"),
        }
        if let Some(n) = self.virtual_function {
            name += &format!("v{n}");
        }
        name
    }

    fn address(&self) -> String {
        format!(
            "{:04x}:{:02x}:{:02x}.{}",
            self.domain, self.bus, self.slot, self.function
        )
    }
}

fn virtual_number(physical: &Path, function: &Path) -> Option<u32> {
    let entries = fs::read_dir(physical).ok()?.flatten();
    entries.into_iter().find_map(|entry| {
        let number = entry
            .file_name()
            .to_str()?
            .strip_prefix("virtfn")?
            .parse()
            .ok()?;
        (fs::canonicalize(entry.path()).ok()? == function).then_some(number)
    })
}

/// `0000:03:00.0`, all hexadecimal.
fn parse_address(text: &str) -> Option<(u32, u8, u8, u8)> {
    let (rest, function) = text.split_once('.')?;
    let mut parts = rest.split(':');
    let (domain, bus, slot) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let byte = |t| u8::from_str_radix(t, 16).ok();
    Some((
        u32::from_str_radix(domain, 16).ok()?,
        byte(bus)?,
        byte(slot)?,
        byte(function)?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const MAC: [u8; 6] = [0x52, 0x54, 0, 0xab, 0xcd, 0xef];

    /// A sysfs with one interface `eth0` on a device, and what else is said of it.
    fn sysfs(device: &str, files: &[(&str, &[u8])], links: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        let at = |path: &str| root.path().join("devices").join(path);
        let class = at(device).join("net/eth0");
        fs::create_dir_all(&class).expect("make the interface");
        for (path, content) in files {
            fs::create_dir_all(at(path).parent().expect("a folder")).expect("make a folder");
            fs::write(at(path), content).expect("write a file");
        }
        for (path, target) in links {
            fs::create_dir_all(at(target)).expect("make a folder");
            symlink(at(target), at(path)).expect("make a link");
        }
        symlink(at(device), class.join("device")).expect("make a link");
        fs::create_dir_all(root.path().join("class/net")).expect("make a folder");
        symlink(&class, root.path().join("class/net/eth0")).expect("make a link");
        root
    }

    fn check(
        expected: &str,
        device: &str,
        files: &[(&str, &[u8])],
        links: &[(&str, &str)],
    ) -> Place {
        let root = sysfs(device, files, links);
        let place = Place::read(root.path(), "eth0");
        assert_eq!(place.name(MAC), expected, "{device}");
        place
    }

    #[test]
    fn names_come_from_the_place() {
        let mut multifunction = [0; 64];
        multifunction[0x0e] = 0x80;
        let bridge = "pci0000:00/0000:00:1c.0";
        let at = |f: &str| format!("{bridge}/{f}");
        check("enp3s0", &at("0000:03:00.0"), &[], &[]);
        check("enp0s31f6", "pci0000:00/0000:00:1f.6", &[], &[]);
        let config = at("0000:03:00.0/config");
        check(
            "enp3s0f0",
            &at("0000:03:00.0"),
            &[(&config, &multifunction)],
            &[],
        );
        check("enP1p16s2", "pci0001:00/0001:10:02.0", &[], &[]);
        check("enp0s3", "pci0000:00/0000:00:03.0/virtio0", &[], &[]);
        let port = at("0000:03:00.0/net/eth0/dev_port");
        check("enp3s0d1", &at("0000:03:00.0"), &[(&port, b"1\n")], &[]);
        check("enp3s0", &at("0000:03:00.0"), &[(&port, b"0\n")], &[]);
        let name = at("0000:03:00.0/net/eth0/phys_port_name");
        check("enp3s0np1", &at("0000:03:00.0"), &[(&name, b"p1\n")], &[]);
        check(
            "enx525400abcdef",
            &at("0000:03:00.0"),
            &[(&name, b"averylongname\n")],
            &[],
        );
    }

    #[test]
    fn names_come_from_the_hardware_address_where_there_is_no_place() {
        let usb = check(
            "enx525400abcdef",
            "pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0",
            &[],
            &[],
        );
        assert!(usb.usb);
        check("enx525400abcdef", "vmbus/1234", &[], &[]);
        let root = tempfile::tempdir().expect("a folder");
        assert_eq!(Place::read(root.path(), "eth0"), Place::default());
    }

    #[test]
    fn virtual_functions_are_named_after_their_physical_one() {
        let (physical, function) = ("pci0000:00/0000:03:00.1", "pci0000:00/0000:03:10.2");
        let links = [
            ("pci0000:00/0000:03:10.2/physfn", physical),
            ("pci0000:00/0000:03:00.1/virtfn4", function),
        ];
        check(
            "enp3s0f1v4",
            function,
            &[("pci0000:00/0000:03:00.1/config", &[])],
            &links,
        );
    }

    #[test]
    fn rules_name_a_place_in_three_ways() {
        let links = [("pci0000:00/0000:0a:00.0/driver", "drivers/ixgbe")];
        let place = check(
            "enp10s0",
            "pci0000:00/0000:0a:00.0",
            &[("drivers/ixgbe/x", b"")],
            &links,
        );
        assert_eq!(place.driver.as_deref(), Some("ixgbe"));
        for text in ["0000:0a:00.0", "pci-0000:0A:00.0", "enp10s0"] {
            assert!(place.is(text, MAC), "{text}");
        }
        for text in ["0000:0a:00.1", "enp10s1", ""] {
            assert!(!place.is(text, MAC), "{text}");
        }
    }

    #[test]
    fn strange_addresses_are_none() {
        for text in [
            "",
            "eth0",
            "0000:03:00",
            "0000:03:00.0:1",
            "xyz0:03:00.0",
            "0000:03:00:00.0",
            "1-1.2",
        ] {
            assert_eq!(parse_address(text), None, "{text}");
        }
    }
}
