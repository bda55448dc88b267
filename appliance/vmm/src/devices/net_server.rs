//! The network device's thread: frames between the tap and the queues, one vectored call each, no copies.
//!
//! All descriptors are watched edge-triggered, so none needs reading to be re-armed: a kick means "look at the
//! queue", the tap's event means "read until empty". While the guest gives no receive buffers the tap is left
//! alone and its own bounded queue drops what overflows.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use virtio::net::{self, NetConfig};
use virtio::{Activation, Chain, Interrupts, QueueError, Virtqueue, feature};
use vm_memory::{GuestMemoryMmap, Permissions};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

use super::guest_iov::GuestIov;
use super::net::NetCounters;
use super::tap::{Moved, Tap};
use super::worker::{Command, Mailbox};

/// Frames moved in one direction before the other gets its turn.
const TURN: usize = 128;

const RECEIVE: u64 = 0;
const TRANSMIT: u64 = 1;
const TAP: u64 = 2;
const MAILBOX: u64 = 3;

pub(crate) struct Server {
    epoll: Epoll,
    tap: Tap,
    memory: GuestMemoryMmap,
    config: NetConfig,
    counters: Arc<NetCounters>,
    mailbox: Arc<Mailbox>,
    /// Held because the events in `epoll` do not hold them.
    _kicks: [Arc<EventFd>; 2],
    active: Option<Active>,
    /// The tap may have frames.
    tap_ready: bool,
}

/// The device between activation and reset.
struct Active {
    interrupts: Interrupts,
    receive: Option<Receive>,
    transmit: Option<Transmit>,
}

struct Receive {
    queue: Virtqueue,
    /// Buffers taken from the queue and not used yet, oldest first.
    buffers: VecDeque<Chain>,
    /// Emptied ones, for reuse.
    spare: Vec<Chain>,
    /// Bytes in `buffers`.
    room: u64,
    /// Room for the longest frame that may come.
    wanted: u64,
    /// Frames may spread over buffers.
    merge: bool,
    /// The queue may hold buffers that no kick will tell of.
    ready: bool,
    iov: GuestIov,
}

struct Transmit {
    queue: Virtqueue,
    chain: Chain,
    /// The queue may hold frames that no kick will tell of.
    ready: bool,
    iov: GuestIov,
}

impl Server {
    pub(crate) fn new(
        tap: Tap,
        memory: GuestMemoryMmap,
        config: NetConfig,
        kicks: [Arc<EventFd>; 2],
        counters: Arc<NetCounters>,
        mailbox: Arc<Mailbox>,
    ) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let edge = EventSet::IN | EventSet::EDGE_TRIGGERED;
        let watched = [
            (kicks[0].as_raw_fd(), RECEIVE),
            (kicks[1].as_raw_fd(), TRANSMIT),
            (tap.as_raw_fd(), TAP),
            (mailbox.bell.as_raw_fd(), MAILBOX),
        ];
        for (fd, name) in watched {
            epoll.ctl(ControlOperation::Add, fd, EpollEvent::new(edge, name))?;
        }
        Ok(Server {
            epoll,
            tap,
            memory,
            config,
            counters,
            mailbox,
            _kicks: kicks,
            active: None,
            tap_ready: false,
        })
    }

    /// Serves until told to stop.
    pub(crate) fn run(mut self) {
        let mut events = [EpollEvent::default(); 4];
        loop {
            let timeout_ms = if self.has_work() { 0 } else { -1 };
            let count = match self.epoll.wait(timeout_ms, &mut events) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                Err(_) => return self.fail(),
            };
            for event in &events[..count] {
                if !self.note(event.data()) {
                    return;
                }
            }
            if self.round().is_err() {
                self.fail();
            }
        }
    }

    /// Takes in one event; `false` ends the thread.
    fn note(&mut self, event: u64) -> bool {
        match (event, &mut self.active) {
            (MAILBOX, _) => return self.commands(),
            (TAP, _) => self.tap_ready = true,
            (
                RECEIVE,
                Some(Active {
                    receive: Some(receive),
                    ..
                }),
            ) => receive.ready = true,
            (
                TRANSMIT,
                Some(Active {
                    transmit: Some(transmit),
                    ..
                }),
            ) => transmit.ready = true,
            _ => {}
        }
        true
    }

    fn commands(&mut self) -> bool {
        while let Some(command) = self.mailbox.take() {
            match command {
                Command::Activate(activation) => self.activate(activation),
                Command::Reset(done) => {
                    self.active = None;
                    drop(done);
                }
                Command::Stop => return false,
            }
        }
        true
    }

    fn activate(&mut self, activation: Activation) {
        let features = activation.features;
        // An older kernel that refuses a flag sends plain frames, which every guest takes.
        if self.tap.set_offloads(net::tap_offloads(features)).is_err() {
            let _ = self.tap.set_offloads(0);
        }
        let mut active = Active {
            interrupts: activation.interrupts,
            receive: None,
            transmit: None,
        };
        for queue in activation.queues {
            match queue.index {
                net::RX_QUEUE => {
                    active.receive = Some(Receive {
                        queue: queue.queue,
                        buffers: VecDeque::new(),
                        spare: Vec::new(),
                        room: 0,
                        wanted: u64::from(net::receive_bytes(features, self.config.mtu)),
                        merge: features & feature::NET_MRG_RXBUF != 0,
                        ready: true,
                        iov: GuestIov::default(),
                    });
                }
                net::TX_QUEUE => {
                    active.transmit = Some(Transmit {
                        queue: queue.queue,
                        chain: Chain::default(),
                        ready: true,
                        iov: GuestIov::default(),
                    });
                }
                _ => {}
            }
        }
        self.active = Some(active);
        self.tap_ready = true;
    }

    /// Whether a turn ended with something left to do.
    fn has_work(&self) -> bool {
        let Some(active) = &self.active else {
            return false;
        };
        let receive = active.receive.as_ref();
        let receivable =
            receive.is_some_and(|r| self.tap_ready && (r.ready || !r.buffers.is_empty()));
        receivable || active.transmit.as_ref().is_some_and(|t| t.ready)
    }

    fn fail(&mut self) {
        if let Some(active) = self.active.take() {
            active.interrupts.needs_reset();
        }
    }

    /// A turn for each direction, then at most one interrupt each.
    fn round(&mut self) -> Result<(), QueueError> {
        let Some(active) = &mut self.active else {
            return Ok(());
        };
        let host = Host {
            tap: &self.tap,
            mem: &self.memory,
            counters: &self.counters,
        };
        if let Some(transmit) = &mut active.transmit
            && transmit.turn(&host)?
            && transmit.queue.wants_interrupt(&self.memory)?
        {
            active.interrupts.queue(net::TX_QUEUE);
        }
        if let Some(receive) = &mut active.receive
            && self.tap_ready
            && receive.turn(&host, &mut self.tap_ready)?
            && receive.queue.wants_interrupt(&self.memory)?
        {
            active.interrupts.queue(net::RX_QUEUE);
        }
        Ok(())
    }
}

/// What both directions work with.
struct Host<'a> {
    tap: &'a Tap,
    mem: &'a GuestMemoryMmap,
    counters: &'a NetCounters,
}

impl Transmit {
    /// Sends what the queue holds; tells whether anything was returned to the driver.
    fn turn(&mut self, host: &Host<'_>) -> Result<bool, QueueError> {
        if !self.ready {
            return Ok(false);
        }
        let mut used = false;
        self.queue.disable_kicks(host.mem)?;
        for _ in 0..TURN {
            if self.queue.pop(host.mem, &mut self.chain)? {
                self.send(host);
                self.queue.add_used(host.mem, self.chain.head, 0)?;
                used = true;
            } else if !self.queue.enable_kicks(host.mem)? {
                self.ready = false;
                break;
            }
        }
        Ok(used)
    }

    fn send(&mut self, host: &Host<'_>) {
        self.iov.clear();
        let mapped = net::sendable(&self.chain)
            && self
                .iov
                .extend(host.mem, &self.chain.readable, Permissions::Read);
        // A full host queue drops the frame, as a full wire would.
        let sent = mapped && matches!(host.tap.write(&self.iov), Moved::Bytes(_));
        NetCounters::count(if sent {
            &host.counters.sent
        } else {
            &host.counters.send_dropped
        });
    }
}

impl Receive {
    /// Moves frames to the guest; tells whether anything was returned to the driver.
    fn turn(&mut self, host: &Host<'_>, tap_ready: &mut bool) -> Result<bool, QueueError> {
        let mut used = false;
        for _ in 0..TURN {
            used |= self.gather(host.mem)?;
            if self.buffers.is_empty() {
                break;
            }
            match self.read(host) {
                Moved::Bytes(bytes) => {
                    used |= self.deliver(host, u64::try_from(bytes).unwrap_or(0))?
                }
                Moved::Empty | Moved::Refused => {
                    *tap_ready = false;
                    break;
                }
            }
        }
        Ok(used)
    }

    /// Takes buffers from the queue until the longest frame would fit; unusable ones go straight back.
    fn gather(&mut self, mem: &GuestMemoryMmap) -> Result<bool, QueueError> {
        let mut used = false;
        let most = usize::from(self.queue.size());
        let enough = |receive: &Receive| {
            let fits = if receive.merge {
                receive.room >= receive.wanted
            } else {
                !receive.buffers.is_empty()
            };
            fits || receive.buffers.len() >= most
        };
        let mut turn = most;
        while turn > 0 && self.ready && !enough(self) {
            turn -= 1;
            let mut chain = self.spare.pop().unwrap_or_default();
            if self.queue.pop(mem, &mut chain)? {
                if net::receivable(&chain) {
                    self.room += Chain::total(&chain.writable);
                    self.buffers.push_back(chain);
                    continue;
                }
                self.queue.add_used(mem, chain.head, 0)?;
                used = true;
            } else if !self.queue.enable_kicks(mem)? {
                self.ready = false;
            }
            self.spare.push(chain);
        }
        Ok(used)
    }

    /// Reads one frame into the first buffers.
    fn read(&mut self, host: &Host<'_>) -> Moved {
        self.iov.clear();
        let mut room = 0;
        for chain in &self.buffers {
            if room >= self.wanted || (room > 0 && !self.merge) {
                break;
            }
            if !self
                .iov
                .extend(host.mem, &chain.writable, Permissions::Write)
            {
                break;
            }
            room += Chain::total(&chain.writable);
        }
        host.tap.read(&self.iov)
    }

    /// Returns the buffers that a frame of `bytes` fills; tells whether there were any.
    fn deliver(&mut self, host: &Host<'_>, bytes: u64) -> Result<bool, QueueError> {
        let room = if self.merge {
            self.room
        } else {
            self.buffers
                .front()
                .map_or(0, |c| Chain::total(&c.writable))
        };
        // A frame that fills every byte there was is one that was cut, unless it is as long as frames get.
        if bytes >= room && room < self.wanted || bytes <= u64::from(net::HEADER_BYTES) {
            NetCounters::count(&host.counters.receive_dropped);
            return Ok(false);
        }
        let mut count = 0;
        let mut covered = 0;
        for chain in &self.buffers {
            count += 1;
            covered += Chain::total(&chain.writable);
            if covered >= bytes {
                break;
            }
        }
        if let Some(first) = self.buffers.front() {
            net::set_num_buffers(host.mem, first, count);
        }
        let mut left = bytes;
        for _ in 0..count {
            let Some(chain) = self.buffers.pop_front() else {
                break;
            };
            let len = Chain::total(&chain.writable);
            let filled = left.min(len);
            left -= filled;
            self.room -= len;
            self.queue.add_used(
                host.mem,
                chain.head,
                u32::try_from(filled).unwrap_or(u32::MAX),
            )?;
            self.spare.push(chain);
        }
        NetCounters::count(&host.counters.received);
        Ok(true)
    }
}
