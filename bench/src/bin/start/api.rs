//! Instances of a real daemon on a file system of its own.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;
use xtask::host::Host;

use crate::Options;

/// Sparse.
const POOL_BYTES: u64 = 8 << 30;
/// Clock ticks per second in /proc/PID/stat on Linux on x86.
const TICKS_PER_SECOND: f64 = 100.0;

/// Milliseconds after the daemon received the request.
pub struct Sample {
    pub accepted_ms: f64,
    pub prepared_ms: f64,
    pub running_ms: f64,
    pub first_output_ms: f64,
}

pub struct Api {
    host: Host,
    memory: String,
    vswitch: String,
    group: String,
    /// CPU time of the daemon before the counted rounds.
    before_ms: f64,
}

impl Api {
    pub fn start(options: &Options, folder: &Path) -> Result<Self> {
        let mut host = Host::new(&folder.join("host"), POOL_BYTES, &[])?;
        host.start()?;
        let probe = options
            .probe
            .to_str()
            .context("the probe's path is not UTF-8")?;
        host.cli(&["images", "import", "--name", "probe", "--kernel", probe])?;
        let id = |made: &Value| made["id"].as_str().map(str::to_owned).context("no id");
        let vpc = id(&host.cli(&["vpcs", "create", "10.77.0.0/16", "--name", "bench"])?)?;
        let vswitch = id(&host.cli(&["vswitches", "create", "--vpc", &vpc, "10.77.1.0/24"])?)?;
        let group = host.cli(&[
            "security-groups",
            "create",
            "--vpc",
            &vpc,
            "--name",
            "bench",
        ])?;
        Ok(Self {
            host,
            memory: format!("{}M", options.memory_mib),
            vswitch,
            group: id(&group)?,
            before_ms: 0.0,
        })
    }

    /// From now on the rounds count.
    pub fn begin(&mut self) -> Result<()> {
        self.before_ms = self.cpu_ms()?;
        Ok(())
    }

    /// Runs an instance to its first byte, then deletes it.
    pub fn run(&mut self) -> Result<Sample> {
        let made = self.host.cli(&[
            "run",
            "probe",
            "--vcpus",
            "1",
            "--memory",
            &self.memory,
            "--vswitch",
            &self.vswitch,
            "--security-group",
            &self.group,
            "--cmdline",
            "probe=\"shell\"",
            "--wait-output",
        ])?;
        let id = made["instances"][0]["id"].as_str().context("no id")?;
        let shown = self.host.cli(&["show", id])?;
        let time = |key: &str| {
            let value = shown["last_start"][key].as_f64();
            value.with_context(|| format!("no {key} in {shown}"))
        };
        let sample = Sample {
            accepted_ms: time("accepted_ms")?,
            prepared_ms: time("prepared_ms")?,
            running_ms: time("running_ms")?,
            first_output_ms: time("first_output_ms")?,
        };
        self.host.cli(&["rm", "--force", "--wait", id])?;
        Ok(sample)
    }

    /// Takes the host away; the mean CPU time of daemon and vmm per create-and-destroy.
    pub fn finish(self, rounds: usize) -> Result<f64> {
        let spent = self.cpu_ms()? - self.before_ms;
        self.host.tear_down()?;
        Ok(spent / f64::from(u32::try_from(rounds)?))
    }

    /// CPU time of the daemon and of the vmms it has reaped.
    fn cpu_ms(&self) -> Result<f64> {
        let pid = self.host.pid().context("the daemon does not run")?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // proc_pid_stat(5): utime, stime, cutime and cstime are fields 14 to 17; the name, field 2, ends with the last parenthesis.
        let (_, fields) = stat.rsplit_once(')').context("not a stat file")?;
        let ticks: f64 = fields
            .split_whitespace()
            .skip(11)
            .take(4)
            .map(|field| field.parse::<f64>().unwrap_or(f64::NAN))
            .sum();
        Ok(ticks / TICKS_PER_SECOND * 1e3)
    }
}
