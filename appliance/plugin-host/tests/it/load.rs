//! What isn't a policy is refused, with a reason.

use crate::components::{Folder, Host, billing, limits, parameters, scheduler, verdicts};
use plugin_host::{Limits, LoadError, PluginKind};
use std::error::Error;
use types::ByteCount;

/// The whole chain of an error, as an edge prints it.
fn told(error: LoadError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}

fn check(bytes: &[u8], said: &[&str]) {
    let host = Host::new(limits());
    let error = host
        .host
        .load_scheduler("mine", bytes, &parameters(&[]))
        .err()
        .unwrap();
    let text = told(error);
    for said in said {
        assert!(text.contains(said), "{text}");
    }
    assert!(host.host.status().is_empty());
}

#[test]
fn other_files_are_refused() {
    for bytes in [&b""[..], b"\0asm", b"#!/bin/sh\nexit 0\n", b"(component)"] {
        check(bytes, &["`mine` is not WebAssembly"]);
    }
}

#[test]
fn a_core_module_is_refused() {
    let module = wat::parse_str("(module)").unwrap();
    check(&module, &["core WebAssembly module, not a component"]);
}

#[test]
fn a_damaged_component_is_refused() {
    let good = scheduler(&verdicts(1, 0, 1.0), "(i32.const 2048)");
    check(&good[..good.len() / 2], &["not a valid component"]);
    let mut bent = good;
    let middle = bent.len() / 2;
    bent[middle..middle + 32].fill(0xff);
    check(&bent, &["not a valid component"]);
}

#[test]
fn a_component_without_the_export_is_refused() {
    let nothing = wat::parse_str("(component)").unwrap();
    check(
        &nothing,
        &["not a scheduler policy", "`ashlar:policy/scheduling`"],
    );
    let other = billing("", "(i32.const 1024)");
    check(
        &other,
        &["not a scheduler policy", "it is a billing policy"],
    );
}

#[test]
fn what_is_not_offered_cannot_be_imported() {
    let wasi = r#"(component (import "wasi:clocks/monotonic-clock@0.2.0" (instance
        (export "now" (func (result u64))))))"#;
    check(
        &wat::parse_str(wasi).unwrap(),
        &["imports `wasi:clocks/monotonic-clock@0.2.0`, which is not offered"],
    );
}

#[test]
fn another_shape_of_the_interface_is_refused() {
    let other = r#"(component
        (core module $m (func (export "f")))
        (core instance $i (instantiate $m))
        (func $f (canon lift (core func $i "f")))
        (instance $scheduling (export "filter-and-score" (func $f)))
        (export "ashlar:policy/scheduling@0.4.0" (instance $scheduling)))"#;
    check(&wat::parse_str(other).unwrap(), &["another version"]);
}

#[test]
fn a_component_that_needs_too_much_is_refused() {
    let large = r#"(component (core module $m (memory 1000)) (core instance (instantiate $m)))"#;
    check(&wat::parse_str(large).unwrap(), &["not a"]);
    let start = scheduler(
        "(func $spin (loop $l (br $l))) (start $spin)",
        "(i32.const 1024)",
    );
    check(&start, &["does not take its configuration", "ran out of"]);
}

#[test]
fn files_are_read_up_to_the_limit() {
    let folder = Folder::new();
    let host = Host::new(Limits {
        component: ByteCount::KIB,
        ..limits()
    });
    let missing = folder.path().join("missing.wasm");
    let error = host.host.read(&missing).unwrap_err();
    assert!(matches!(&error, LoadError::Read { path, .. } if *path == missing));
    assert!(told(error).contains("missing.wasm: No such file"));

    let large = folder.path().join("large.wasm");
    std::fs::write(&large, vec![0; 1025]).unwrap();
    let error = host.host.read(&large).unwrap_err();
    assert!(told(error).contains("1025 bytes; at most 1 KiB"));
    let error = host.host.load_billing("mine", &[0; 1025], &parameters(&[]));
    assert!(matches!(error, Err(LoadError::TooLarge { .. })));
}

#[test]
fn what_is_loaded_is_listed_as_long_as_it_is_held() {
    let host = Host::new(limits());
    let bytes = scheduler(&verdicts(1, 0, 1.0), "(i32.const 2048)");
    let held = host
        .host
        .load_scheduler("mine", &bytes, &parameters(&[]))
        .unwrap();
    let status = host.host.status();
    assert_eq!(status.len(), 1);
    assert_eq!(
        (status[0].name.as_str(), status[0].kind),
        ("mine", PluginKind::Scheduler)
    );
    assert_eq!(status[0].calls, 0);
    drop(held);
    assert!(host.host.status().is_empty());
}
