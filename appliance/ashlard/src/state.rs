//! `ashlard state`, and the state folder as a daemon finds it: of its own schema, of an older or of a newer one.

use crate::options::State;
use anyhow::{Context, Result, bail};
use control::SCHEMA;
use std::{
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Stdio},
};
use store::{ErrorKind, Store};

/// What knows the way back from the schema that this program writes.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// Runs the task.
pub fn run(task: &State) -> Result<()> {
    match task {
        State::Schema => println!("{}", SCHEMA.version),
        State::Migrate { state, to } => {
            if !state.exists() {
                bail!("there is no state folder {}", state.display());
            }
            let from = Store::migrate(state, &SCHEMA, *to)?;
            println!("schema {from} -> {to}");
        }
    }
    Ok(())
}

/// Opens the store of a state folder. One that a newer daemon wrote is first taken back by the program it left.
pub fn open(folder: &Path) -> Result<Store> {
    let error = match Store::open(folder, &SCHEMA, Path::new(THIS_PROGRAM)) {
        Ok(store) => return Ok(store),
        Err(error) => error,
    };
    let ErrorKind::Newer { found } = error.kind() else {
        return Err(error.into());
    };
    let Some(migrator) = store::migrator(folder, found) else {
        return Err(error.into());
    };
    tracing::warn!(
        from = found,
        to = SCHEMA.version,
        "a newer daemon wrote the state: it is taken back"
    );
    let output = Command::new(&migrator)
        .arg0("ashlard")
        .args(["state", "migrate", "--state"])
        .arg(folder)
        .args(["--to", &SCHEMA.version.to_string()])
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", migrator.display()))?;
    if !output.status.success() {
        bail!(
            "{} could not take the state back to schema {}: {}",
            migrator.display(),
            SCHEMA.version,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(Store::open(folder, &SCHEMA, Path::new(THIS_PROGRAM))?)
}
