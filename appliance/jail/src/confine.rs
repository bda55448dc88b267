//! The child's side: what only works after exec, and a look at the result.

use std::env;
use std::ffi::{CStr, c_int, c_ulong};
use std::io;
use std::ptr;

use crate::Error;

/// Set by `spawn`: `uid:gid`, the identity the child takes.
pub(crate) const IDENTITY_VARIABLE: &str = "ASHLAR_JAIL";

/// A confinement that is in force.
#[derive(Debug)]
pub struct Confined {
    /// The user id the process has now.
    pub uid: u32,
    /// The group id the process has now.
    pub gid: u32,
    /// Protections this kernel does not offer and that were therefore left out, in words.
    pub missing: Vec<&'static str>,
}

/// Finishes the confinement of a process that [`crate::spawn`] started, then checks it. Call it first in `main`: before
/// any thread is started and any input is read. From then on the process sees an empty read-only root, is an
/// ordinary user without capabilities and can open nothing.
///
/// # Errors
/// Names the step. The process must end then: it may be half confined.
pub fn confine_self() -> Result<Confined, Error> {
    let (uid, gid) = identity()?;
    // unshare(2): CLONE_THREAD is accepted, without effect, only in a single-threaded process.
    // SAFETY: a plain system call without pointers.
    Error::check("be single-threaded while confining", unsafe {
        libc::unshare(libc::CLONE_THREAD)
    })?;
    // SAFETY: the pointer and the length describe one constant.
    Error::check("name the host for the child", unsafe {
        libc::sethostname(c"vmm".as_ptr(), 3)
    })?;
    empty_root()?;
    drop_bounding_set()?;
    become_user(uid, gid)?;
    drop_capabilities()?;
    let mut missing = Vec::new();
    prctl("forbid new privileges", libc::PR_SET_NO_NEW_PRIVS, 1)?;
    prctl("forbid dumps of the process", libc::PR_SET_DUMPABLE, 0)?;
    if !landlock()? {
        missing
            .push("this kernel has no Landlock; the empty root alone keeps the process from files");
    }
    check(uid, gid)?;
    Ok(Confined { uid, gid, missing })
}

fn identity() -> Result<(u32, u32), Error> {
    let text = env::var(IDENTITY_VARIABLE).map_err(|_| {
        Error::Request("this process was not started by jail::spawn: no identity to take".into())
    })?;
    text.split_once(':')
        .and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)))
        .filter(|(uid, gid)| *uid != 0 && *gid != 0)
        .ok_or_else(|| {
            Error::Request(format!(
                "{IDENTITY_VARIABLE}={text:?} is not uid:gid, both above 0"
            ))
        })
}

/// Replaces the root by an empty read-only file system; the old one is gone from this mount namespace.
fn empty_root() -> Result<(), Error> {
    mount(
        "detach the mounts from the host's",
        None,
        c"/",
        None,
        libc::MS_REC | libc::MS_PRIVATE,
        None,
    )?;
    // Any directory serves to mount the new root on, since the old tree goes away: these two exist on every host.
    let flags = libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    let place = [c"/proc", c"/dev"];
    let mounted = place.iter().find_map(|at| {
        let options = Some(c"size=4k,nr_inodes=1,mode=0555");
        mount(
            "mount the empty root",
            Some(c"none"),
            at,
            Some(c"tmpfs"),
            flags,
            options,
        )
        .ok()
        .map(|()| at)
    });
    let Some(at) = mounted else {
        return Err(Error::last("mount the empty root"));
    };
    // SAFETY: each call: constant NUL-terminated paths; they concern this process's own mount namespace.
    Error::check("enter the empty root", unsafe { libc::chdir(at.as_ptr()) })?;
    // pivot_root(2): `.` twice stacks the old root on the new one, from where it is unmounted.
    // SAFETY: as above.
    let pivoted = unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) };
    if pivoted == 0 {
        // SAFETY: as above.
        Error::check("unmount the host's root", unsafe {
            libc::umount2(c".".as_ptr(), libc::MNT_DETACH)
        })?;
    } else {
        let source = io::Error::last_os_error();
        if source.raw_os_error() != Some(libc::EINVAL) {
            return Err(Error::Step {
                step: "pivot to the empty root",
                source,
            });
        }
        // The first root of a kernel (an initramfs) cannot be pivoted away: cover it, as switch_root does. Without
        // CAP_SYS_CHROOT and CAP_SYS_ADMIN, dropped below, there is no way back.
        mount(
            "cover the host's root",
            Some(c"."),
            c"/",
            None,
            libc::MS_MOVE,
            None,
        )?;
        // SAFETY: as above.
        Error::check("change to the empty root", unsafe {
            libc::chroot(c".".as_ptr())
        })?;
    }
    // SAFETY: as above.
    Error::check("enter the empty root", unsafe {
        libc::chdir(c"/".as_ptr())
    })?;
    Ok(())
}

fn mount(
    step: &'static str,
    source: Option<&CStr>,
    target: &CStr,
    kind: Option<&CStr>,
    flags: c_ulong,
    options: Option<&CStr>,
) -> Result<(), Error> {
    let pointer = |s: Option<&CStr>| s.map_or(ptr::null(), CStr::as_ptr);
    // SAFETY: all strings are NUL-terminated and live through the call; absent ones are null, as mount(2) allows.
    let done = unsafe {
        libc::mount(
            pointer(source),
            target.as_ptr(),
            pointer(kind),
            flags,
            pointer(options).cast(),
        )
    };
    Error::check(step, done).map(|_| ())
}

fn prctl(step: &'static str, option: c_int, value: c_ulong) -> Result<c_int, Error> {
    let zero: c_ulong = 0;
    // SAFETY: only options without pointers are passed here.
    Error::check(step, unsafe {
        libc::prctl(option, value, zero, zero, zero)
    })
}

/// capabilities(7): the highest number is found by asking; 63 is the limit of the interface.
fn drop_bounding_set() -> Result<(), Error> {
    for capability in 0..64 {
        if prctl("read the bounding set", libc::PR_CAPBSET_READ, capability).is_err() {
            break;
        }
        prctl(
            "drop the capability bounding set",
            libc::PR_CAPBSET_DROP,
            capability,
        )?;
    }
    Ok(())
}

fn become_user(uid: u32, gid: u32) -> Result<(), Error> {
    // SAFETY: each call: no pointers but a null list of length 0; the process is single-threaded.
    unsafe {
        Error::check(
            "drop the supplementary groups",
            libc::setgroups(0, ptr::null()),
        )?;
        Error::check("take the child's group id", libc::setresgid(gid, gid, gid))?;
        Error::check("take the child's user id", libc::setresuid(uid, uid, uid))?;
    }
    Ok(())
}

/// `struct __user_cap_header_struct`.
#[repr(C)]
struct CapHeader {
    version: u32,
    pid: c_int,
}

/// `struct __user_cap_data_struct`.
#[repr(C)]
#[derive(Default, Clone, Copy, PartialEq, Eq)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// `_LINUX_CAPABILITY_VERSION_3`: two data elements.
const CAP_VERSION_3: u32 = 0x2008_0522;

fn drop_capabilities() -> Result<(), Error> {
    let clear = c_ulong::try_from(libc::PR_CAP_AMBIENT_CLEAR_ALL).unwrap_or(4);
    prctl("drop ambient capabilities", libc::PR_CAP_AMBIENT, clear)?;
    let mut header = CapHeader {
        version: CAP_VERSION_3,
        pid: 0,
    };
    let none = [CapData::default(); 2];
    // SAFETY: the header and the two data elements have the kernel's layout and live through the call.
    let set = unsafe { libc::syscall(libc::SYS_capset, &raw mut header, none.as_ptr()) };
    Error::check("drop all capabilities", set).map(|_| ())
}

/// Forbids every access to files by name. `false` when the kernel has no Landlock.
fn landlock() -> Result<bool, Error> {
    const VERSION_QUERY: u32 = 1;
    let nothing = ptr::null::<u64>();
    // SAFETY: the version query takes a null pointer and length 0.
    let abi = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            nothing,
            0_usize,
            VERSION_QUERY,
        )
    };
    if abi < 1 {
        return Ok(false);
    }
    // landlock(7): 13 file rights in ABI 1, REFER from 2, TRUNCATE from 3, IOCTL_DEV from 5.
    let rights: u64 = match abi {
        1 => (1 << 13) - 1,
        2 => (1 << 14) - 1,
        3 | 4 => (1 << 15) - 1,
        _ => (1 << 16) - 1,
    };
    // SAFETY: `rights` is the first member of `struct landlock_ruleset_attr`, the length says that it is the only one.
    let ruleset = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &raw const rights,
            size_of::<u64>(),
            0,
        )
    };
    let ruleset = Error::check("make a Landlock ruleset", ruleset)?;
    // SAFETY: no pointers; the descriptor was just made.
    let restricted = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset, 0) };
    let result = Error::check("enter Landlock", restricted).map(|_| true);
    // SAFETY: our own descriptor, not used afterwards.
    unsafe { libc::syscall(libc::SYS_close, ruleset) };
    result
}

/// Looks at the result instead of trusting the steps.
fn check(uid: u32, gid: u32) -> Result<(), Error> {
    let mut ids = [0_u32; 6];
    let [ru, eu, su, rg, eg, sg] = &mut ids;
    // SAFETY: six distinct integers that live through the calls.
    let read = unsafe { libc::getresuid(ru, eu, su) | libc::getresgid(rg, eg, sg) };
    Error::check("read the ids back", read)?;
    if ids != [uid, uid, uid, gid, gid, gid] {
        return Err(Error::Check(format!(
            "user and group ids {ids:?} instead of {uid} and {gid}"
        )));
    }
    let mut header = CapHeader {
        version: CAP_VERSION_3,
        pid: 0,
    };
    let mut held = [CapData {
        effective: 1,
        permitted: 1,
        inheritable: 1,
    }; 2];
    // SAFETY: the header and the two data elements have the kernel's layout and live through the call.
    let read = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, held.as_mut_ptr()) };
    Error::check("read the capabilities back", read)?;
    if held != [CapData::default(); 2] {
        return Err(Error::Check("capabilities that should be gone".into()));
    }
    if prctl("read no-new-privileges back", libc::PR_GET_NO_NEW_PRIVS, 0)? != 1 {
        return Err(Error::Check(
            "that new privileges are still possible".into(),
        ));
    }
    for path in [c"/proc", c"/dev", c"/etc", c"/usr", c"/bin"] {
        // SAFETY: a constant path; F_OK only asks for existence.
        if unsafe { libc::access(path.as_ptr(), libc::F_OK) } == 0 {
            return Err(Error::Check(format!("{path:?} of the host")));
        }
    }
    // SAFETY: no arguments.
    if unsafe { libc::getppid() } != 0 {
        return Err(Error::Check(
            "a parent process: no pid namespace of its own".into(),
        ));
    }
    Ok(())
}
