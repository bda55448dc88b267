//! The file systems that every process expects, and undoing mounts at the end.

use std::{collections::BTreeSet, ffi::CString, fs, path::Path};

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, mount_remount, unmount,
};

use crate::Error;

/// One file system of the kernel.
struct Api {
    kind: &'static str,
    at: &'static str,
    flags: MountFlags,
    options: &'static str,
    /// Whether a host is of no use without it.
    needed: bool,
}

const SAFE: MountFlags = MountFlags::NOSUID
    .union(MountFlags::NODEV)
    .union(MountFlags::NOEXEC);

const APIS: &[Api] = &[
    api("proc", "/proc", SAFE, "", true),
    api("sysfs", "/sys", SAFE, "", true),
    api("devtmpfs", "/dev", MountFlags::NOSUID, "mode=0755", true),
    api(
        "devpts",
        "/dev/pts",
        MountFlags::NOSUID.union(MountFlags::NOEXEC),
        "mode=0620,gid=5,ptmxmode=0666",
        false,
    ),
    api("tmpfs", "/dev/shm", SAFE, "mode=1777,size=16m", false),
    api(
        "tmpfs",
        "/run",
        MountFlags::NOSUID.union(MountFlags::NODEV),
        "mode=0755,size=64m",
        true,
    ),
    api("tmpfs", "/tmp", SAFE, "mode=1777,size=64m", true),
    api("tmpfs", "/var/tmp", SAFE, "mode=1777,size=16m", false),
    api("cgroup2", "/sys/fs/cgroup", SAFE, "nsdelegate", false),
    api("securityfs", "/sys/kernel/security", SAFE, "", false),
    api("pstore", "/sys/fs/pstore", SAFE, "", false),
];

const fn api(
    kind: &'static str,
    at: &'static str,
    flags: MountFlags,
    options: &'static str,
    needed: bool,
) -> Api {
    Api {
        kind,
        at,
        flags,
        options,
        needed,
    }
}

/// Mounts the kernel's file systems, those that are not mounted yet. Returns what could not be mounted and is not needed.
///
/// # Errors
/// One without which nothing works could not be mounted.
pub fn kernel_file_systems() -> Result<Vec<Error>, Error> {
    let mut failed = Vec::new();
    for api in APIS {
        if mounted_at().contains(api.at) {
            continue;
        }
        let result = folder(api.at).and_then(|()| {
            mount_at(
                api.kind,
                Path::new(api.at),
                api.kind,
                api.flags,
                api.options,
            )
        });
        match result {
            Err(error) if api.needed => return Err(error),
            Err(error) => failed.push(error),
            Ok(()) => {}
        }
    }
    Ok(failed)
}

/// The device files alone, for who needs nothing else yet.
///
/// # Errors
/// The kernel refused.
pub fn devices() -> Result<(), Error> {
    let Some(api) = APIS.iter().find(|api| api.kind == "devtmpfs") else {
        return Ok(());
    };
    folder(api.at)?;
    mount_at(
        api.kind,
        Path::new(api.at),
        api.kind,
        api.flags,
        api.options,
    )
}

/// Mounts an image's root, read-only and with its programs.
///
/// # Errors
/// The kernel refused.
pub fn image(device: &Path, at: &Path, kind: &str) -> Result<(), Error> {
    let flags = MountFlags::NODEV | MountFlags::RDONLY;
    let device = device.to_string_lossy();
    // One decompressor, not one per processor, each with its own memory; older kernels have no such option.
    mount_at(&device, at, kind, flags, "threads=single")
        .or_else(|_| mount_at(&device, at, kind, flags, ""))
}

/// The EFI variables, once their module is loaded.
///
/// # Errors
/// The machine was not started by EFI, or the kernel lacks the module.
pub fn efi_variables() -> Result<(), Error> {
    const AT: &str = "/sys/firmware/efi/efivars";
    if mounted_at().contains(AT) {
        return Ok(());
    }
    mount_at("efivarfs", Path::new(AT), "efivarfs", SAFE, "")
}

/// Mounts the file system of a kind on a device at a folder, which is made.
///
/// # Errors
/// The kernel refused.
pub fn device(
    device: &Path,
    at: &Path,
    kind: &str,
    read_only: bool,
    options: &str,
) -> Result<(), Error> {
    let mut flags = SAFE;
    if read_only {
        flags |= MountFlags::RDONLY;
    }
    folder(&at.to_string_lossy())?;
    mount_at(&device.to_string_lossy(), at, kind, flags, options)
}

/// Nobody writes to the root from now on.
///
/// # Errors
/// The kernel refused.
pub fn read_only_root() -> Result<(), Error> {
    mount_remount("/", MountFlags::RDONLY, "").map_err(Error::of("make the root read-only"))
}

/// Mounts made in a namespace of their own stay there.
///
/// # Errors
/// The kernel refused.
pub fn shared_root() -> Result<(), Error> {
    mount_change(
        "/",
        MountPropagationFlags::SHARED | MountPropagationFlags::REC,
    )
    .map_err(Error::of("share the root with namespaces"))
}

/// Undoes a mount; what is in use goes when it is not any more.
///
/// # Errors
/// The kernel refused.
pub fn undo(at: &Path) -> Result<(), Error> {
    match unmount(at, UnmountFlags::empty()) {
        Ok(()) => Ok(()),
        Err(_) => unmount(at, UnmountFlags::DETACH)
            .map_err(Error::of(format!("unmount {}", at.display()))),
    }
}

/// Unmounts what holds data, newest first, and makes read-only what cannot be unmounted; for the end. Returns what failed.
#[must_use]
pub fn undo_all() -> Vec<Error> {
    let text = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut failed = Vec::new();
    for (at, kind) in on_devices(&text).into_iter().rev() {
        if unmount(at.as_str(), UnmountFlags::empty()).is_err()
            && let Err(error) = mount_remount(at.as_str(), MountFlags::RDONLY, "")
        {
            failed.push(Error::new(format!("unmount {at} ({kind})"), error));
        }
    }
    failed
}

/// Mount points of block devices and their kinds, oldest first.
fn on_devices(mounts: &str) -> Vec<(String, String)> {
    mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let (device, at, kind) = (words.next()?, words.next()?, words.next()?);
            device
                .starts_with("/dev/")
                .then(|| (at.replace("\\040", " "), kind.to_owned()))
        })
        .collect()
}

fn mounted_at() -> BTreeSet<String> {
    let text = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split(' ').nth(1).map(str::to_owned))
        .collect()
}

fn folder(path: &str) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(Error::of(format!("make the folder {path}")))
}

fn mount_at(
    source: &str,
    at: &Path,
    kind: &str,
    flags: MountFlags,
    options: &str,
) -> Result<(), Error> {
    let doing = format!("mount {source} ({kind}) at {}", at.display());
    let options = CString::new(options).map_err(|_| {
        Error::new(
            &doing,
            std::io::Error::from(std::io::ErrorKind::InvalidInput),
        )
    })?;
    mount(source, at, kind, flags, options.as_c_str()).map_err(Error::of(doing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_devices_hold_data() {
        let mounts = "proc /proc proc rw 0 0\n/dev/vda3 /var/lib/ashlar xfs rw 0 0\ntmpfs /run tmpfs rw 0 0\n/dev/vda1 /run/a\\040b vfat rw 0 0\n";
        let found = on_devices(mounts);
        let names: Vec<_> = found
            .iter()
            .map(|(at, kind)| (at.as_str(), kind.as_str()))
            .collect();
        assert_eq!(names, [("/var/lib/ashlar", "xfs"), ("/run/a b", "vfat")]);
    }
}
