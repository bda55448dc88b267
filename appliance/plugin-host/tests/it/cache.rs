//! Only compiled code this program wrote is run.

use crate::components::{Folder, hosts, limits, parameters, request, scheduler, verdicts};
use placement::{SchedulingPolicy, Verdict};
use plugin_host::PluginHost;
use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};
use types::Sha256Digest;

/// Loads the component with a new host program on that folder, and has it answer.
fn load(folder: &Path, bytes: &[u8]) {
    let host = PluginHost::new(limits(), folder).unwrap();
    let policy = host
        .load_scheduler("mine", bytes, &parameters(&[]))
        .unwrap();
    let answer = policy.evaluate(&request(), &hosts(1)).unwrap();
    assert_eq!(answer, [Verdict::Score(4.0)]);
}

fn good() -> Vec<u8> {
    scheduler(&verdicts(1, 0, 4.0), "(i32.const 2048)")
}

fn code(folder: &Path, bytes: &[u8]) -> PathBuf {
    folder.join(format!("{}.cwasm", Sha256Digest::of(bytes)))
}

/// Which file it is: a rewritten one is another.
fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

#[test]
fn compiled_code_is_kept_privately_and_used_again() {
    let parent = Folder::new();
    let folder = parent.path().join("policies/compiled");
    let bytes = good();
    load(&folder, &bytes);
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    assert_eq!(mode(&folder.join("key")), 0o600);
    assert_eq!(mode(&code(&folder, &bytes)), 0o600);
    let first = inode(&code(&folder, &bytes));
    load(&folder, &bytes);
    assert_eq!(inode(&code(&folder, &bytes)), first);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
}

#[test]
fn altered_foreign_and_cut_code_is_made_again() {
    let folder = Folder::new();
    let bytes = good();
    load(folder.path(), &bytes);
    let path = code(folder.path(), &bytes);
    let written = fs::read(&path).unwrap();

    // Code of another component, written by this very program: its MAC is for another digest.
    let other = scheduler(&verdicts(1, 0, 5.0), "(i32.const 2048)");
    let host = PluginHost::new(limits(), folder.path()).unwrap();
    host.load_scheduler("other", &other, &parameters(&[]))
        .unwrap();
    let swapped = fs::read(code(folder.path(), &other)).unwrap();

    let mut flipped = written.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for bad in [
        flipped,
        swapped,
        written[32..].to_vec(),
        written[..100].to_vec(),
        written[..7].to_vec(),
        Vec::new(),
    ] {
        fs::write(&path, bad).unwrap();
        load(folder.path(), &bytes);
        // The MAC ends a code that is again as it was.
        assert_eq!(fs::read(&path).unwrap(), written);
    }
}

#[test]
fn a_key_others_could_read_is_not_trusted() {
    let folder = Folder::new();
    let bytes = good();
    load(folder.path(), &bytes);
    let (key, path) = (folder.path().join("key"), code(folder.path(), &bytes));
    let (old_key, old_code) = (fs::read(&key).unwrap(), inode(&path));
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    load(folder.path(), &bytes);
    assert_ne!(fs::read(&key).unwrap(), old_key);
    assert_ne!(inode(&path), old_code);
    assert_eq!(fs::metadata(&key).unwrap().mode() & 0o777, 0o600);
}
