//! The grammar.
//!
//! ```text
//! script    = statement { ( ";" | newline ) statement }        "#" starts a comment
//! statement = [ "@" tag ] command
//! command   = name { word | name "=" value }
//! ```
//!
//! Sizes take K, M, G, T (binary); durations us, ms (default), s. The commands are in firmware/README.md.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use crate::words::{Words, duration_us, endpoint, network, number, ports, read, size};
use crate::{Order, Pattern, SECTOR};

const SECTOR_BYTES: u64 = SECTOR as u64;
/// Largest block of one request.
const MAX_BLOCK: u64 = 4 << 20;
const MAX_DEPTH: u64 = 128;
const SECOND_US: u64 = 1_000_000;

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

/// The script on a kernel command line: the value of `probe=`, quoted by `"` or `'`, or a single word.
pub fn script_of(command_line: &str) -> &str {
    let mut rest = command_line.trim_start();
    while !rest.is_empty() {
        if let Some(value) = rest.strip_prefix("probe=") {
            return quoted(value).0;
        }
        // A word may hold a quoted value with blanks in it.
        let end = rest.find(|character: char| {
            character.is_ascii_whitespace() || matches!(character, '"' | '\'')
        });
        rest = match end {
            Some(at) if rest[at..].starts_with(['"', '\'']) => quoted(&rest[at..]).1,
            Some(at) => rest[at..].trim_start(),
            None => "",
        };
    }
    ""
}

/// Splits a value, quoted or up to a blank, from what follows.
fn quoted(value: &str) -> (&str, &str) {
    let (inner, end) = match value.chars().next() {
        Some(quote @ ('"' | '\'')) => (&value[1..], value[1..].find(quote)),
        _ => (
            value,
            value.find(|character: char| character.is_ascii_whitespace()),
        ),
    };
    match end {
        Some(at) => (&inner[..at], inner[at + 1..].trim_start()),
        None => (inner, ""),
    }
}

/// The statements of a script, without blanks, empty ones and comments.
pub fn statements(script: &str) -> impl Iterator<Item = &str> {
    script
        .split('\n')
        .map(|line| line.split('#').next().unwrap_or(""))
        .flat_map(|line| line.split(';'))
        .map(str::trim)
        .filter(|statement| !statement.is_empty())
}

/// Reads one statement; the error says what is wrong with it.
pub fn parse(statement: &str) -> Result<Line, String> {
    let (tag, text) = match statement.trim().strip_prefix('@') {
        Some(tagged) => {
            let (tag, text) = tagged
                .split_once(' ')
                .ok_or("a command is missing after the tag")?;
            (Some(tag.to_string()), text)
        }
        None => (None, statement),
    };
    Ok(Line {
        tag,
        command: command(text.trim())?,
    })
}

fn command(text: &str) -> Result<Command, String> {
    let (name, rest) = text.split_once(' ').unwrap_or((text, ""));
    match name {
        "say" => return Ok(Command::Say(rest.trim().to_string())),
        "repeat" => {
            let (count, rest) = rest
                .trim()
                .split_once(' ')
                .ok_or("repeat needs a count and a command")?;
            return Ok(Command::Repeat(
                Some(read("the count", count, number)?),
                nested(rest)?,
            ));
        }
        "loop" => return Ok(Command::Repeat(None, nested(rest)?)),
        _ => {}
    }
    let mut words = Words::new(rest);
    let found = match name {
        "disk" | "disks" => Command::Disk(disk(name, &mut words)?),
        "dhcp" | "ip" | "serve" | "connect" | "udp" | "ping" => {
            Command::Net(net(name, &mut words)?)
        }
        "cpus" => Command::Cpus(match words.next() {
            Some(count) => count_of(count)?,
            None => u32::MAX,
        }),
        "touch" => Command::Touch(read(
            "the number of MiB",
            words.require("the number of MiB")?,
            number,
        )?),
        "spin" => Command::Spin {
            us: read("the duration", words.require("the duration")?, duration_us)?,
            cpus: match words.named("cpus") {
                Some(count) => count_of(count)?,
                None => 1,
            },
        },
        "sleep" => Command::Sleep(read(
            "the duration",
            words.require("the duration")?,
            duration_us,
        )?),
        "rng" => Command::Rng(match words.next() {
            Some(bytes) => read("the number of bytes", bytes, size)?,
            None => 16,
        }),
        "info" => Command::Info,
        "halt" => Command::End(Action::Halt),
        "triple-fault" => Command::End(Action::TripleFault),
        "reset" => Command::End(Action::Reset),
        "poweroff" => Command::End(Action::PowerOff),
        "panic" => Command::End(Action::Panic),
        "on-power-button" => {
            Command::OnPowerButton(match words.require("poweroff, reset or ignore")? {
                "poweroff" => PowerButton::PowerOff,
                "reset" => PowerButton::Reset,
                "ignore" => PowerButton::Ignore,
                other => {
                    return Err(format!(
                        "on-power-button takes poweroff, reset or ignore, not {other}"
                    ));
                }
            })
        }
        "shell" => Command::Shell,
        "exit" => Command::Exit,
        other => return Err(format!("there is no command {other}")),
    };
    words.finish()?;
    Ok(found)
}

fn nested(text: &str) -> Result<Box<Command>, String> {
    match command(text.trim())? {
        Command::Repeat(..) | Command::Shell | Command::Exit => {
            Err("this command cannot be repeated".to_string())
        }
        inner => Ok(Box::new(inner)),
    }
}

fn count_of(text: &str) -> Result<u32, String> {
    read("the number of CPUs", text, |text| {
        number(text)?.try_into().ok().filter(|count| *count > 0)
    })
}

fn disk(name: &str, words: &mut Words) -> Result<DiskCommand, String> {
    if name == "disks" {
        return Ok(DiskCommand::List);
    }
    let action = words.require("what to do with the disk")?;
    if action == "list" {
        return Ok(DiskCommand::List);
    }
    let disk = read(
        "the disk's number",
        words.require("the disk's number")?,
        |text| number(text)?.try_into().ok(),
    )?;
    match action {
        "flush" => Ok(DiskCommand::Flush(disk)),
        "discard" => Ok(DiskCommand::Discard(disk, extent(words)?)),
        "zero" => {
            let unmap = words.named_or("unmap", false, |text| Some(text == "yes"))?;
            Ok(DiskCommand::Zero(disk, extent(words)?, unmap))
        }
        "write" | "verify" => {
            let pattern = words.named_or("seed", Pattern::Seed(1), |text| {
                if text == "zero" {
                    Some(Pattern::Zero)
                } else {
                    number(text).map(Pattern::Seed)
                }
            })?;
            let (block, depth) = (block(words, 64 << 10)?, depth(words, 8)?);
            let transfer = Transfer {
                disk,
                extent: extent(words)?,
                pattern,
                block,
                depth,
            };
            Ok(if action == "write" {
                DiskCommand::Write(transfer)
            } else {
                DiskCommand::Verify(transfer)
            })
        }
        "bench" => bench(disk, words).map(DiskCommand::Bench),
        other => Err(format!(
            "disk takes list, write, verify, bench, flush, discard or zero, not {other}"
        )),
    }
}

fn bench(disk: usize, words: &mut Words) -> Result<Bench, String> {
    let seed = words.named_or("seed", 1, number)?;
    let mode = words.named("mode").unwrap_or("randread");
    let (write, order) = match mode {
        "read" => (false, Order::Sequential),
        "write" => (true, Order::Sequential),
        "randread" => (false, Order::Random(seed)),
        "randwrite" => (true, Order::Random(seed)),
        other => {
            return Err(format!(
                "mode takes read, write, randread or randwrite, not {other}"
            ));
        }
    };
    let wait = match words.named("wait").unwrap_or("irq") {
        "irq" => Wait::Interrupt,
        "poll" => Wait::Poll,
        other => return Err(format!("wait takes irq or poll, not {other}")),
    };
    let count = words.named_or("count", None, |text| size(text).map(Some))?;
    let time_us = words.named_or("time", None, |text| duration_us(text).map(Some))?;
    Ok(Bench {
        disk,
        write,
        order,
        wait,
        count,
        time_us: if count.is_none() {
            time_us.or(Some(SECOND_US))
        } else {
            time_us
        },
        block: block(words, 4096)?,
        depth: depth(words, 1)?,
        extent: extent(words)?,
    })
}

fn block(words: &mut Words, default: u64) -> Result<u64, String> {
    words.named_or("block", default, |text| {
        size(text)
            .filter(|block| (SECTOR_BYTES..=MAX_BLOCK).contains(block) && block % SECTOR_BYTES == 0)
    })
}

fn depth(words: &mut Words, default: u16) -> Result<u16, String> {
    words.named_or("depth", default, |text| {
        number(text)
            .filter(|depth| (1..=MAX_DEPTH).contains(depth))?
            .try_into()
            .ok()
    })
}

/// `start=` in sectors, and `count=` in sectors or `len=` in bytes.
fn extent(words: &mut Words) -> Result<Extent, String> {
    let start = words.named_or("start", 0, number)?;
    let sectors = words.named_or("sectors", None, |text| number(text).map(Some))?;
    let length = words.named_or("len", None, |text| {
        size(text)
            .filter(|bytes| bytes % SECTOR_BYTES == 0)
            .map(|bytes| Some(bytes / SECTOR_BYTES))
    })?;
    if sectors.is_some() && length.is_some() {
        return Err("give sectors= or len=, not both".to_string());
    }
    Ok(Extent {
        start,
        sectors: sectors.or(length),
    })
}

fn net(name: &str, words: &mut Words) -> Result<NetCommand, String> {
    let mut timeout = |default| words.named_or("timeout", default, duration_us);
    match name {
        "dhcp" => Ok(NetCommand::Dhcp {
            timeout_us: timeout(10 * SECOND_US)?,
        }),
        "ip" => {
            let (address, prefix) = read(
                "the address",
                words.require("the address, as a.b.c.d/prefix,")?,
                network,
            )?;
            let gateway = words.named_or("gw", None, |text| text.parse().ok().map(Some))?;
            Ok(NetCommand::Ip {
                address,
                prefix,
                gateway,
            })
        }
        "serve" => {
            let tcp = words.named_or("tcp", Vec::new(), ports)?;
            let udp = words.named_or("udp", Vec::new(), ports)?;
            if tcp.is_empty() && udp.is_empty() {
                return Err("serve needs tcp= or udp= with ports".to_string());
            }
            Ok(NetCommand::Serve { tcp, udp })
        }
        "connect" => {
            let timeout_us = timeout(SECOND_US)?;
            let echo = words.named_or("echo", 0, |text| {
                size(text).filter(|bytes| *bytes <= 1 << 30)
            })?;
            let to = read(
                "the address",
                words.require("the address, as a.b.c.d:port,")?,
                endpoint,
            )?;
            Ok(NetCommand::Connect {
                to,
                timeout_us,
                echo,
            })
        }
        "udp" => {
            let timeout_us = timeout(SECOND_US)?;
            let bytes = words.named_or("size", 32, |text| {
                size(text).filter(|bytes| (1..=1472).contains(bytes))
            })?;
            let to = read(
                "the address",
                words.require("the address, as a.b.c.d:port,")?,
                endpoint,
            )?;
            Ok(NetCommand::Udp {
                to,
                timeout_us,
                bytes,
            })
        }
        _ => {
            let timeout_us = timeout(SECOND_US)?;
            let count = words.named_or("count", 1, number)?;
            let address = read("the address", words.require("the address")?, |text| {
                text.parse().ok()
            })?;
            Ok(NetCommand::Ping {
                address,
                count,
                timeout_us,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec;

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
}
