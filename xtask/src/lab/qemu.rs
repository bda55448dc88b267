//! One emulated machine: QEMU by pure emulation, its serial console read line by line, under a hard time limit.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::command::Invocation;

const QEMU: &str = "qemu-system-x86_64";
/// How long after SIGTERM `timeout` sends SIGKILL.
const KILL_AFTER_S: u64 = 10;
const TICK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 500_000_000,
};
/// A line longer than this is cut; a console that sends no line ends must not fill the memory.
const LONGEST_LINE: usize = 4096;
/// What the console says when a kernel dies; `panic=-1` would otherwise hide it behind a reboot.
const DEATHS: [&str; 4] = ["Kernel panic", "Oops:", "BUG: ", "general protection fault"];

/// What to emulate.
pub struct Machine<'a> {
    pub kernel: &'a Path,
    pub initramfs: &'a Path,
    /// Added to the kernel's command line.
    pub command_line: &'a str,
    pub memory_mib: u32,
    pub disk: &'a Path,
    /// Whether it gets a network interface, on QEMU's own little network.
    pub network: bool,
    /// QEMU is killed after this, whatever it does.
    pub limit: Duration,
    /// The whole console is kept here.
    pub log: PathBuf,
}

impl Machine<'_> {
    /// Runs the machine until it powers off, giving each console line to `line`.
    pub fn run(&self, mut line: impl FnMut(&str)) -> Result<()> {
        let mut log = File::create(&self.log)
            .with_context(|| format!("cannot create {}", self.log.display()))?;
        let mut qemu = self
            .invocation()
            .spawn(Stdio::piped(), log.try_clone()?.into())?;
        let mut console = qemu.stdout().context("QEMU has no console")?;
        let mut splitter = Lines::default();
        let mut death = None;
        let mut buffer = [0; 4096];
        loop {
            qemu.still_allowed()
                .with_context(|| format!("its console is in {}", self.log.display()))?;
            match poll(
                &mut [PollFd::new(&console.as_fd(), PollFlags::IN)],
                Some(&TICK),
            ) {
                Ok(0) | Err(Errno::INTR) => continue,
                Ok(_) => {}
                Err(error) => return Err(error).context("cannot wait for the console"),
            }
            let count = console
                .read(&mut buffer)
                .context("cannot read the console")?;
            if count == 0 {
                break;
            }
            log.write_all(&buffer[..count])
                .context("cannot keep the console")?;
            splitter.push(&buffer[..count], |text| {
                if death.is_none() && DEATHS.iter().any(|sign| text.contains(sign)) {
                    death = Some(text.to_owned());
                }
                line(text);
            });
        }
        let status = qemu.wait()?;
        if let Some(death) = death {
            bail!(
                "a kernel died ({death:?}); its console is in {}",
                self.log.display()
            );
        }
        if !status.success() {
            bail!(
                "QEMU ended with {status}; the console is in {}",
                self.log.display()
            );
        }
        Ok(())
    }

    fn invocation(&self) -> Invocation {
        let limit = self.limit.as_secs();
        // `timeout` bounds QEMU even if this process is killed.
        let mut qemu = Invocation::new("timeout")
            .args([format!("--kill-after={KILL_AFTER_S}"), format!("{limit}")])
            .arg(QEMU)
            .args([
                "-accel",
                "tcg,thread=multi",
                "-cpu",
                "max",
                "-machine",
                "q35",
                "-smp",
                "1",
            ])
            .args(["-m", &self.memory_mib.to_string()])
            .args([
                "-nographic",
                "-nodefaults",
                "-no-reboot",
                "-serial",
                "stdio",
            ])
            .args([
                "-drive",
                &format!(
                    "if=none,id=d0,format=raw,cache=unsafe,file={}",
                    escaped(self.disk)
                ),
            ])
            .args(["-device", "virtio-blk-pci,drive=d0"])
            .arg("-kernel")
            .arg(self.kernel)
            .arg("-initrd")
            .arg(self.initramfs)
            .args([
                "-append",
                &format!(
                    "console=ttyS0 quiet panic=-1 nowatchdog rcupdate.rcu_cpu_stall_suppress=1 {}",
                    self.command_line
                ),
            ])
            .within(self.limit + Duration::from_secs(2 * KILL_AFTER_S));
        if self.network {
            qemu = qemu.args([
                "-netdev",
                "user,id=n0",
                "-device",
                "virtio-net-pci,netdev=n0,romfile=",
            ]);
        }
        qemu
    }
}

/// Cuts a stream of bytes into lines.
#[derive(Default)]
struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    fn push(&mut self, bytes: &[u8], mut line: impl FnMut(&str)) {
        for byte in bytes {
            if *byte != b'\n' {
                self.partial.push(*byte);
            }
            if *byte == b'\n' || self.partial.len() >= LONGEST_LINE {
                line(String::from_utf8_lossy(&self.partial).trim_end_matches('\r'));
                self.partial.clear();
            }
        }
    }
}

/// In a QEMU option a comma is written twice.
fn escaped(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_wherever_the_reads_end() {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        for part in ["on", "e\r\ntw", "o\n\nrest"] {
            lines.push(part.as_bytes(), |line| seen.push(line.to_owned()));
        }
        assert_eq!(seen, ["one", "two", ""]);
        lines.push(&[b'x'; LONGEST_LINE], |line| seen.push(line.to_owned()));
        assert_eq!(seen.len(), 4, "an endless line is cut");
    }
}
