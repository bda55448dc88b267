//! The tutorial for authors of policies, typed word for word.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use xtask::command::Invocation;
use xtask::paths;

use crate::site::Site;

/// It compiles two policies, twice each.
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// What a reader would type: the blocks marked `sh`, one after the other.
fn typed(text: &str) -> String {
    let mut typed = String::new();
    let mut within = false;
    for line in text.lines() {
        match line {
            "```sh" => within = true,
            "```" => within = false,
            _ if within => typed += &format!("{line}\n"),
            _ => {}
        }
    }
    typed
}

#[test]
fn the_tutorial_works_as_it_is_written() -> Result<()> {
    let tutorial = paths::root().join("plugins/TUTORIAL.md");
    let script = typed(&fs::read_to_string(&tutorial)?);
    ensure!(script.lines().count() > 20, "{script}");
    let site = Site::new(&[])?;
    let folder = tempfile::Builder::new().prefix("ash").tempdir()?;
    let script_file = site.file("tutorial", script.as_bytes())?;
    let programs = std::env::current_exe()?;
    // deps/host-… lies in the folder of the programs.
    let programs = programs
        .ancestors()
        .nth(2)
        .context("no folder of programs")?;
    let path = format!("{}:{}", programs.display(), std::env::var("PATH")?);
    Invocation::new("bash")
        .args(["-euxo", "pipefail", &script_file])
        .env("PATH", path)
        .env("ASHLAR_HOST", site.host.address())
        // What the policies depend on has been compiled there already.
        .env("CARGO_TARGET_DIR", paths::root().join("target/plugins"))
        .dir(folder.path())
        .within(LIMIT)
        .run()?;
    let all = site.host.cli(&["plugins"])?.to_string();
    ensure!(!all.contains("snug") && !all.contains("fair"), "{all}");
    Ok(())
}
