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

use crate::model::{
    Action, Bench, Command, DiskCommand, Extent, Line, NetCommand, PowerButton, Transfer, Wait,
};
use crate::words::{Words, duration_us, endpoint, network, number, ports, read, size};
use crate::{Order, Pattern, SECTOR};

const SECTOR_BYTES: u64 = SECTOR as u64;
/// Largest block of one request.
const MAX_BLOCK: u64 = 4 << 20;
const MAX_DEPTH: u64 = 128;
const SECOND_US: u64 = 1_000_000;

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

/// `start=` in sectors, and `sectors=` or `len=` in bytes.
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
