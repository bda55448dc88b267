//! The one tool of Ashlar's developers: sets the machine up, builds for every target, checks, tests, measures, and runs
//! the main job. `cargo xtask --help` lists what it can do.
//!
//! A library too: the integration tests use its [`host`] and [`pool`].

#![forbid(unsafe_code)]

mod bench;
mod build;
mod check;
pub mod command;
mod firmware;
pub mod guest;
mod hash;
pub mod host;
pub mod image;
pub mod interrupt;
mod lab;
pub mod memory;
mod packages;
pub mod paths;
pub mod pool;
pub mod privilege;
pub mod progress;
mod setup;
pub mod targets;
mod test;
mod up;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// The one tool of Ashlar's developers.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// The main job: starts the daemon on this machine and runs two instances.
    Up(up::Options),
    /// Everything continuous integration runs.
    Test,
    /// Formatting, lints, layers, and what no file may contain.
    Check,
    /// Builds and runs the measurements of bench/.
    Bench {
        /// Only this one.
        name: Option<String>,
    },
    /// Builds the host image: what is flashed, booted from virtual media or the network, and streamed as an update.
    Image(image::Options),
    /// Experiments on an emulated host.
    Lab {
        #[command(subcommand)]
        lab: lab::Lab,
    },
    /// Builds the probe and the policies for their own targets.
    Targets(targets::Options),
    /// Installs what the machine lacks.
    Setup {
        /// For which purposes; all when none is given.
        purposes: Vec<setup::Purpose>,
    },
    /// A disk pool whose file system can reflink.
    Pool {
        #[command(subcommand)]
        action: PoolAction,
    },
}

#[derive(Subcommand)]
enum PoolAction {
    /// Makes a pool in a folder unless its file system reflinks already; prints the pool's path.
    Make {
        dir: PathBuf,
        /// Size if one must be made, sparse: for instance 4G.
        #[arg(long, default_value = "8G", value_parser = pool::parse_size)]
        size: u64,
    },
    /// Unmounts and deletes the pool of a folder.
    Remove { dir: PathBuf },
}

/// Does what the command line says.
#[must_use]
pub fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        // Whatever failed, it failed because of the signal; what was made is removed again by now.
        Err(_) if interrupt::requested() => {
            eprintln!("interrupted");
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    interrupt::install()?;
    match task {
        Task::Up(options) => up::run(options),
        Task::Test => test::run(),
        Task::Check => check::run(),
        Task::Bench { name } => bench::run(name.as_deref()),
        Task::Image(options) => image::run(options),
        Task::Lab { lab } => lab::run(lab),
        Task::Targets(options) => targets::build_all(options),
        Task::Setup { purposes } if purposes.is_empty() => setup::ensure(&setup::Purpose::ALL),
        Task::Setup { purposes } => setup::ensure(&purposes),
        Task::Pool {
            action: PoolAction::Make { dir, size },
        } => {
            privilege::ensure()?;
            let pool = pool::Pool::make(&dir, size)?;
            println!("{}", pool.path().display());
            pool.keep();
            Ok(())
        }
        Task::Pool {
            action: PoolAction::Remove { dir },
        } => {
            privilege::ensure()?;
            pool::Pool::remove(&dir)
        }
    }
}
