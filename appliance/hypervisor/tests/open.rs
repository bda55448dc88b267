//! Opening KVM where it is missing, forbidden or something else. Needs root, to become somebody else.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use hypervisor::{Kvm, KvmError};

fn refusal(path: PathBuf) -> KvmError {
    Kvm::open(&path).err().expect("this is not KVM")
}

#[test]
fn a_device_of_somebody_else_is_told_with_owner_and_mode() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o600))
        .expect("its mode");
    let path = file.path().to_path_buf();
    // The identity for files is the thread's own.
    let error = std::thread::spawn(move || {
        nix::unistd::setfsuid(65534.into());
        refusal(path)
    });
    let error = error.join().expect("no panic");
    assert!(
        matches!(
            error,
            KvmError::Denied {
                uid: 0,
                gid: 0,
                mode: 0o600,
                ..
            }
        ),
        "{error:?}"
    );
    let message = error.to_string();
    assert!(
        message.contains("permission denied") && message.contains("mode 0600: run as root"),
        "{message}"
    );
}

#[test]
fn what_is_missing_or_not_kvm_is_told_apart() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let missing = refusal(folder.path().join("kvm"));
    assert!(matches!(missing, KvmError::Absent { .. }), "{missing:?}");
    assert!(
        missing
            .to_string()
            .ends_with("is the kvm module loaded, does this machine have virtualisation?")
    );
    assert!(matches!(
        refusal("/dev/null".into()),
        KvmError::NotKvm { .. }
    ));
}
