//! The block device's thread: requests from the queues to the disk, completions back.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use block::{BlockDevice as _, Completion, ErrorKind, IoChannel as _, Operation, Outcome, Token};
use block_uring::{Counters, Events, UringChannel, UringDisk, WatchKey};
use virtio::blk::{self, BlkConfig, Command as Request, Status};
use virtio::{Activation, Chain, Interrupts, QueueError, ResetDone, Virtqueue};
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::EventFd;

use super::worker::{Command, Mailbox};

/// The watch that stands for the mailbox; queues are watched by their index.
const MAILBOX: WatchKey = WatchKey::MAX;
/// How long at most the thread of a busy disk looks around before it sleeps: about what a sleep and a wake-up cost.
const LOOKING: Duration = Duration::from_micros(20);

/// A queue being served.
struct Served {
    index: u16,
    queue: Virtqueue,
    /// It may hold chains that no kick will tell of.
    ready: bool,
    /// It was served to its end and its driver does not kick.
    unkicked: bool,
    /// Something was returned since the driver was last told.
    used: bool,
}

/// A request at the disk; its token is its place in the table.
#[derive(Clone, Copy)]
struct Pending {
    queue: usize,
    request: blk::Request,
}

pub(crate) struct Server {
    channel: UringChannel,
    memory: GuestMemoryMmap,
    config: BlkConfig,
    writeback: Arc<AtomicBool>,
    mailbox: Arc<Mailbox>,
    counters: Arc<Counters>,
    features: u64,
    interrupts: Option<Interrupts>,
    queues: Vec<Served>,
    pending: Vec<Option<Pending>>,
    free: Vec<usize>,
    /// A reset that waits for what is in flight.
    draining: Option<ResetDone>,
    chain: Chain,
    segments: Vec<block::Segment>,
}

impl Server {
    /// Opens the disk's channel; called on the thread that will run the server.
    pub(crate) fn new(
        disk: &UringDisk,
        config: BlkConfig,
        writeback: Arc<AtomicBool>,
        kicks: &[Arc<EventFd>],
        mailbox: Arc<Mailbox>,
    ) -> io::Result<Self> {
        let mut channel = disk.open_channel()?;
        channel.watch(MAILBOX, Arc::clone(&mailbox.bell))?;
        for (index, kick) in (0..).zip(kicks) {
            channel.watch(index, Arc::clone(kick))?;
        }
        let capacity = channel.capacity();
        Ok(Server {
            memory: disk.memory().clone(),
            channel,
            config,
            writeback,
            mailbox,
            counters: disk.counters(),
            features: 0,
            interrupts: None,
            queues: Vec::new(),
            pending: vec![None; capacity],
            free: (0..capacity).rev().collect(),
            draining: None,
            chain: Chain::default(),
            segments: Vec::new(),
        })
    }

    /// Serves until told to stop; what is in flight then is waited for by the channel's drop.
    pub(crate) fn run(mut self) {
        let mut events = Events::default();
        loop {
            // With work left over, or found by looking around, only a look, else a sleep.
            let waited = if self.has_work() || self.look_around() {
                self.channel.poll_events(&mut events)
            } else {
                self.channel.wait_events(&mut events)
            };
            if waited.is_err() {
                self.fail();
                return;
            }
            for key in &events.kicks {
                if *key == MAILBOX {
                    if self.commands() == Flow::Stop {
                        return;
                    }
                } else if let Some(served) =
                    self.queues.iter_mut().find(|s| u32::from(s.index) == *key)
                {
                    self.counters.kick();
                    served.ready = true;
                }
            }
            if self.round(&events.completions).is_err() {
                self.fail();
            }
            self.finish_reset();
        }
    }

    /// While the disk is busy, the next thing mostly comes sooner than a sleep would end: looks for it for a moment, so that
    /// the driver needs no kick and this thread no wake-up. Before a sleep kicks are wanted again; `true` means that there
    /// is something to do instead.
    fn look_around(&mut self) -> bool {
        if self.channel.in_flight() > 1 && !self.free.is_empty() {
            let end = Instant::now() + LOOKING;
            while Instant::now() < end {
                let mut found = self.channel.has_events();
                for served in &mut self.queues {
                    served.ready |= served.queue.has_offers(&self.memory);
                    found |= served.ready;
                }
                if found {
                    return true;
                }
                std::hint::spin_loop();
            }
        }
        for served in self.queues.iter_mut().filter(|served| served.unkicked) {
            served.unkicked = false;
            // A corrupt ring shows when it is served.
            served.ready |= served.queue.enable_kicks(&self.memory).unwrap_or(true);
        }
        self.has_work()
    }

    /// Whether chains wait that can be taken now.
    fn has_work(&self) -> bool {
        !self.free.is_empty() && self.queues.iter().any(|served| served.ready)
    }

    /// One turn: return what the disk has done, take what the driver offers, tell the driver once per queue.
    fn round(&mut self, completions: &[Completion]) -> Result<(), QueueError> {
        for completion in completions {
            self.complete(*completion)?;
        }
        for index in 0..self.queues.len() {
            // Awake anyway: a look now may spare the kick that is on its way.
            if self.queues[index].ready || !completions.is_empty() {
                self.serve(index)?;
            }
        }
        self.interrupt()
    }

    fn commands(&mut self) -> Flow {
        while let Some(command) = self.mailbox.take() {
            match command {
                Command::Activate(activation) => self.activate(activation),
                Command::Reset(done) => {
                    // Completions still to come find no queue and are dropped.
                    self.queues.clear();
                    self.interrupts = None;
                    self.draining = Some(done);
                }
                Command::Stop => return Flow::Stop,
            }
        }
        Flow::Continue
    }

    fn activate(&mut self, activation: Activation) {
        self.features = activation.features;
        self.interrupts = Some(activation.interrupts);
        // A kick may have come before the activation: look at once.
        let served = |active: virtio::ActiveQueue| Served {
            index: active.index,
            queue: active.queue,
            ready: true,
            unkicked: false,
            used: false,
        };
        self.queues = activation.queues.into_iter().map(served).collect();
    }

    fn finish_reset(&mut self) {
        if self.draining.is_some() && self.channel.in_flight() == 0 {
            self.draining = None;
        }
    }

    /// The rings or the ring of ours are beyond use: stop and ask for a reset.
    fn fail(&mut self) {
        self.queues.clear();
        if let Some(interrupts) = self.interrupts.take() {
            interrupts.needs_reset();
        }
    }

    /// Takes chains until there are none, the disk's channel is full, or the queue has had its turn.
    fn serve(&mut self, index: usize) -> Result<(), QueueError> {
        let mut turn = self.queues[index].queue.size();
        self.queues[index].queue.disable_kicks(&self.memory)?;
        while turn > 0 && !self.free.is_empty() {
            turn -= 1;
            let queue = &mut self.queues[index].queue;
            if queue.pop(&self.memory, &mut self.chain)? {
                self.take(index)?;
            } else {
                self.queues[index].ready = false;
                self.queues[index].unkicked = true;
                return Ok(());
            }
        }
        Ok(())
    }

    /// Hands the chain just taken to the disk, or answers it.
    fn take(&mut self, queue: usize) -> Result<(), QueueError> {
        let request = self
            .config
            .parse(&self.memory, self.features, &mut self.chain);
        let durable =
            BlkConfig::write_through(self.features, self.writeback.load(Ordering::Acquire));
        self.segments.clear();
        let data = blk::data_segments(request.command, &self.chain);
        self.segments.extend(data.iter().map(|s| block::Segment {
            address: s.address,
            len: s.len,
        }));
        let operation = match request.command {
            Request::Read { offset } => Operation::Read {
                offset,
                segments: &self.segments,
            },
            Request::Write { offset } => Operation::Write {
                offset,
                segments: &self.segments,
                durable,
            },
            Request::Flush => Operation::Flush,
            Request::Discard { offset, len } => Operation::Discard { offset, len },
            Request::WriteZeroes { offset, len, unmap } => Operation::WriteZeroes {
                offset,
                len,
                unmap,
                durable,
            },
            Request::Answer(status) => return self.answer(queue, request, status),
        };
        let Some(place) = self.free.pop() else {
            return self.answer(queue, request, Status::IoError);
        };
        let token = Token(u64::try_from(place).unwrap_or(u64::MAX));
        if self.channel.submit(token, &operation).is_err() {
            // As many places as the channel has, so this does not happen.
            self.free.push(place);
            return self.answer(queue, request, Status::IoError);
        }
        self.pending[place] = Some(Pending { queue, request });
        Ok(())
    }

    fn complete(&mut self, completion: Completion) -> Result<(), QueueError> {
        let place = usize::try_from(completion.token.0).unwrap_or(usize::MAX);
        let Some(pending) = self.pending.get_mut(place).and_then(Option::take) else {
            return Ok(());
        };
        self.free.push(place);
        if self.draining.is_some() {
            return Ok(());
        }
        let status = match completion.outcome {
            Outcome::Done => Status::Ok,
            Outcome::Failed(ErrorKind::Unsupported) => Status::Unsupported,
            Outcome::Failed(_) => Status::IoError,
        };
        self.answer(pending.queue, pending.request, status)
    }

    fn answer(
        &mut self,
        queue: usize,
        request: blk::Request,
        status: Status,
    ) -> Result<(), QueueError> {
        let Some(served) = self.queues.get_mut(queue) else {
            return Ok(());
        };
        let written = request.answer(&self.memory, status);
        served.used = true;
        served.queue.add_used(&self.memory, request.head, written)
    }

    fn interrupt(&mut self) -> Result<(), QueueError> {
        let Some(interrupts) = &self.interrupts else {
            return Ok(());
        };
        for served in self.queues.iter_mut().filter(|served| served.used) {
            served.used = false;
            if served.queue.wants_interrupt(&self.memory)? {
                self.counters.interrupt();
                interrupts.queue(served.index);
            } else {
                self.counters.suppressed_interrupt();
            }
        }
        Ok(())
    }
}

/// Whether to go on.
#[derive(PartialEq, Eq)]
enum Flow {
    Continue,
    Stop,
}
