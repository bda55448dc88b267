//! Root, directly or through `sudo`; only single commands are raised, never a build.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};
use rustix::process::geteuid;

use crate::paths;

/// How often a granted `sudo` is renewed, so that a long run doesn't ask again in its middle.
const RENEWAL: Duration = Duration::from_secs(60);

/// Whether the caller is root.
pub fn is_root() -> bool {
    geteuid().is_root()
}

/// Makes sure that commands can be raised to root without a question later on. Asks for the password here, once, when
/// `sudo` needs one.
pub fn ensure() -> Result<()> {
    if is_root() {
        return Ok(());
    }
    if paths::find_program("sudo").is_none() {
        bail!(
            "this needs root for some of its steps, and there is no sudo: run it as root or install sudo"
        );
    }
    // In the foreground and with the terminal, unlike every other child: it may have to ask.
    let granted = |args: &[&str]| {
        Command::new("sudo")
            .args(args)
            .status()
            .is_ok_and(|s| s.success())
    };
    if !granted(&["-n", "true"]) && !granted(&["-v"]) {
        bail!(
            "this needs root for some of its steps, and sudo was refused: run it as root or as a user who may use sudo"
        );
    }
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(RENEWAL);
            if !granted(&["-n", "-v"]) {
                break;
            }
        }
    });
    Ok(())
}
