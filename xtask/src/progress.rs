//! What the user sees: one line when a step starts, one with its time when it ends. All of it on standard error;
//! standard output belongs to results.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};

/// Runs one step whose children write to the terminal themselves.
pub fn step<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    eprintln!("==> {name}");
    finish(name, start, work())
}

/// Runs one step whose children are silent: a spinner on a terminal, otherwise the same two lines as [`step`].
pub fn quiet_step<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    if !std::io::stderr().is_terminal() {
        return step(name, work);
    }
    let spinner = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
        spinner.set_style(style);
    }
    spinner.set_message(name.to_owned());
    spinner.enable_steady_tick(Duration::from_millis(120));
    let result = work();
    spinner.finish_and_clear();
    finish(name, start, result)
}

/// One line of news about the step that is running.
pub fn note(text: impl AsRef<str>) {
    eprintln!("    {}", text.as_ref());
}

fn finish<T>(name: &str, start: Instant, result: Result<T>) -> Result<T> {
    let seconds = start.elapsed().as_secs_f64();
    match &result {
        Ok(_) => eprintln!("==> {name}: done in {seconds:.1} s"),
        Err(_) => eprintln!("==> {name}: FAILED after {seconds:.1} s"),
    }
    result.with_context(|| format!("step “{name}” failed"))
}
