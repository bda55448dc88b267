//! The control thread: one loop over the daemon's connections and the machine's alarm.
//!
//! The daemon may come and go: the listening socket stays, events are sent to whoever subscribed. Nothing here waits
//! for a peer: what a peer does not read is kept up to a bound, then the peer is dropped.

mod peer;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::net::{SocketFlags, accept_with};

use crate::alarm::Alarm;

use crate::machine::{Parts, Running};
use crate::platform::Outcome;
use crate::protocol::{Action, Answer, CONSOLE_INPUT_MAX, Event, Message, Request, Status};
use peer::Peer;

/// Connections at a time; a daemon needs one, a restarting one perhaps two.
const PEERS_MAX: usize = 4;
/// At most one event about console output in this time.
const OUTPUT_INTERVAL: Duration = Duration::from_millis(10);
/// How long the last event may take to leave.
const FAREWELL: Duration = Duration::from_millis(500);

const LISTENER: u64 = 0;
const ALARM: u64 = 1;
const FIRST_PEER: u64 = 2;

/// Why [`Control::serve`] returned.
pub(crate) enum End {
    /// The machine came to its end.
    Machine(Outcome),
    /// The daemon wants it to end.
    Shutdown,
}

/// The control side of a process.
pub(crate) struct Control {
    epoll: OwnedFd,
    listener: OwnedFd,
    peer_uid: u32,
    peers: Vec<Peer>,
    next_token: u64,
    resets: u64,
    first_output_told: bool,
    /// Console bytes of the last event.
    output_told: u64,
    /// When the next event about output may be sent, if one was sent lately.
    output_again: Option<Instant>,
}

impl Control {
    /// Serves the bound `listener`, and at once `first`, which gets all events but console output.
    ///
    /// # Errors
    /// The system refuses.
    pub(crate) fn new(listener: OwnedFd, first: OwnedFd, peer_uid: u32) -> io::Result<Self> {
        // Listening here, not in the daemon, makes the process that a later daemon sees (SO_PEERCRED) this one.
        rustix::net::listen(&listener, i32::try_from(PEERS_MAX).unwrap_or(1))?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let data = epoll::EventData::new_u64(LISTENER);
        epoll::add(&epoll, &listener, data, epoll::EventFlags::IN)?;
        let mut control = Self {
            epoll,
            listener,
            peer_uid,
            peers: Vec::new(),
            next_token: FIRST_PEER,
            resets: 0,
            first_output_told: false,
            output_told: 0,
            output_again: None,
        };
        control.add(first, true)?;
        Ok(control)
    }

    /// Watches a machine's alarm from now on.
    ///
    /// # Errors
    /// The system refuses.
    pub(crate) fn watch(&self, alarm: &Alarm) -> io::Result<()> {
        let data = epoll::EventData::new_u64(ALARM);
        epoll::add(&self.epoll, alarm, data, epoll::EventFlags::IN)?;
        Ok(())
    }

    /// Serves until the machine or the daemon ends it.
    ///
    /// # Errors
    /// The system refuses to wait.
    pub(crate) fn serve(&mut self, machine: &Running, parts: &Parts) -> io::Result<End> {
        loop {
            if let Some(outcome) = machine.outcome() {
                self.tell_output(parts);
                return Ok(End::Machine(outcome.clone()));
            }
            let timeout = self
                .output_again
                .map(|at| timespec(at.saturating_duration_since(Instant::now())));
            let mut events = Vec::with_capacity(PEERS_MAX + 2);
            match epoll::wait(
                &self.epoll,
                rustix::buffer::spare_capacity(&mut events),
                timeout.as_ref(),
            ) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in events {
                match event.data.u64() {
                    LISTENER => self.accept(),
                    ALARM => {
                        // Only resets it; what rang is looked at below and above.
                        parts.alarm.silence();
                    }
                    token => {
                        if self.converse(token, machine, parts) {
                            return Ok(End::Shutdown);
                        }
                    }
                }
            }
            self.tell_output(parts);
        }
    }

    /// The guest has reset and its machine runs again.
    pub(crate) fn count_reset(&mut self) {
        self.resets += 1;
    }

    /// Sends an event to all who subscribed.
    pub(crate) fn tell(&mut self, event: Event) {
        self.tell_if(event, |_| true);
    }

    fn tell_if(&mut self, event: Event, wanted: impl Fn(&Peer) -> bool) {
        let message = Message::Event { event };
        for peer in self
            .peers
            .iter_mut()
            .filter(|peer| peer.events && wanted(peer))
        {
            peer.send(&message);
        }
        self.settle();
    }

    /// Gives what was said last a little time to leave.
    pub(crate) fn farewell(mut self) {
        let deadline = Instant::now() + FAREWELL;
        self.settle();
        for peer in &mut self.peers {
            peer.drain(deadline);
        }
    }

    fn add(&mut self, stream: OwnedFd, events: bool) -> io::Result<()> {
        let token = self.next_token;
        self.next_token += 1;
        epoll::add(
            &self.epoll,
            &stream,
            epoll::EventData::new_u64(token),
            epoll::EventFlags::IN,
        )?;
        self.peers.push(Peer::new(stream, token, events));
        Ok(())
    }

    /// Takes a connection; one too many, or of another user, is closed at once. Nothing that goes wrong here
    /// concerns the machine: the daemon will try again.
    fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let Ok(stream) = accept_with(&self.listener, flags) else {
            return;
        };
        let peer =
            nix::sys::socket::getsockopt(&stream, nix::sys::socket::sockopt::PeerCredentials);
        if peer.is_ok_and(|peer| peer.uid() == self.peer_uid) && self.peers.len() < PEERS_MAX {
            let _ = self.add(stream, false);
        }
    }

    /// Reads from one peer and answers; tells whether the daemon wants the machine to end.
    fn converse(&mut self, token: u64, machine: &Running, parts: &Parts) -> bool {
        let Some(index) = self.peers.iter().position(|peer| peer.token == token) else {
            return false;
        };
        self.peers[index].receive();
        let mut shutdown = false;
        while let Some(Request { id, action }) = self.peers[index].next_request() {
            shutdown |= action == Action::Shutdown;
            if let Action::Subscribe { console_output } = action {
                self.peers[index].events = true;
                self.peers[index].console_output = console_output;
            }
            let answer = self.act(action, machine, parts);
            self.peers[index].send(&Message::Reply { id, answer });
        }
        self.settle();
        shutdown
    }

    fn act(&self, action: Action, machine: &Running, parts: &Parts) -> Answer {
        let paused = machine.processors.paused();
        match action {
            Action::Status => Answer::Status(Status {
                paused,
                vcpus: u32::from(parts.vcpus),
                memory_bytes: parts.memory_bytes,
                resets: self.resets,
                first_output_ns: parts.watch.first_output_ns(),
                console_bytes: parts.watch.total(),
                devices: machine.device_status(),
            }),
            Action::PowerButton if paused => refused("the machine is paused: resume it first"),
            Action::PowerButton => {
                machine.press_power_button();
                Answer::Done
            }
            Action::Pause => {
                machine.processors.pause();
                Answer::Done
            }
            Action::Resume => {
                machine.processors.resume();
                Answer::Done
            }
            Action::ConsoleInput { bytes } if bytes.len() > CONSOLE_INPUT_MAX => refused(&format!(
                "at most {CONSOLE_INPUT_MAX} bytes of input at a time"
            )),
            Action::ConsoleInput { bytes } => Answer::Accepted {
                bytes: machine.type_in(&bytes),
            },
            Action::Shutdown | Action::Subscribe { .. } => Answer::Done,
        }
    }

    /// Tells of output, the first once, later ones at most every [`OUTPUT_INTERVAL`].
    fn tell_output(&mut self, parts: &Parts) {
        if !self.first_output_told
            && let Some(monotonic_ns) = parts.watch.first_output_ns()
        {
            self.first_output_told = true;
            self.tell(Event::FirstOutput { monotonic_ns });
        }
        if !self.peers.iter().any(|peer| peer.console_output) {
            self.output_again = None;
            return;
        }
        if self.output_again.is_some_and(|at| Instant::now() < at) {
            return;
        }
        self.output_again = None;
        // Armed before the total is read: output after the reading rings.
        parts.watch.arm();
        let total = parts.watch.total();
        if total != self.output_told {
            self.output_told = total;
            self.output_again = Some(Instant::now() + OUTPUT_INTERVAL);
            self.tell_if(Event::ConsoleOutput { total }, |peer| peer.console_output);
        }
    }

    /// Writes what can be written, drops peers that are gone, and waits for room where something is left.
    fn settle(&mut self) {
        for peer in &mut self.peers {
            peer.flush();
        }
        let epoll = &self.epoll;
        self.peers.retain_mut(|peer| {
            if !peer.closed()
                && let Some(writable) = peer.interest_changed()
            {
                let flags = if writable {
                    epoll::EventFlags::IN | epoll::EventFlags::OUT
                } else {
                    epoll::EventFlags::IN
                };
                let data = epoll::EventData::new_u64(peer.token);
                peer.close_if(epoll::modify(epoll, peer.as_fd(), data, flags).is_err());
            }
            if peer.closed() {
                let _ = epoll::delete(epoll, peer.as_fd());
            }
            !peer.closed()
        });
    }
}

fn refused(reason: &str) -> Answer {
    Answer::Refused {
        reason: reason.into(),
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}
