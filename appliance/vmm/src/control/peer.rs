//! One connection: bounded buffers around a socket that is never waited for.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::timespec;
use crate::protocol::{MESSAGE_MAX, Message, Request, decode, encode};

/// Bytes waiting for a peer that does not read.
const OUTBOX_MAX: usize = 256 << 10;
/// Bytes read at a time.
const CHUNK: usize = 4096;

pub(super) struct Peer {
    stream: OwnedFd,
    pub(super) token: u64,
    /// Whether it subscribed to events.
    pub(super) events: bool,
    /// Whether it subscribed to console output, too.
    pub(super) console_output: bool,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    waits_for_room: bool,
    closed: bool,
}

impl Peer {
    pub(super) fn new(stream: OwnedFd, token: u64, events: bool) -> Self {
        Self {
            stream,
            token,
            events,
            console_output: false,
            inbox: Vec::new(),
            outbox: Vec::new(),
            waits_for_room: false,
            closed: false,
        }
    }

    /// Reads what has arrived, at most one message more than can be kept.
    pub(super) fn receive(&mut self) {
        let mut chunk = [0; CHUNK];
        while !self.closed && self.inbox.len() < MESSAGE_MAX + 4 {
            match recv(&self.stream, &mut chunk, RecvFlags::DONTWAIT) {
                Ok((0, _)) => self.closed = true,
                Ok((count, _)) => self.inbox.extend_from_slice(&chunk[..count]),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(_) => self.closed = true,
            }
        }
    }

    /// The next whole request; a peer that sends anything else is closed.
    pub(super) fn next_request(&mut self) -> Option<Request> {
        match decode(&mut self.inbox) {
            Ok(request) => request,
            Err(_) => {
                self.closed = true;
                None
            }
        }
    }

    /// Queues a message; a peer that has not read for long is closed.
    pub(super) fn send(&mut self, message: &Message) {
        match encode(message) {
            Ok(frame) if self.outbox.len() + frame.len() <= OUTBOX_MAX => self.outbox.extend(frame),
            _ => self.closed = true,
        }
    }

    /// Writes as much as the socket takes.
    pub(super) fn flush(&mut self) {
        let mut sent = 0;
        while sent < self.outbox.len() && !self.closed {
            match send(
                &self.stream,
                &self.outbox[sent..],
                SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
            ) {
                Ok(count) => sent += count,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(_) => self.closed = true,
            }
        }
        self.outbox.drain(..sent);
    }

    /// Waits, until `deadline` at most, for the peer to take what is queued.
    pub(super) fn drain(&mut self, deadline: Instant) {
        while !self.outbox.is_empty() && !self.closed {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut wait = [PollFd::new(&self.stream, PollFlags::OUT)];
            if left.is_zero() || matches!(poll(&mut wait, Some(&timespec(left))), Ok(0) | Err(_)) {
                return;
            }
            self.flush();
        }
    }

    /// Whether interest in being writable changed since the last call, and to what.
    pub(super) fn interest_changed(&mut self) -> Option<bool> {
        let wants = !self.outbox.is_empty();
        let changed = wants != self.waits_for_room;
        self.waits_for_room = wants;
        changed.then_some(wants)
    }

    pub(super) fn closed(&self) -> bool {
        self.closed
    }

    pub(super) fn close_if(&mut self, condition: bool) {
        self.closed |= condition;
    }
}

impl AsFd for Peer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
