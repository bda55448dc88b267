//! The first program of a host image, for a moment: it mounts the image's root, which came compressed beside it in the initramfs,
//! and hands over to the first process there.
//!
//! A root that the kernel unpacks stays in memory whole, for ever. Mounted compressed it takes a third of that, and what is read of it
//! is given back when a guest needs the room.

#![forbid(unsafe_code)]

use std::{convert::Infallible, error::Error, fs, path::Path, process::ExitCode};

use host::{modules::Modules, mounts, root};
use image_format::layout;

/// Where the root is mounted before it is the root.
const NEW_ROOT: &str = "/new";

fn main() -> ExitCode {
    if std::process::id() != 1 {
        eprintln!("ashlar-initramfs is for the initramfs of a host image, where it runs first");
        return ExitCode::from(2);
    }
    let Err(error) = hand_over();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    println!("ashlar: the image's root cannot be started: {text}");
    // The kernel panics when its first process ends, and the boot loader then tries again or goes back.
    ExitCode::FAILURE
}

fn hand_over() -> Result<Infallible, Box<dyn Error>> {
    mounts::devices()?;
    let mut modules = Modules::open()?;
    for name in ["loop", "squashfs"] {
        modules.load(name)?;
    }
    let file = Path::new("/").join(layout::ROOT);
    // Open until it is mounted: the device ends with its last user.
    let (_open, device) = root::loop_device(&file)?;
    fs::create_dir_all(NEW_ROOT)?;
    mounts::image(&device, Path::new(NEW_ROOT), "squashfs")?;
    Ok(root::hand_over(
        Path::new(NEW_ROOT),
        &Path::new("/").join(layout::INIT),
    )?)
}
