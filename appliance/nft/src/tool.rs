//! Runs the `nft` tool inside a network namespace.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;

use nix::sched::{CloneFlags, setns};

use crate::Error;

/// Where distributions put the tool; a daemon's PATH often lacks the sbin folders.
const PLACES: [&str; 4] = [
    "/usr/sbin/nft",
    "/sbin/nft",
    "/usr/bin/nft",
    "/usr/local/sbin/nft",
];
/// As much of the tool's complaint as an error repeats.
const MESSAGE_CHARS: usize = 600;

pub(crate) fn default_path() -> OsString {
    PLACES
        .iter()
        .find(|p| Path::new(p).exists())
        .unwrap_or(&PLACES[0])
        .into()
}

/// `nft -j -f -` with `input`.
pub(crate) fn run(
    tool: &OsStr,
    namespace: BorrowedFd<'_>,
    input: Option<&str>,
) -> Result<String, Error> {
    let output = execute(
        tool,
        namespace,
        &["-j", "-f", "-"],
        input.unwrap_or_default(),
    )?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(complaint(&output))
}

/// The table as JSON; `None` when there is none.
pub(crate) fn list(
    tool: &OsStr,
    namespace: BorrowedFd<'_>,
    table: &str,
) -> Result<Option<String>, Error> {
    let output = execute(tool, namespace, &["-j", "list", "table", "inet", table], "")?;
    if output.status.success() {
        return Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned()));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("No such file or directory") {
        Ok(None)
    } else {
        Err(complaint(&output))
    }
}

/// The namespace of a process is that of the thread that starts it, so a thread of its own goes there first.
fn execute(
    tool: &OsStr,
    namespace: BorrowedFd<'_>,
    args: &[&str],
    input: &str,
) -> Result<Output, Error> {
    let work = || {
        setns(namespace, CloneFlags::CLONE_NEWNET)
            .map_err(|e| Error::Namespace { source: e.into() })?;
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => Error::ToolMissing {
                tool: tool.to_owned(),
            },
            _ => Error::Tool {
                tool: tool.to_owned(),
                source,
            },
        };
        let mut child = Command::new(tool)
            .args(args)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        // The tool reads all of its input before it answers, so writing first cannot block for ever. If it dies
        // early, its status and words say more than the broken pipe.
        let wrote = child
            .stdin
            .take()
            .map_or(Ok(()), |mut stdin| stdin.write_all(input.as_bytes()));
        let output = child.wait_with_output().map_err(failed)?;
        match wrote {
            Err(source) if output.status.success() => Err(failed(source)),
            _ => Ok(output),
        }
    };
    thread::scope(|scope| {
        scope.spawn(work).join().unwrap_or_else(|_| {
            Err(Error::Unreadable {
                what: "the thread that runs the nft tool panicked".into(),
            })
        })
    })
}

fn complaint(output: &Output) -> Error {
    let said = String::from_utf8_lossy(&output.stderr);
    let message: String = said.trim().chars().take(MESSAGE_CHARS).collect();
    let missing = if said.contains("Protocol not supported")
        || said.contains("Unable to initialize Netlink")
    {
        Some("nf_tables")
    } else if said.contains("Operation not supported") || said.contains("No such file or directory")
    {
        // ENOENT for an expression type means that its module is not there.
        Some("something the ruleset uses (modules nf_tables, nft_ct, nf_conntrack)")
    } else {
        None
    };
    match missing {
        Some(missing) => Error::KernelLacks { missing, message },
        None if message.is_empty() => Error::Refused {
            message: output.status.to_string(),
        },
        None => Error::Refused { message },
    }
}
