//! How a process is given its machine: one message on the socket it was started with, description and descriptors
//! together. Until then it waits, confined already; when its launcher goes away instead, so does it.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

use crate::protocol::ProcessConfig;

/// Descriptors of a machine at most: more than all it may have.
const DESCRIPTORS_MAX: usize = 64;
/// Longest description in bytes.
const DESCRIPTION_MAX: usize = 64 << 10;

/// What a process was given: in the description, descriptors are places in the list.
pub(crate) struct Handed {
    pub(crate) description: Vec<u8>,
    pub(crate) descriptors: Vec<OwnedFd>,
}

/// The launcher's and the process's end.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    Ok((ours, theirs))
}

/// Gives the machine away. The descriptors are closed here, whether or not that succeeds.
///
/// # Errors
/// The process is gone, or the machine is too large to describe.
pub(crate) fn give(socket: BorrowedFd<'_>, config: ProcessConfig<OwnedFd>) -> io::Result<()> {
    let mut descriptors = Vec::new();
    let config = config.try_map(|fd| -> io::Result<usize> {
        descriptors.push(fd);
        Ok(descriptors.len() - 1)
    })?;
    let description = serde_json::to_vec(&config)?;
    if description.len() > DESCRIPTION_MAX {
        let problem = format!(
            "a machine's description of {} bytes, at most {DESCRIPTION_MAX} are possible",
            description.len()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
    }
    let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        let problem = format!(
            "a machine with {} descriptors, at most {DESCRIPTORS_MAX} are possible",
            borrowed.len()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
    }
    let parts = [IoSlice::new(&description)];
    retry_on_intr(|| rustix::net::sendmsg(socket, &parts, &mut control, SendFlags::NOSIGNAL))?;
    Ok(())
}

/// Waits for the machine; `None` when the launcher has gone away.
///
/// # Errors
/// The descriptor is no such socket, or what comes is not what [`give`] sends.
pub(crate) fn take(socket: BorrowedFd<'_>) -> io::Result<Option<Handed>> {
    let mut description = vec![0; DESCRIPTION_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut parts = [IoSliceMut::new(&mut description)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        match rustix::net::recvmsg(socket, &mut parts, &mut control, flags) {
            Err(Errno::INTR) => {}
            received => break received?,
        }
    };
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    if received
        .flags
        .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
    {
        return Err(io::Error::other("the machine's description is cut short"));
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    description.truncate(received.bytes);
    description.shrink_to_fit();
    Ok(Some(Handed {
        description,
        descriptors,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Boot, Host, Kernel, MachineConfig, Sockets};

    fn config(cmdline: &str) -> ProcessConfig<OwnedFd> {
        let file = || rustix::fs::memfd_create(c"test", rustix::fs::MemfdFlags::CLOEXEC);
        let fd = || file().expect("a descriptor");
        ProcessConfig {
            machine: MachineConfig {
                vcpus: 1,
                memory_bytes: 1,
                boot: Boot::Pvh(Kernel {
                    image: fd(),
                    initrd: None,
                    cmdline: cmdline.into(),
                }),
                disks: Vec::new(),
                nics: Vec::new(),
                rng: false,
                host: Host {
                    memory: fd(),
                    console: fd(),
                },
            },
            sockets: Sockets {
                listener: fd(),
                first: fd(),
                peer_uid: 0,
            },
            stderr: Some(fd()),
        }
    }

    #[test]
    fn what_is_given_is_taken_with_every_descriptor_in_its_place() {
        let (ours, theirs) = pair().expect("a pair");
        give(ours.as_fd(), config("line")).expect("given");
        let handed = take(theirs.as_fd()).expect("readable").expect("a machine");
        assert_eq!(handed.descriptors.len(), 6);
        let config: ProcessConfig<usize> =
            serde_json::from_slice(&handed.description).expect("a description");
        let mut places = Vec::new();
        config
            .try_map(|place| {
                places.push(place);
                Ok::<_, ()>(place)
            })
            .expect("no error");
        assert_eq!(places, [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_launcher_that_went_away_gives_nothing() {
        let (ours, theirs) = pair().expect("a pair");
        drop(ours);
        assert!(take(theirs.as_fd()).expect("readable").is_none());
    }

    #[test]
    fn a_description_that_is_too_long_is_not_sent() {
        let (ours, _theirs) = pair().expect("a pair");
        let error = give(ours.as_fd(), config(&"x".repeat(DESCRIPTION_MAX)));
        let error = error.expect_err("too long").to_string();
        assert!(error.contains("description of"), "{error}");
    }

    #[test]
    fn another_descriptor_than_a_socket_is_an_error() {
        let file = rustix::fs::memfd_create(c"test", rustix::fs::MemfdFlags::CLOEXEC);
        assert!(take(file.expect("a file").as_fd()).is_err());
    }
}
