//! The compiler that makes components.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::client::Error;

/// What policies are compiled for.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// Debian's compiler, which comes without that target's library, but with its source.
const SYSTEM_RUSTC: &str = "/usr/bin/rustc";
const SYSTEM_CARGO: &str = "/usr/bin/cargo";

/// A compiler, and how it gets the target's library.
pub struct Toolchain {
    sysroot: PathBuf,
    /// The library is compiled, too.
    from_source: bool,
}

impl Toolchain {
    /// The compiler on PATH, if it has the target; else the system's, if it has the library's source.
    ///
    /// # Errors
    /// There is neither.
    pub fn find() -> Result<Self, Error> {
        let with_target = sysroot("rustc").filter(|sysroot| has_library(sysroot));
        if let Some(sysroot) = with_target {
            return Ok(Self {
                sysroot,
                from_source: false,
            });
        }
        let with_source = sysroot(SYSTEM_RUSTC).filter(|sysroot| {
            let source = "lib/rustlib/src/rust/library/core/src/lib.rs";
            sysroot.join(source).is_file() && Path::new(SYSTEM_CARGO).is_file()
        });
        let sysroot = with_source.ok_or_else(|| {
            Error::Failed(format!(
                "no compiler here makes components: run `rustup target add {TARGET}`, or on Debian `apt install rustc-web cargo-web rust-web-src lld`"
            ))
        })?;
        Ok(Self {
            sysroot,
            from_source: true,
        })
    }

    /// `cargo` with what the target needs.
    pub fn cargo(&self) -> Command {
        let tools = self
            .sysroot
            .join("lib/rustlib/x86_64-unknown-linux-gnu/bin");
        let mut cargo = if self.from_source {
            let mut cargo = clean(SYSTEM_CARGO);
            cargo
                .env("RUSTC", SYSTEM_RUSTC)
                .env("RUSTC_BOOTSTRAP", "1")
                .arg("-Zbuild-std=std,panic_abort");
            cargo
        } else {
            native()
        };
        // It turns what wasm-ld links into a component.
        cargo
            .env(
                "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER",
                tools.join("wasm-component-ld"),
            )
            .env("PATH", self.path(&tools));
        cargo
    }

    /// PATH with the folders in which the linker may be.
    fn path(&self, tools: &Path) -> OsString {
        let mut folders = vec![tools.join("gcc-ld")];
        if self.from_source {
            folders.extend(llvm_folders());
        }
        let path = env::var_os("PATH").unwrap_or_default();
        folders.extend(env::split_paths(&path));
        // Only a folder with a colon in its name cannot be joined, and then the linker is looked for without it.
        env::join_paths(folders).unwrap_or(path)
    }
}

/// `cargo` for this machine.
pub fn native() -> Command {
    clean("cargo")
}

/// A command without what a cargo that runs this program would lead it astray by.
fn clean(program: &str) -> Command {
    let mut command = Command::new(program);
    for name in [
        "CARGO",
        "LD_LIBRARY_PATH",
        "RUSTC",
        "RUSTFLAGS",
        "RUSTUP_TOOLCHAIN",
    ] {
        command.env_remove(name);
    }
    command
}

/// Runs it to its end; what it says goes where this program's errors go.
pub fn run(command: &mut Command, doing: &str) -> Result<(), Error> {
    let status = command
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .map_err(Error::local(format!("cannot {doing}: cannot run cargo")))?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Failed(format!(
        "cannot {doing}; cargo says why above"
    )))
}

fn sysroot(rustc: &str) -> Option<PathBuf> {
    let output = clean(rustc).args(["--print", "sysroot"]).output().ok()?;
    let path = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| path.trim().into())
}

fn has_library(sysroot: &Path) -> bool {
    let folder = sysroot.join("lib/rustlib").join(TARGET).join("lib");
    let core = |name: &OsString| name.to_string_lossy().starts_with("libcore-");
    fs::read_dir(folder)
        .is_ok_and(|entries| entries.flatten().any(|entry| core(&entry.file_name())))
}

/// Where Debian puts wasm-ld: a folder per version of LLVM, the newest first.
fn llvm_folders() -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir("/usr/lib") else {
        return Vec::new();
    };
    let mut folders: Vec<(u32, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let version = name.to_str()?.strip_prefix("llvm-")?.parse().ok()?;
            let folder = entry.path().join("bin");
            folder
                .join("wasm-ld")
                .is_file()
                .then_some((version, folder))
        })
        .collect();
    folders.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    folders.into_iter().map(|(_, folder)| folder).collect()
}
