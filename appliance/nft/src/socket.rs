//! A netlink socket to the packet filter of one network namespace.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::thread;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use crate::Error;
use crate::wire::{self, Answer, Attributes, DUMP};

/// The kernel answers at once; this only bounds what a defect can do.
const TIMEOUT_SECONDS: i64 = 10;
/// The kernel's lists come in pieces of at most 32 KiB.
const BUFFER: usize = 64 << 10;
/// A list that changed while it was read is read again, so often at most.
const ATTEMPTS: usize = 5;

pub(crate) struct Socket(OwnedFd);

impl Socket {
    /// A socket stays in the namespace of the thread that made it, so a thread of its own goes there to make it.
    pub(crate) fn open(namespace: BorrowedFd<'_>) -> Result<Self, Error> {
        let make = || {
            setns(namespace, CloneFlags::CLONE_NEWNET)
                .map_err(|e| Error::Namespace { source: e.into() })?;
            open().map(Self).map_err(|e| match e {
                Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT => Error::KernelLacks {
                    missing: "nfnetlink and nf_tables",
                    source: e.into(),
                },
                _ => Error::Socket { source: e.into() },
            })
        };
        thread::scope(|scope| {
            let panicked = |_| {
                Err(Error::Socket {
                    source: io::Error::other("the thread that opens it panicked"),
                })
            };
            scope.spawn(make).join().unwrap_or_else(panicked)
        })
    }

    /// Runs messages numbered `1..` as one transaction; the last one must ask for an acknowledgement. The number of the
    /// first that was refused, and why.
    pub(crate) fn transact(
        &self,
        messages: &[Vec<u8>],
    ) -> Result<Result<(), (usize, Errno)>, Error> {
        let bytes = wire::batch(messages);
        let failed = |e: Errno| Error::Socket { source: e.into() };
        // Room for the whole transaction, which must be one datagram.
        setsockopt(&self.0, sockopt::SndBufForce, &(bytes.len() + BUFFER)).map_err(failed)?;
        send(self.0.as_raw_fd(), &bytes, MsgFlags::empty()).map_err(failed)?;
        let last = messages.len();
        let mut refused = None;
        let mut buffer = vec![0; BUFFER];
        loop {
            for answer in self.receive(&mut buffer)? {
                let Answer::Result { sequence, errno } = answer else {
                    continue;
                };
                let number = usize::try_from(sequence).unwrap_or(last);
                if errno != 0 && refused.is_none() {
                    refused = Some((number, Errno::from_raw(errno)));
                }
                // Number 0 is the transaction itself: nothing else will come.
                if number >= last || number == 0 {
                    return Ok(refused.map_or(Ok(()), Err));
                }
            }
        }
    }

    /// Calls `each` with the attributes of every nf_tables object of a list.
    pub(crate) fn list(
        &self,
        kind: u16,
        filter: &Attributes,
        each: impl FnMut(&[u8]),
    ) -> Result<Result<(), Errno>, Error> {
        self.dump(&wire::message(kind, DUMP, 1, filter), each)
    }

    /// Calls `each` with the attributes of every object that the kernel lists upon `request`.
    pub(crate) fn dump(
        &self,
        request: &[u8],
        mut each: impl FnMut(&[u8]),
    ) -> Result<Result<(), Errno>, Error> {
        for _ in 0..ATTEMPTS {
            self.send(request)?;
            let (mut objects, mut changed): (Vec<Vec<u8>>, bool) = (Vec::new(), false);
            let mut buffer = vec![0; BUFFER];
            let end = 'list: loop {
                for answer in self.receive(&mut buffer)? {
                    match answer {
                        Answer::Object(attributes) => objects.push(attributes.to_vec()),
                        Answer::Changed => changed = true,
                        Answer::Done => break 'list Ok(()),
                        Answer::Result { errno: 0, .. } => {}
                        Answer::Result { errno, .. } => break 'list Err(Errno::from_raw(errno)),
                    }
                }
            };
            if !changed && end != Err(Errno::EINTR) && end != Err(Errno::EAGAIN) {
                objects.iter().for_each(|object| each(object));
                return Ok(end);
            }
        }
        Ok(Err(Errno::EAGAIN))
    }

    /// Sends one request that asks for an acknowledgement, outside any transaction.
    pub(crate) fn ask(&self, request: &[u8]) -> Result<Result<(), Errno>, Error> {
        self.send(request)?;
        let mut buffer = vec![0; BUFFER];
        loop {
            for answer in self.receive(&mut buffer)? {
                if let Answer::Result { errno, .. } = answer {
                    return Ok(if errno == 0 {
                        Ok(())
                    } else {
                        Err(Errno::from_raw(errno))
                    });
                }
            }
        }
    }

    fn send(&self, request: &[u8]) -> Result<(), Error> {
        let sent = send(self.0.as_raw_fd(), request, MsgFlags::empty());
        sent.map(drop)
            .map_err(|e| Error::Socket { source: e.into() })
    }

    fn receive<'a>(&self, buffer: &'a mut [u8]) -> Result<Vec<Answer<'a>>, Error> {
        let length = recv(self.0.as_raw_fd(), buffer, MsgFlags::empty())
            .map_err(|e| Error::Socket { source: e.into() })?;
        wire::answers(&buffer[..length]).map_err(|source| Error::Socket { source })
    }
}

fn open() -> nix::Result<OwnedFd> {
    let fd = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkNetFilter,
    )?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    setsockopt(
        &fd,
        sockopt::ReceiveTimeout,
        &TimeVal::new(TIMEOUT_SECONDS, 0),
    )?;
    Ok(fd)
}
