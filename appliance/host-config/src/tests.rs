//! Reading configurations, and what is said of wrong ones.

use ipnet::IpNet;
use proptest::prelude::*;
use toml::de::{DeTable, DeValue};

use crate::{
    form::{Entry, Form},
    keys::CONFIG,
    *,
};

fn check(text: &str, line: usize, said: &str) {
    let error = parse(text, "host.toml").unwrap_err();
    let problem = &error.problems[0];
    assert_eq!(problem.line, Some(line), "{error}");
    assert!(problem.message.contains(said), "{error}");
    assert!(
        error.to_string().contains(&format!("host.toml:{line}:")),
        "{error}"
    );
}

#[test]
fn the_example_has_every_default() {
    assert_eq!(
        parse(crate::EXAMPLE, "example").unwrap(),
        HostConfig::default()
    );
    assert_eq!(parse("version = 1", "x").unwrap(), HostConfig::default());
}

#[test]
fn what_is_wrong_is_pointed_at() {
    let interface = "[[network.interface]]\nname = \"mgmt\"\nmatch.mac = \"52:54:00:12:34:56\"\n";
    for (text, line, said) in [
        ("version = 2\n", 1, "`version = 1` only"),
        (
            "version = 1\nhostnam = \"a\"\n",
            2,
            "unknown field `hostnam`",
        ),
        ("version = 1\nhostname = 7\n", 2, "expected a string"),
        ("version = 1\nhostname = \"a b\"\n", 2, "no host name"),
        (
            "version = 1\n[api]\nlisten = \"here\"\n",
            3,
            "socket address",
        ),
        (
            "version = 1\n[storage]\nerase = true\n",
            3,
            "only a disk that is named",
        ),
        (
            "version = 1\n[storage]\ndata = \"sda\"\n",
            3,
            "`sda` is no disk",
        ),
        (
            "version = 1\n[update]\nhealth_deadline_s = 1\n",
            3,
            "from 10 to 3600",
        ),
        (
            "version = 1\n[[network.interface]]\nname = \"averyverylongname\"\nmatch.mac = \"52:54:00:12:34:56\"\n",
            3,
            "is no name for an interface",
        ),
        (
            "version = 1\n[[network.interface]]\nmatch = {}\n",
            3,
            "exactly one of",
        ),
        (
            &format!(
                "version = 1\n{interface}addresses = [\"10.0.0.7/24\"]\ngateways = [\"10.0.1.1\"]\n"
            ),
            6,
            "10.0.1.1 is in none",
        ),
        (
            &format!("version = 1\n{interface}{interface}"),
            6,
            "two interfaces",
        ),
        (
            &format!(
                "version = 1\n{interface}[[network.bond]]\nname = \"bond0\"\nmembers = [\"other\"]\n"
            ),
            7,
            "called `other`",
        ),
        (
            &format!(
                "version = 1\n{interface}dhcp = true\n[[network.bond]]\nname = \"bond0\"\nmembers = [\"mgmt\"]\n"
            ),
            8,
            "addresses of its own",
        ),
        (
            &format!(
                "version = 1\n{interface}[[network.vlan]]\nname = \"v\"\nparent = \"mgmt\"\nid = 4095\n"
            ),
            8,
            "from 1 to 4094",
        ),
        (
            "version = 1\n[kernel]\nsysctl = { \"../x\" = \"1\" }\n",
            3,
            "no name of a kernel setting",
        ),
        ("version = 1\n]", 2, ""),
        (
            &format!("version = 1\n{interface}addresses = [\"10.0.0.0/24\"]\n"),
            5,
            "is no address of a host",
        ),
        (
            &format!("version = 1\n{interface}addresses = [\"10.0.0.7/24\", \"10.0.0.7/24\"]\n"),
            5,
            "is there twice",
        ),
        (
            &format!(
                "version = 1\n{interface}{}",
                interface.replace("mgmt", "other")
            ),
            7,
            "already matches",
        ),
        (
            &format!(
                "version = 1\n{interface}[[network.bond]]\nname = \"b\"\nmembers = [\"mgmt\"]\n[[network.vlan]]\nname = \"v\"\nparent = \"mgmt\"\nid = 7\n"
            ),
            10,
            "the bond carries the VLAN",
        ),
        (
            &format!(
                "version = 1\n{interface}[[network.vlan]]\nname = \"v\"\nparent = \"mgmt\"\nid = 7\n[[network.vlan]]\nname = \"w\"\nparent = \"mgmt\"\nid = 7\n"
            ),
            12,
            "two VLANs",
        ),
        (
            &format!("version = 1\n{interface}[[network.vlan]]\nname = \"v\"\nid = 7\n"),
            5,
            "`parent` is missing",
        ),
    ] {
        check(text, line, said);
    }
    assert!(
        parse("hostname = \"a\"", "x")
            .unwrap_err()
            .to_string()
            .contains("version = 1")
    );
}

#[test]
fn several_problems_are_told_at_once() {
    let error = parse(
        "version = 1\nhostname = \"-\"\n[shutdown]\ngrace_s = 9999\n",
        "x",
    )
    .unwrap_err();
    assert_eq!(error.problems.len(), 2);
    assert!(error.short().contains("and 1 more"), "{}", error.short());
}

#[test]
fn a_network_of_bonds_and_vlans_is_read() {
    let text = "version = 1
[[network.interface]]
name = \"one\"
match.path = \"enp3s0\"
[[network.interface]]
name = \"two\"
match.path = \"enp4s0\"
[[network.bond]]
name = \"bond0\"
members = [\"one\", \"two\"]
mode = \"802.3ad\"
[[network.vlan]]
name = \"mgmt\"
parent = \"bond0\"
id = 10
addresses = [\"10.0.0.7/24\", \"2001:db8::7/64\"]
gateways = [\"10.0.0.1\", \"fe80::1\"]
";
    let config = parse(text, "x").unwrap();
    assert_eq!(config.network.bonds[0].mode, BondMode::Lacp);
    assert_eq!(config.network.vlans[0].link.addresses.len(), 2);
    let again = toml::to_string(&config).unwrap();
    assert_eq!(parse(&again, "x").unwrap(), config);
}

/// A configuration in which every key says something else than its default.
const FULL: &str = include_str!("full.toml");

/// Whether every key of the form is in the text.
fn all_there(path: &str, entries: &[Entry], table: &DeTable<'_>) {
    for entry in entries {
        let path = format!("{path}.{}", entry.key);
        // Which of the three is meant is said by one alone.
        if path.starts_with(".network.interface.match.") {
            continue;
        }
        let value = table
            .get(entry.key)
            .unwrap_or_else(|| panic!("{path} is not written"));
        match (&entry.form, value.get_ref()) {
            (Form::Table(entries), DeValue::Table(table)) => all_there(&path, entries, table),
            (Form::List(Form::Table(entries), _), DeValue::Array(list)) => {
                let DeValue::Table(table) = list[0].get_ref() else {
                    panic!("{path}")
                };
                all_there(&path, entries, table);
            }
            _ => {}
        }
    }
}

#[test]
fn the_form_and_the_values_know_the_same_keys() {
    let config = parse(FULL, "x").unwrap();
    let written = toml::to_string(&config).unwrap();
    all_there("", CONFIG, DeTable::parse(&written).unwrap().get_ref());
    assert_eq!(parse(&written, "x").unwrap(), config);
}

#[test]
fn the_example_is_right_also_where_it_is_commented_out() {
    let text: String = EXAMPLE
        .lines()
        .map(|line| {
            let bare = line
                .strip_prefix("# ")
                .filter(|bare| bare.contains(" = ") || bare.starts_with("[["));
            format!("{}\n", bare.unwrap_or(line))
        })
        .collect();
    let config = parse(&text.replace("\n# Only", "\n"), "example").unwrap_err();
    // The members of the example's bond are only named.
    assert!(
        config
            .problems
            .iter()
            .all(|problem| problem.key == "network.bond[0].members"),
        "{config}"
    );
    assert_eq!(config.problems.len(), 2);
}

#[test]
fn a_slip_of_the_hand_is_recognised_wherever_it_is() {
    let interface =
        "version = 1\n[[network.interface]]\nname = \"mgmt\"\nmatch.mac = \"52:54:00:12:34:56\"\n";
    for (text, key, hint) in [
        (
            "version = 1\nhostnam = \"a\"\n".to_owned(),
            "hostnam",
            "did you mean `hostname`?",
        ),
        (
            format!("{interface}adresses = [\"10.0.0.7/24\"]\n"),
            "network.interface[0].adresses",
            "did you mean `addresses`?",
        ),
        (
            format!("{interface}gateway = \"10.0.0.1\"\n"),
            "network.interface[0].gateway",
            "did you mean `gateways`?",
        ),
        (
            format!("{interface}match.mak = \"\"\n"),
            "network.interface[0].match.mak",
            "did you mean `mac`?",
        ),
        (
            format!(
                "{interface}[[network.bond]]\nname = \"b\"\nmembers = [\"mgmt\"]\nmode = \"active_backup\"\n"
            ),
            "network.bond[0].mode",
            "did you mean \"active-backup\"?",
        ),
        (
            "version = 1\nxyz = 1\n".to_owned(),
            "xyz",
            "known here are version, hostname",
        ),
    ] {
        let error = parse(&text, "x").unwrap_err();
        assert_eq!(error.problems[0].key, key, "{error}");
        assert!(error.problems[0].message.contains(hint), "{error}");
    }
}

#[test]
fn the_report_shows_line_mark_and_key() {
    let error = parse(
        "version = 1\n[update]\nhealth_deadline_s = 1\n",
        "host.toml",
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "host.toml:3:21: 1 is not possible: from 10 to 3600\n  |\n3 | health_deadline_s = 1\n  |                     ^ update.health_deadline_s"
    );
}

#[test]
fn there_are_bounds() {
    let many = |count: usize, text: &str| vec![text; count].join(", ");
    for (text, said) in [
        (
            format!(
                "version = 1\n[network]\ndns = [{}]\n",
                many(9, "\"10.0.0.1\"")
            ),
            "at most 8",
        ),
        (
            format!("version = 1\n[kernel]\nmodules = [{}]\n", many(65, "\"a\"")),
            "at most 64",
        ),
        (
            format!("version = 1\nhostname = \"{}\"\n", "a".repeat(64)),
            "is no host name",
        ),
        (
            format!("version = 1\n# {}", "a".repeat(MAX_BYTES)),
            "more than 256 KiB",
        ),
        (
            "version = 1\n[kernel]\nhugepages_2m = 99999999999999999999\n".to_owned(),
            "from 0 to",
        ),
        (
            "version = 1\n[kernel]\nhugepages_2m = -1\n".to_owned(),
            "from 0 to",
        ),
        (
            "version = 1\n[cpu]\ndedicated = \"7-2\"\n".to_owned(),
            "is no list of CPUs",
        ),
        (
            "version = 1\n[kernel]\nsysctl = { \"a.b\" = \"1\\n2\" }\n".to_owned(),
            "value of a kernel setting",
        ),
    ] {
        let error = parse(&text, "x").unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
    }
    let wrong: String = (0..200).map(|index| format!("x{index} = 1\n")).collect();
    let error = parse(&format!("version = 1\n{wrong}"), "x").unwrap_err();
    assert_eq!(error.problems.len(), 50);
}

fn link() -> impl Strategy<Value = Link> {
    let address = (1_u8..255, 1_u8..255, 9_u8..25).prop_map(|(one, two, length)| {
        format!("10.{one}.{two}.7/{length}")
            .parse::<IpNet>()
            .unwrap()
    });
    (
        any::<bool>(),
        proptest::option::of(address),
        any::<bool>(),
        proptest::option::of(1280_u32..9217),
    )
        .prop_map(|(dhcp, address, gateway, mtu)| Link {
            dhcp,
            gateways: address
                .iter()
                .filter(|_| gateway)
                .filter_map(|net| net.hosts().next())
                .collect(),
            addresses: address.into_iter().collect(),
            mtu,
        })
}

fn config() -> impl Strategy<Value = HostConfig> {
    let interface = |index: usize| {
        (
            proptest::option::of(Just(format!("eth{index}"))),
            "[a-z0-9]{1,8}",
            link(),
        )
            .prop_map(move |(name, path, link)| Interface {
                name,
                matches: Match {
                    path: Some(format!("{path}-{index}")),
                    ..Match::default()
                },
                link,
            })
    };
    let interfaces = (0..4_usize).map(interface).collect::<Vec<_>>();
    let settings = proptest::collection::btree_map("[a-z]{1,5}\\.[a-z]{1,5}", "[ -~]{0,20}", 0..4);
    (
        proptest::option::of("[a-z]([a-z0-9-]{0,10}[a-z0-9])?"),
        interfaces,
        settings,
        any::<bool>(),
        10_u32..3601,
        0_u64..1000,
        proptest::collection::vec(0_u32..64, 0..5),
    )
        .prop_map(
            |(hostname, interfaces, sysctl, named, deadline, hugepages_2m, cpus)| HostConfig {
                hostname,
                network: Network {
                    interfaces,
                    ..Network::default()
                },
                storage: Storage {
                    data: if named {
                        DataDisk::Named("serial:a b\"c".into())
                    } else {
                        DataDisk::Auto
                    },
                    erase: named,
                    encryption: Encryption::None,
                },
                cpu: Cpu {
                    dedicated: cpus.into_iter().collect(),
                },
                kernel: Kernel {
                    sysctl,
                    hugepages_2m,
                    ..Kernel::default()
                },
                update: Update {
                    health_deadline_s: deadline,
                    needs_network: named,
                },
                ..HostConfig::default()
            },
        )
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "(version = 1\n)?[ -~\n]{0,200}", all in "\\PC{0,200}") {
        for text in [text, all] {
            if let Err(error) = parse(&text, "x") {
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }

    #[test]
    fn no_change_of_a_configuration_makes_it_panic(at in 0..FULL.len(), with in "[ -~\n]{0,6}", without in 0_usize..20) {
        let end = (at + without).min(FULL.len());
        if let (Some(before), Some(after)) = (FULL.get(..at), FULL.get(end..))
            && let Err(error) = parse(&format!("{before}{with}{after}"), "x")
        {
            prop_assert!(!error.problems.is_empty());
        }
    }

    #[test]
    fn what_is_written_is_read_again(config in config()) {
        let text = toml::to_string(&config).unwrap();
        prop_assert_eq!(parse(&text, "x"), Ok(config), "{}", text);
    }
}
