//! What the grammar takes and refuses.

extern crate std;

use core::net::Ipv4Addr;
use std::boxed::Box;
use std::string::ToString;
use std::vec;
use std::vec::Vec;

use crate::*;

fn ok(text: &str) -> Command {
    parse(text)
        .unwrap_or_else(|reason| panic!("{text}: {reason}"))
        .command
}

#[test]
fn finds_the_script_on_a_command_line() {
    for (line, script) in [
        ("probe=\"cpus; dhcp\" quiet", "cpus; dhcp"),
        ("console=ttyS0 probe='say a \"b\"' x", "say a \"b\""),
        ("probe=shell other", "shell"),
        ("x=\"probe=no\" probe=yes", "yes"),
        ("x=\"a b\" probe=\"open", "open"),
        ("noprobe=1", ""),
        ("", ""),
    ] {
        assert_eq!(script_of(line), script, "{line}");
    }
}

#[test]
fn splits_statements() {
    let script = "cpus 2; ;dhcp # rest; not this\n say hi;poweroff";
    assert_eq!(
        statements(script).collect::<Vec<_>>(),
        ["cpus 2", "dhcp", "say hi", "poweroff"]
    );
}

#[test]
fn reads_commands() {
    assert_eq!(ok("cpus"), Command::Cpus(u32::MAX));
    assert_eq!(ok("cpus 4"), Command::Cpus(4));
    assert_eq!(
        ok("spin 2s cpus=2"),
        Command::Spin {
            us: 2_000_000,
            cpus: 2
        }
    );
    assert_eq!(ok("sleep 5"), Command::Sleep(5000));
    assert_eq!(ok("say  a = b"), Command::Say("a = b".to_string()));
    assert_eq!(
        ok("repeat 3 sleep 1us"),
        Command::Repeat(Some(3), Box::new(Command::Sleep(1)))
    );
    assert_eq!(
        ok("loop touch 1"),
        Command::Repeat(None, Box::new(Command::Touch(1)))
    );
    assert_eq!(
        ok("on-power-button ignore"),
        Command::OnPowerButton(PowerButton::Ignore)
    );
    assert_eq!(ok("disks"), Command::Disk(DiskCommand::List));
    assert_eq!(
        ok("disk verify 1 start=8 len=1M seed=0x10 block=4K depth=32"),
        Command::Disk(DiskCommand::Verify(Transfer {
            disk: 1,
            extent: Extent {
                start: 8,
                sectors: Some(2048)
            },
            pattern: Pattern::Seed(16),
            block: 4096,
            depth: 32,
        }))
    );
    assert_eq!(
        ok("disk bench 0 mode=randread depth=32 count=10K"),
        Command::Disk(DiskCommand::Bench(Bench {
            disk: 0,
            extent: Extent {
                start: 0,
                sectors: None
            },
            write: false,
            order: Order::Random(1),
            block: 4096,
            depth: 32,
            count: Some(10240),
            time_us: None,
            wait: Wait::Interrupt,
        }))
    );
    assert_eq!(
        ok("connect 10.0.0.2:7 timeout=300"),
        Command::Net(NetCommand::Connect {
            to: (Ipv4Addr::new(10, 0, 0, 2), 7),
            timeout_us: 300_000,
            echo: 0
        })
    );
    assert_eq!(
        ok("serve tcp=7,9 udp=7"),
        Command::Net(NetCommand::Serve {
            tcp: vec![7, 9],
            udp: vec![7]
        })
    );
    assert_eq!(
        ok("ip 10.0.0.9/24 gw=10.0.0.1"),
        Command::Net(NetCommand::Ip {
            address: Ipv4Addr::new(10, 0, 0, 9),
            prefix: 24,
            gateway: Some(Ipv4Addr::new(10, 0, 0, 1))
        })
    );
}

#[test]
fn a_tag_stays_with_its_command() {
    let line = parse("@t1 reset").unwrap();
    assert_eq!(
        (line.tag.as_deref(), line.command),
        (Some("t1"), Command::End(Action::Reset))
    );
}

#[test]
fn says_what_is_wrong() {
    for (text, part) in [
        ("fly", "no command fly"),
        ("@x", "missing after the tag"),
        ("touch", "number of MiB is missing"),
        ("touch x", "not valid: x"),
        ("sleep 1 2", "did not expect 2"),
        ("cpus 0", "number of CPUs"),
        ("disk write 0 depth=129", "depth=129 is not valid"),
        ("disk write 0 block=100", "block=100 is not valid"),
        ("disk write 0 len=100", "len=100 is not valid"),
        ("disk write 0 len=1K sectors=2", "not both"),
        ("disk write 0 colour=red", "no argument colour="),
        ("disk write", "disk's number is missing"),
        ("disk paint 0", "not paint"),
        ("disk bench 0 mode=x", "not x"),
        ("connect 10.0.0.2", "address is not valid"),
        ("connect 10.0.0.2:0", "address is not valid"),
        ("serve", "needs tcp= or udp="),
        ("ip 10.0.0.1/33", "not valid"),
        ("repeat 2 shell", "cannot be repeated"),
        ("sleep 99999999999999999999", "not valid"),
        ("sleep 18446744073709551615s", "not valid"),
    ] {
        let reason = parse(text).expect_err(text);
        assert!(reason.contains(part), "{text}: {reason}");
    }
}
