//! Measurements say what they lack, instead of measuring something else.

use std::process::Command;

/// How a measurement fails: what it says.
fn failure(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(!output.status.success(), "{command:?} did not fail");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn policies_that_were_not_built_are_missed() {
    let empty = tempfile::tempdir().unwrap();
    for program in [env!("CARGO_BIN_EXE_policy"), env!("CARGO_BIN_EXE_ledger")] {
        let said = failure(Command::new(program).env("ASHLAR_PLUGINS", empty.path()));
        assert!(said.contains("cargo xtask targets"), "{said}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_measured() {
    let said = failure(Command::new(env!("CARGO_BIN_EXE_start")).arg("--often"));
    assert!(said.contains("unknown option --often"), "{said}");
    let said = failure(&mut Command::new(env!("CARGO_BIN_EXE_floor")));
    assert!(said.contains("usage: floor"), "{said}");
}

#[test]
fn requests_need_what_they_are_made_of() {
    // It makes a file system first, which takes root.
    let said = failure(Command::new(env!("CARGO_BIN_EXE_requests")).arg("--callers"));
    assert!(said.contains("takes no options"), "{said}");
}

#[test]
fn a_recording_that_is_none_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let recorded = folder.path().join("decisions.jsonl");
    std::fs::write(&recorded, "{\"request\": {}}\n").unwrap();
    let said =
        failure(Command::new(env!("CARGO_BIN_EXE_policy")).env("ASHLAR_RECORDED", &recorded));
    assert!(said.contains("line 1 of"), "{said}");
    assert!(said.contains("is no decision"), "{said}");
}
