//! What the program itself says before it is a host.

use std::{
    fs::Permissions,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
};
use store::{Migration, Schema, Store};

fn ashlard(args: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_ashlard");
    Command::new(program)
        .args(args)
        .output()
        .expect("ashlard runs")
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn help_teaches_every_option_of_serve() {
    let output = ashlard(&["serve", "--help"]);
    let help = said(&output.stdout);
    assert!(output.status.success());
    for option in [
        "--state",
        "--pool",
        "--socket",
        "--listen",
        "--plugins",
        "--prices",
        "--kvm",
        "Examples:",
        "ready pid=",
    ] {
        assert!(help.contains(option), "{option} is missing in:\n{help}");
    }
}

#[test]
fn an_address_that_others_could_reach_is_refused() {
    let output = ashlard(&["serve", "--listen", "0.0.0.0:7070"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output.stderr).contains("loopback"),
        "{}",
        said(&output.stderr)
    );
}

#[test]
fn a_host_without_kvm_does_not_start_and_says_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("state");
    let output = ashlard(&[
        "serve",
        "--state",
        state.to_str().expect("UTF-8"),
        "--kvm",
        "/dev/no-such-kvm",
    ]);
    let error = said(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        error.contains("/dev/no-such-kvm") && error.contains("kvm module"),
        "{error}"
    );
    assert!(output.stdout.is_empty(), "nothing is ready");
}

#[test]
fn a_vmm_that_nobody_described_ends_at_once() {
    assert_eq!(ashlard(&["vmm"]).status.code(), Some(2));
}

#[test]
fn teardown_of_a_host_that_never_was_is_fine() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("never");
    let output = ashlard(&["teardown", "--state", state.to_str().expect("UTF-8")]);
    assert!(output.status.success(), "{}", said(&output.stderr));
    assert!(!state.exists());
}

/// The schema after the one this daemon knows; it changes nothing but the number.
const NEXT: Schema = Schema {
    version: control::SCHEMA.version + 1,
    migrations: &[Migration {
        to: control::SCHEMA.version + 1,
        up: |_| Ok(()),
        down: |_| Ok(()),
    }],
};
const MIGRATOR_STATE: &str = "ASHLARD_TEST_MIGRATOR_STATE";

#[test]
fn a_state_that_a_newer_daemon_wrote_is_taken_back_by_what_it_left() {
    if let Some(state) = std::env::var_os(MIGRATOR_STATE) {
        // Run as the newer daemon's copy.
        Store::migrate(Path::new(&state), &NEXT, control::SCHEMA.version).expect("it knows how");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().to_str().expect("UTF-8");
    let migrate = |to: u64| {
        ashlard(&[
            "state",
            "migrate",
            "--state",
            state,
            "--to",
            &to.to_string(),
        ])
    };
    assert!(migrate(control::SCHEMA.version).status.success());
    Store::migrate(folder.path(), &NEXT, NEXT.version).expect("a newer daemon ran");

    // Without the copy it is refused, and nothing is changed.
    let refused = ashlard(&["teardown", "--state", state]);
    assert_eq!(refused.status.code(), Some(1));
    let error = said(&refused.stderr);
    let newer = format!("schema {}", NEXT.version);
    assert!(
        error.contains(&newer) && error.contains("newer daemon"),
        "{error}"
    );

    let migrators = folder.path().join("migrators");
    std::fs::create_dir(&migrators).expect("a folder");
    let migrator = migrators.join(NEXT.version.to_string());
    let this = std::env::current_exe().expect("a path");
    let script = format!(
        "#!/bin/sh\n[ \"$1 $2 $3 $5\" = 'state migrate --state --to' ] || exit 9\n\
         {MIGRATOR_STATE}=\"$4\" exec '{}' --exact a_state_that_a_newer_daemon_wrote_is_taken_back_by_what_it_left\n",
        this.display()
    );
    std::fs::write(&migrator, script).expect("written");
    std::fs::set_permissions(&migrator, Permissions::from_mode(0o700)).expect("set");
    let gone_back = ashlard(&["teardown", "--state", state]);
    assert!(gone_back.status.success(), "{}", said(&gone_back.stderr));
    let known = said(&ashlard(&["state", "schema"]).stdout);
    assert_eq!(
        said(&migrate(control::SCHEMA.version).stdout),
        format!("schema {0} -> {0}\n", known.trim())
    );
}
