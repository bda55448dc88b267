//! Which keys a configuration has and what each takes. What they mean is said in [`schema`](crate::schema).

use std::net::{IpAddr, SocketAddr};

use cpu::CpuSet;
use ipnet::IpNet;
use types::MacAddress;

use crate::form::{Entry, Form, Text};

/// The longest name of an interface (linux/if.h, IFNAMSIZ less its end).
const MAX_INTERFACE_NAME: usize = 15;

const fn may(key: &'static str, form: Form) -> Entry {
    Entry {
        key,
        form,
        required: false,
    }
}

const fn must(key: &'static str, form: Form) -> Entry {
    Entry {
        key,
        form,
        required: true,
    }
}

static HOST_NAME: Text = Text {
    what: "host name (1 to 63 letters, digits and dashes)",
    example: "host-7",
    fits: is_label,
};
static ZONE: Text = Text {
    what: "zone (1 to 63 letters, digits and dashes)",
    example: "north-1a",
    fits: is_label,
};
static DOMAIN: Text = Text {
    what: "domain",
    example: "example.org",
    fits: is_domain,
};
static SERVER: Text = Text {
    what: "name or address of a host",
    example: "ntp.example.org",
    fits: |text| is_domain(text) || text.parse::<IpAddr>().is_ok(),
};
static ADDRESS: Text = Text {
    what: "IP address",
    example: "10.0.0.1",
    fits: |text| text.parse::<IpAddr>().is_ok(),
};
static SUBNET: Text = Text {
    what: "address of a host with the length of its subnet",
    example: "10.0.0.7/24",
    fits: |text| text.parse().is_ok_and(|net| is_host_address(&net)),
};
static LISTEN: Text = Text {
    what: "socket address",
    example: "[::]:7443",
    fits: |text| {
        text.parse::<SocketAddr>()
            .is_ok_and(|address| address.port() != 0)
    },
};
static INTERFACE: Text = Text {
    what: "name for an interface (1 to 15 letters, digits, `.`, `-` and `_`)",
    example: "mgmt",
    fits: |text| {
        text.len() <= MAX_INTERFACE_NAME
            && is_plain(text, "_-.")
            && text != "lo"
            && !text.starts_with('.')
    },
};
static MAC: Text = Text {
    what: "hardware address",
    example: "52:54:00:12:34:56",
    fits: |text| text.parse::<MacAddress>().is_ok(),
};
static PLACE: Text = Text {
    what: "place of an interface",
    example: "enp3s0",
    fits: |text| text.len() <= 64 && is_plain(text, "_-.:"),
};
static MODULE: Text = Text {
    what: "name of a kernel module",
    example: "ixgbe",
    fits: |text| text.len() <= 64 && is_plain(text, "_-"),
};
static SETTING: Text = Text {
    what: "name of a kernel setting",
    example: "net.ipv4.tcp_syncookies",
    fits: |text| {
        text.len() <= 128
            && is_plain(text, "_-./")
            && !text.contains("..")
            && !text.starts_with(['.', '/'])
    },
};
static SETTING_VALUE: Text = Text {
    what: "value of a kernel setting (one line, up to 1024 bytes)",
    example: "1",
    fits: |text| text.len() <= 1024 && !text.contains(['\n', '\0']),
};
static CPUS: Text = Text {
    what: "list of CPUs",
    example: "2-7,12",
    fits: |text| text.parse::<CpuSet>().is_ok(),
};
static DISK: Text = Text {
    what: "disk (\"auto\", a device file, or `serial:` and the disk's serial number)",
    example: "/dev/disk/by-id/…",
    fits: |text| {
        let device = text.strip_prefix("/dev/").is_some_and(|name| {
            !name.is_empty() && name.split('/').all(|part| !matches!(part, "" | "." | ".."))
        });
        let serial = text
            .strip_prefix("serial:")
            .is_some_and(|serial| !serial.is_empty());
        text == "auto" || text.len() <= 256 && (device || serial)
    },
};

/// A table of an interface, bond or VLAN: its own keys, and those of what it carries.
macro_rules! link {
    ($($own:expr),*) => {
        Form::Table(&[
            $($own,)*
            may("dhcp", Form::Switch),
            may("addresses", Form::List(&Form::Text(&SUBNET), 32)),
            may("gateways", Form::List(&Form::Text(&ADDRESS), 2)),
            may("mtu", Form::Number(1280, 9216)),
        ])
    };
}

static MATCH: &[Entry] = &[
    may("mac", Form::Text(&MAC)),
    may("path", Form::Text(&PLACE)),
    may("driver", Form::Text(&MODULE)),
];

static NETWORK: &[Entry] = &[
    may("dns", Form::List(&Form::Text(&ADDRESS), 8)),
    may("search", Form::List(&Form::Text(&DOMAIN), 8)),
    may(
        "interface",
        Form::List(
            &link![
                may("name", Form::Text(&INTERFACE)),
                must("match", Form::Table(MATCH))
            ],
            64,
        ),
    ),
    may(
        "bond",
        Form::List(
            &link![
                must("name", Form::Text(&INTERFACE)),
                must("members", Form::List(&Form::Text(&INTERFACE), 16)),
                may(
                    "mode",
                    Form::Choice(&["active-backup", "802.3ad", "balance-rr", "balance-xor"])
                ),
                may("miimon_ms", Form::Number(10, 10_000))
            ],
            16,
        ),
    ),
    may(
        "vlan",
        Form::List(
            &link![
                must("name", Form::Text(&INTERFACE)),
                must("parent", Form::Text(&INTERFACE)),
                must("id", Form::Number(1, 4094))
            ],
            128,
        ),
    ),
];

/// The whole configuration.
pub(crate) static CONFIG: &[Entry] = &[
    // Its value was checked before.
    must("version", Form::Number(0, i64::MAX)),
    may("hostname", Form::Text(&HOST_NAME)),
    may("zone", Form::Text(&ZONE)),
    may("network", Form::Table(NETWORK)),
    may(
        "time",
        Form::Table(&[may("servers", Form::List(&Form::Text(&SERVER), 8))]),
    ),
    may(
        "api",
        Form::Table(&[
            may("listen", Form::Text(&LISTEN)),
            may("names", Form::List(&Form::Text(&SERVER), 16)),
        ]),
    ),
    may(
        "storage",
        Form::Table(&[
            may("data", Form::Text(&DISK)),
            may("erase", Form::Switch),
            may("encryption", Form::Choice(&["none", "tpm", "key"])),
        ]),
    ),
    may("cpu", Form::Table(&[may("dedicated", Form::Text(&CPUS))])),
    may(
        "kernel",
        Form::Table(&[
            may("modules", Form::List(&Form::Text(&MODULE), 64)),
            // 16 TiB of either.
            may("hugepages_2m", Form::Number(0, 8 << 20)),
            may("hugepages_1g", Form::Number(0, 16 << 10)),
            may("sysctl", Form::Map(&SETTING, &SETTING_VALUE, 256)),
        ]),
    ),
    may(
        "update",
        Form::Table(&[
            may("health_deadline_s", Form::Number(10, 3600)),
            may("needs_network", Form::Switch),
        ]),
    ),
    may(
        "shutdown",
        Form::Table(&[may("grace_s", Form::Number(0, 3600))]),
    ),
];

/// Whether a host may have it: not all hosts, none, several, or the name of the subnet itself.
fn is_host_address(net: &IpNet) -> bool {
    let address = net.addr();
    let point_to_point = net.prefix_len() + 1 >= net.max_prefix_len();
    let names_the_subnet =
        address == net.network() || address.is_ipv4() && address == net.broadcast();
    net.prefix_len() > 0
        && !address.is_unspecified()
        && !address.is_multicast()
        && !address.is_loopback()
        && (point_to_point || !names_the_subnet)
}

fn is_label(text: &str) -> bool {
    text.len() <= 63 && is_plain(text, "-") && !text.starts_with('-') && !text.ends_with('-')
}

/// RFC 1123 §2.1.
fn is_domain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

fn is_plain(text: &str, also: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || also.contains(c))
}
