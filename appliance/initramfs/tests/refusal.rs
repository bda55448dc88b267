//! Started by mistake, it touches nothing.

#![allow(missing_docs)]

use std::process::Command;

#[test]
fn only_the_first_process_hands_over() {
    let output = Command::new(env!("CARGO_BIN_EXE_ashlar-initramfs"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("initramfs of a host image"), "{said}");
}
