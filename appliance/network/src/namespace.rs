//! Named network namespaces, kept the way the `ip` tool keeps them: bind-mounted on files under /run/netns.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use crate::Error;

const FOLDER: &str = "/run/netns";
const OWN: &str = "/proc/thread-self/ns/net";

/// An open namespace.
#[derive(Debug)]
pub(crate) struct Namespace {
    name: String,
    fd: OwnedFd,
    inode: u64,
}

/// Settings of a VPC's namespace. Devices made later take over those of `default`.
const SETTINGS: [(&str, &str); 12] = [
    ("ipv6/conf/all/disable_ipv6", "1"),
    ("ipv6/conf/default/disable_ipv6", "1"),
    ("ipv4/conf/default/proxy_arp", "1"),
    ("ipv4/conf/all/rp_filter", "1"),
    ("ipv4/conf/default/rp_filter", "1"),
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/default/send_redirects", "0"),
    ("ipv4/conf/all/accept_redirects", "0"),
    ("ipv4/conf/default/accept_redirects", "0"),
    ("ipv4/conf/all/accept_source_route", "0"),
    ("ipv4/conf/default/accept_source_route", "0"),
    // Last: nothing is forwarded before the rest is set.
    ("ipv4/ip_forward", "1"),
];

impl Namespace {
    /// Opens the namespace; `None` when there is none.
    pub(crate) fn open(name: &str) -> Result<Option<Self>, Error> {
        let file = match File::open(path(name)) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(failed("open the namespace", name, source)),
        };
        let inspect = |file: &File| {
            file.metadata()
                .map_err(|e| failed("inspect the namespace", name, e))
        };
        let metadata = inspect(&file)?;
        let own = File::open(OWN).map_err(|e| failed("open the own namespace", name, e))?;
        // All namespaces are on one file system of the kernel.
        if metadata.dev() == inspect(&own)?.dev() {
            return Ok(Some(Self {
                name: name.to_owned(),
                fd: file.into(),
                inode: metadata.ino(),
            }));
        }
        if metadata.is_file() && metadata.len() == 0 {
            // A maker that died half-way, or somebody unmounted it: as good as none.
            return Ok(None);
        }
        Err(Error::NameTaken {
            path: path(name).display().to_string(),
        })
    }

    /// Makes the namespace. Only when [`Namespace::open`] found none.
    pub(crate) fn create(name: &str) -> Result<Self, Error> {
        let made = thread::scope(|scope| {
            let make = || {
                unshare(CloneFlags::CLONE_NEWNET)
                    .map_err(|e| failed("make the namespace (this needs root)", name, e.into()))?;
                File::open(OWN).map_err(|e| failed("open the new namespace", name, e))
            };
            join(scope.spawn(make), name)
        })??;
        let inode = made
            .metadata()
            .map_err(|e| failed("inspect the namespace", name, e))?
            .ino();
        let namespace = Self {
            name: name.to_owned(),
            fd: made.into(),
            inode,
        };
        namespace.pin()?;
        Ok(namespace)
    }

    /// Gives the namespace its file (again).
    pub(crate) fn pin(&self) -> Result<(), Error> {
        let path = path(&self.name);
        fs::create_dir_all(FOLDER)
            .map_err(|e| failed("make the folder /run/netns", &self.name, e))?;
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|e| failed("make the file for the namespace", &self.name, e))?;
        let source = PathBuf::from(format!("/proc/self/fd/{}", self.fd.as_raw_fd()));
        mount(
            Some(&source),
            &path,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )
        .map_err(|e| {
            let _ = fs::remove_file(&path);
            failed("mount the namespace on its file", &self.name, e.into())
        })
    }

    /// Whether the file of that name still is this namespace.
    pub(crate) fn is_pinned(&self) -> Result<bool, Error> {
        Ok(Self::open(&self.name)?.is_some_and(|found| found.inode == self.inode))
    }

    /// Removes the file; the namespace itself goes with the last process and device descriptor in it. `false` when
    /// there was none.
    pub(crate) fn remove(name: &str) -> Result<bool, Error> {
        let path = path(name);
        // Mounted more than once if somebody did so; bounded in case it never ends.
        for _ in 0..16 {
            if umount2(&path, MntFlags::MNT_DETACH).is_err() {
                break;
            }
        }
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(failed("remove the namespace's file", name, source)),
        }
    }

    /// The names in /run/netns that begin with `prefix`, sorted.
    pub(crate) fn list(prefix: &str) -> Result<Vec<String>, Error> {
        let entries = match fs::read_dir(FOLDER) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(failed("list /run/netns", prefix, source)),
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| name.starts_with(prefix)).collect();
        names.sort();
        Ok(names)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Runs `work` in a thread inside the namespace: sockets, taps and /proc/sys/net there are the namespace's.
    pub(crate) fn enter<R: Send>(&self, work: impl FnOnce() -> R + Send) -> Result<R, Error> {
        thread::scope(|scope| {
            let inside = || {
                setns(&self.fd, CloneFlags::CLONE_NEWNET).map_err(|e| {
                    failed(
                        "enter the namespace (this needs root)",
                        &self.name,
                        e.into(),
                    )
                })?;
                Ok(work())
            };
            join(scope.spawn(inside), &self.name)
        })?
    }

    /// Forwarding, proxy ARP and the like.
    pub(crate) fn configure(&self) -> Result<(), Error> {
        self.write(&SETTINGS)
    }

    /// What exists only once connection tracking is in use: ECS keeps idle connections for 910 s.
    pub(crate) fn configure_tracking(&self) -> Result<(), Error> {
        self.write(&[("netfilter/nf_conntrack_tcp_timeout_established", "910")])
    }

    /// Whether there is any connection in it: looking at each costs milliseconds.
    pub(crate) fn follows_connections(&self) -> Result<bool, Error> {
        let count =
            self.enter(|| fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count"))?;
        // If the kernel does not say, look.
        Ok(count.map_or(true, |count| count.trim() != "0"))
    }

    /// What a new device does not take over from `default`.
    pub(crate) fn configure_device(&self, device: &str) -> Result<(), Error> {
        // Answer for neighbours at once instead of within 0.8 s.
        self.write(&[(&format!("ipv4/neigh/{device}/proxy_delay"), "0")])
    }

    fn write(&self, settings: &[(&str, &str)]) -> Result<(), Error> {
        self.enter(|| {
            for (key, value) in settings {
                let path = format!("/proc/sys/net/{key}");
                match fs::write(&path, value) {
                    // A kernel without IPv6 needs none disabled.
                    Err(e) if e.kind() == io::ErrorKind::NotFound && key.starts_with("ipv6") => {}
                    Err(e) => {
                        let source = io::Error::new(e.kind(), format!("{path}: {e}"));
                        return Err(failed("write a network setting", &self.name, source));
                    }
                    Ok(()) => {}
                }
            }
            Ok(())
        })?
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(FOLDER).join(name)
}

fn failed(step: &'static str, name: &str, source: io::Error) -> Error {
    Error::Namespace {
        step,
        name: name.to_owned(),
        source,
    }
}

fn join<R>(thread: thread::ScopedJoinHandle<'_, R>, name: &str) -> Result<R, Error> {
    thread.join().map_err(|_| {
        failed(
            "run a thread in the namespace",
            name,
            io::Error::other("it panicked"),
        )
    })
}
