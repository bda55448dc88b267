//! What the program itself says before it is a host.

use std::process::{Command, Output};

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
