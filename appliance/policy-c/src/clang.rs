//! The compiler, and what it is told.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::Error;

/// A program that must be on PATH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its name.
    pub name: &'static str,
    /// The Debian package that brings it.
    pub package: &'static str,
}

/// The compiler, and the linker that it runs.
const PROGRAMS: [Program; 2] = [
    Program {
        name: "clang",
        package: "clang",
    },
    Program {
        name: "wasm-ld",
        package: "lld",
    },
];

const COMMON: [&str; 3] = ["-std=c17", "-Wall", "-Wextra"];
/// There is no library but what the policy brings. The stack is where running out of it is noticed.
const FOR_COMPONENTS: [&str; 6] = [
    "--target=wasm32-unknown-unknown",
    "-O2",
    "-mbulk-memory",
    "-nostdlib",
    "-ffreestanding",
    "-Wl,--no-entry,--strip-debug,--stack-first",
];
/// What C leaves undefined may come out differently in a component: here it ends the program.
const FOR_TESTS: [&str; 4] = [
    "-O1",
    "-g",
    "-fsanitize=undefined",
    "-fsanitize-trap=undefined",
];

/// The programs that this machine lacks.
#[must_use]
pub fn missing() -> Vec<Program> {
    let path = env::var_os("PATH").unwrap_or_default();
    let is_there = |name: &str| env::split_paths(&path).any(|folder| folder.join(name).is_file());
    PROGRAMS
        .into_iter()
        .filter(|program| !is_there(program.name))
        .collect()
}

/// Links a WebAssembly module of the sources.
pub(crate) fn module(headers: &[PathBuf], sources: &[PathBuf], module: &Path) -> Result<(), Error> {
    run("the policy", &FOR_COMPONENTS, headers, sources, &[], module)
}

/// Links a program of the sources.
pub(crate) fn program(
    headers: &[PathBuf],
    sources: &[PathBuf],
    program: &Path,
) -> Result<(), Error> {
    run("the tests", &FOR_TESTS, headers, sources, &["-lm"], program)
}

fn run(
    what: &'static str,
    options: &[&str],
    headers: &[PathBuf],
    sources: &[PathBuf],
    libraries: &[&str],
    output: &Path,
) -> Result<(), Error> {
    let mut clang = Command::new("clang");
    clang.args(COMMON).args(options);
    for folder in headers {
        clang.arg("-I").arg(folder);
    }
    let status = clang
        .args(sources)
        .args(libraries)
        .arg("-o")
        .arg(output)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .map_err(Error::NoClang)?;
    if status.success() {
        Ok(())
    } else {
        Err(Error::Refused { what })
    }
}
