//! One run of the program `floor`.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{Options, launched, milliseconds, now_ns};

pub struct Sample {
    /// From its `main` to the guest's first byte.
    pub alone_ms: f64,
    /// From the decision to start it.
    pub with_exec_ms: f64,
    pub cpu_ms: f64,
}

pub fn run(options: &Options) -> Result<Sample> {
    let program = options.programs.join("floor");
    let cpu = launched::cpu_ms()?;
    let begin = now_ns()?;
    let output = Command::new(&program)
        .args(["--memory-mib", &options.memory_mib.to_string()])
        .arg(&options.probe)
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let cpu_ms = launched::cpu_ms()? - cpu;
    let (said, complaint) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    ensure!(output.status.success(), "the floor failed: {complaint}");
    let (alone, at) = said
        .trim()
        .split_once(' ')
        .context("the floor printed no times")?;
    Ok(Sample {
        alone_ms: milliseconds(0, alone.parse()?)?,
        with_exec_ms: milliseconds(begin, at.parse()?)?,
        cpu_ms,
    })
}
