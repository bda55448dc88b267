//! What is kept of a machine on disk.

use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind},
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};
use types::InstanceId;
use vmm::{
    console::{self, ConsoleReader},
    protocol::ExitReason,
};

/// Which start of an instance a vmm is, and as whom it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub number: u64,
    pub uid: u32,
    /// Its process, known before it has the machine; `None` where a daemon wrote this that did not say so yet.
    #[serde(default)]
    pub process: Option<ProcessId>,
}

/// A process among all there ever are, until the host is booted again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    pub pid: i32,
    /// As [`jail::Process::started`] says.
    pub started: u64,
}

impl ProcessId {
    /// The process, if it is still there.
    pub fn find(self) -> Result<Option<jail::Process>, jail::Error> {
        jail::Process::adopt(self.pid, Some(self.started))
    }
}

/// The folders of all machines.
pub struct Folders {
    path: PathBuf,
}

impl Folders {
    pub fn new(path: PathBuf) -> anyhow::Result<Self> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path })
    }

    /// The folder of one machine, which need not be there.
    pub fn of(&self, instance: InstanceId) -> Folder {
        Folder {
            path: self.path.join(instance.to_string()),
        }
    }

    /// Those that are there.
    pub fn list(&self) -> io::Result<Vec<(InstanceId, Folder)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            // What has another name is not ours to touch.
            if let Some(instance) = name.to_str().and_then(|name| name.parse().ok()) {
                found.push((instance, self.of(instance)));
            }
        }
        Ok(found)
    }
}

/// The folder of one machine.
pub struct Folder {
    path: PathBuf,
}

/// What a new vmm is handed.
pub struct Prepared {
    pub console: OwnedFd,
    pub log: OwnedFd,
}

impl Folder {
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn socket(&self) -> PathBuf {
        self.path.join("vmm.sock")
    }

    fn run_file(&self) -> PathBuf {
        self.path.join("run.json")
    }

    fn console_file(&self) -> PathBuf {
        self.path.join("console")
    }

    /// Makes the folder ready for a vmm. What an earlier one printed stays.
    pub fn prepare(&self, run: Run) -> io::Result<Prepared> {
        match DirBuilder::new().mode(0o700).create(&self.path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let console = open(&self.console_file(), OpenOptions::new().read(true))?;
        console::create(&console)?;
        let log = open(
            &self.path.join("vmm.log"),
            OpenOptions::new().truncate(true),
        )?;
        let unfinished = self.path.join("run.json.new");
        // Needs no fsync: after a power cut there is no vmm to find.
        fs::write(&unfinished, serde_json::to_vec(&run)?)?;
        fs::rename(&unfinished, self.run_file())?;
        Ok(Prepared {
            console: console.into(),
            log: log.into(),
        })
    }

    /// Which run the vmm in this folder is, if there may be one.
    pub fn run(&self) -> Option<Run> {
        serde_json::from_slice(&fs::read(self.run_file()).ok()?).ok()
    }

    /// The console, if the machine was ever started.
    pub fn console(&self) -> io::Result<Option<ConsoleReader>> {
        match File::open(self.console_file()) {
            Ok(file) => ConsoleReader::new(file).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Why the last vmm ended, if it said so.
    pub fn last_words(&self) -> Option<ExitReason> {
        self.console().ok()??.exit_reason().ok()?
    }

    /// The vmm is gone: its socket and run go too; console and log stay.
    pub fn settle(&self) {
        for file in [self.socket(), self.run_file()] {
            if let Err(error) = fs::remove_file(&file)
                && error.kind() != ErrorKind::NotFound
            {
                tracing::warn!(file = %file.display(), %error, "cannot remove a file of a machine that is gone");
            }
        }
    }

    /// Removes all of it.
    pub fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    options.write(true).create(true).mode(0o600).open(path)
}
