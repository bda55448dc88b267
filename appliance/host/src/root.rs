//! From the initramfs to the image's root: a compressed file system in a file, read through a loop device. What is read of it
//! stays in memory only as long as there is room, and the initramfs' own files are given back.

use std::{
    convert::Infallible,
    fs::{self, File},
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::{fs::MetadataExt as _, process::CommandExt as _},
    },
    path::{Path, PathBuf},
    process::Command,
};

use rustix::{
    fs::statfs,
    ioctl::{Opcode, Setter, ioctl},
    mount::mount_move,
    process::{chdir, chroot},
};

use crate::Error;

/// linux/loop.h, LOOP_CTL_GET_FREE.
const GET_FREE: Opcode = 0x4c82;
/// linux/loop.h, LOOP_CONFIGURE.
const CONFIGURE: Opcode = 0x4c0a;
/// linux/loop.h, LO_FLAGS_READ_ONLY and LO_FLAGS_AUTOCLEAR.
const READ_ONLY_UNTIL_UNUSED: u32 = 1 | 4;

/// linux/magic.h, TMPFS_MAGIC and RAMFS_MAGIC: what an initramfs is unpacked into.
const TMPFS: i64 = 0x0102_1994;
const RAMFS: i64 = 0x8584_58f6;

/// linux/loop.h, struct loop_info64.
#[repr(C)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    names: [[u8; 64]; 2],
    key: [u8; 32],
    init: [u64; 2],
}

/// linux/loop.h, struct loop_config.
#[repr(C)]
struct Configuration {
    file: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

/// Makes a file a read-only block device, which ends with its last user. Returns the device's file.
///
/// # Errors
/// The module `loop` is not loaded, no device is free, or the kernel refused.
pub fn loop_device(file: &Path) -> Result<(File, PathBuf), Error> {
    let doing = format!("read {} as a disk", file.display());
    let backing = File::open(file).map_err(Error::of(&doing))?;
    let number = free_device().map_err(Error::of(&doing))?;
    let path = PathBuf::from(format!("/dev/loop{number}"));
    let device = File::open(&path).map_err(Error::of(&doing))?;
    configure(&device, &backing).map_err(Error::of(&doing))?;
    Ok((device, path))
}

#[allow(unsafe_code)]
fn free_device() -> io::Result<i32> {
    /// The number is what the call returns.
    struct GetFree;
    // SAFETY: LOOP_CTL_GET_FREE takes no argument and touches no memory of ours.
    unsafe impl rustix::ioctl::Ioctl for GetFree {
        type Output = i32;
        const IS_MUTATING: bool = false;
        fn opcode(&self) -> Opcode {
            GET_FREE
        }
        fn as_ptr(&mut self) -> *mut std::ffi::c_void {
            std::ptr::null_mut()
        }
        unsafe fn output_from_ptr(
            out: rustix::ioctl::IoctlOutput,
            _: *mut std::ffi::c_void,
        ) -> rustix::io::Result<i32> {
            Ok(out)
        }
    }
    let control = File::options()
        .read(true)
        .write(true)
        .open("/dev/loop-control")?;
    // SAFETY: as above; the descriptor is the loop driver's own.
    Ok(unsafe { ioctl(control.as_fd(), GetFree) }?)
}

#[allow(unsafe_code)]
fn configure(device: &File, backing: &File) -> io::Result<()> {
    let configuration = Configuration {
        file: u32::try_from(backing.as_raw_fd()).map_err(io::Error::other)?,
        block_size: 0,
        info: Info {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            size_limit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: READ_ONLY_UNTIL_UNUSED,
            names: [[0; 64]; 2],
            key: [0; 32],
            init: [0; 2],
        },
        reserved: [0; 8],
    };
    // SAFETY: LOOP_CONFIGURE reads one `Configuration`, which has the kernel's layout and lives until the call returns.
    Ok(unsafe {
        ioctl(
            device.as_fd(),
            Setter::<CONFIGURE, Configuration>::new(configuration),
        )
    }?)
}

/// Makes `new`, a mounted file system, the root, and runs `program` there in place of this one. What is mounted at `/dev` goes along;
/// the files of the old root are removed, which gives their memory back.
///
/// # Errors
/// The root is no initramfs, whose files are in memory: nothing was touched. Or the kernel refused, or there is no such program, and
/// nothing is left to go back to.
pub fn hand_over(new: &Path, program: &Path) -> Result<Infallible, Error> {
    let in_memory = statfs("/").is_ok_and(|about| [TMPFS, RAMFS].contains(&about.f_type));
    if !in_memory {
        return Err(Error::new(
            "leave the root",
            io::Error::other("it is no initramfs"),
        ));
    }
    mount_move("/dev", new.join("dev")).map_err(Error::of("take /dev along"))?;
    let old = fs::metadata("/")
        .map_err(Error::of("look at the root"))?
        .dev();
    remove_below(Path::new("/"), old);
    let doing = format!("make {} the root", new.display());
    chdir(new).map_err(Error::of(&doing))?;
    mount_move(".", "/").map_err(Error::of(&doing))?;
    chroot(".").map_err(Error::of(&doing))?;
    chdir("/").map_err(Error::of(&doing))?;
    let error = Command::new(program)
        .args(std::env::args_os().skip(1))
        .exec();
    Err(Error::new(format!("run {}", program.display()), error))
}

/// Removes what is on a device, and nothing that is mounted on it.
fn remove_below(folder: &Path, device: u64) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            continue;
        };
        if metadata.dev() != device {
            continue;
        }
        if metadata.is_dir() {
            remove_below(&path, device);
            let _ = fs::remove_dir(&path);
        } else {
            let _ = fs::remove_file(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_reads_what_we_mean() {
        assert_eq!(size_of::<Info>(), 232);
        assert_eq!(std::mem::offset_of!(Info, flags), 52);
        assert_eq!(size_of::<Configuration>(), 304);
    }

    #[test]
    fn only_what_is_on_the_device_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        fs::write(folder.path().join("a/b/c"), "x").unwrap();
        std::os::unix::fs::symlink("/proc/self", folder.path().join("link")).unwrap();
        let device = fs::metadata(folder.path()).unwrap().dev();
        remove_below(folder.path(), device + 1);
        assert!(folder.path().join("a/b/c").exists());
        remove_below(folder.path(), device);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(Path::new("/proc/self/status").exists());
    }
}
