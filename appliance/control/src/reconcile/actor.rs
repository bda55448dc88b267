//! The one task that owns an instance's state.
//!
//! ```text
//!           ┌────────────────────── look again ◄─────────────────┐
//!           ▼                                                    │
//!  read the record ──► plan ──► Do(steps) ── each in turn ───────┤
//!           ▲            ├───► Steady, Wait ──► sleep ──► event, wake-up, timer
//!           │            └───► (no record) ──► end               │
//!           └────────────────────────────────────────────────────┘
//! ```
//!
//! A step that fails is tried again later, each time twice as late.

use crate::{
    Result, charged,
    core::{Core, Transaction, blocking},
    model::{
        Disk, DiskCategory, DiskState, EventSubject, Instance, Intent, StopReason, StoppedMode,
    },
    ports::{MachineEvent, MachineEventKind, MachineExit, PortErrorKind},
    reconcile::{
        Found, Instances, Networks, credits,
        disks::disk_usage,
        plan::{Observed, Plan, Step, plan},
        release,
        start::{self, Started},
    },
    use_cases::{begin_start, meters, put_instance},
};
use instance::Change;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use types::{DiskId, InstanceId};

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);
/// A run shorter than this counts towards a guest that keeps resetting.
const SHORT_RUN: Duration = Duration::from_secs(10);
/// Plans carried out in a row before the timer gets a turn.
const MAX_ROUNDS: usize = 32;

pub(crate) struct Actor {
    core: Arc<Core>,
    networks: Arc<Networks>,
    instances: Arc<Instances>,
    id: InstanceId,
    observed: Observed,
    /// What the last start took, until it is recorded.
    started: Option<Started>,
    /// When the guest's first byte came, and in which run.
    first_output: Option<(u64, u64)>,
    short_runs: u32,
    run_began: Option<Instant>,
    failures: u32,
    inbox: mpsc::Receiver<MachineEvent>,
    wake: Arc<Notify>,
}

enum Next {
    /// The instance is no more.
    Gone,
    /// Look again then.
    At(Instant),
}

impl Actor {
    pub(crate) fn new(
        core: Arc<Core>,
        networks: Arc<Networks>,
        instances: Arc<Instances>,
        id: InstanceId,
        found: Found,
        inbox: mpsc::Receiver<MachineEvent>,
        wake: Arc<Notify>,
    ) -> Self {
        let (machine, exit) = match found {
            Found::Machine(machine) => (Some(machine), None),
            Found::Ended(exit) => (None, Some(exit)),
            Found::Nothing => (None, None),
        };
        let first_output = machine
            .as_ref()
            .and_then(|machine| Some((machine.run, machine.first_output_ns?)));
        Self {
            core,
            networks,
            instances,
            id,
            observed: Observed {
                machine,
                exit,
                ..Observed::default()
            },
            started: None,
            first_output,
            short_runs: 0,
            run_began: None,
            failures: 0,
            inbox,
            wake,
        }
    }

    pub(crate) async fn run(mut self, end: CancellationToken) {
        if self.first_output.is_some() {
            self.record_first_output().await;
        }
        loop {
            let at = match self.converge().await {
                Next::Gone => break,
                Next::At(at) => at,
            };
            tokio::select! {
                biased;
                () = end.cancelled() => break,
                Some(event) = self.inbox.recv() => self.observe(event).await,
                () = self.wake.notified() => {}
                () = sleep_until(at) => {}
            }
        }
        self.instances.gone(self.id);
    }

    async fn converge(&mut self) -> Next {
        for _ in 0..MAX_ROUNDS {
            while let Ok(event) = self.inbox.try_recv() {
                self.observe(event).await;
            }
            let instance = match self.core.get::<Instance>(&self.id) {
                Ok(Some(instance)) => instance,
                Ok(None) => return Next::Gone,
                Err(error) => return self.retry(&error),
            };
            let now = Instant::now();
            match plan(
                &instance,
                &self.observed,
                self.core.settings.stop_grace,
                now,
            ) {
                Plan::Steady => return Next::At(now + self.core.settings.reconcile_interval),
                Plan::Wait(until) => return Next::At(until),
                Plan::Do(steps) => {
                    for step in steps {
                        if let Err(error) = self.carry_out(&step, &instance).await {
                            tracing::warn!(instance = %self.id, ?step, "{error}");
                            return self.retry(&error);
                        }
                    }
                    self.failures = 0;
                }
            }
        }
        Next::At(Instant::now() + FIRST_RETRY)
    }

    fn retry(&mut self, error: &crate::ControlError) -> Next {
        let delay = FIRST_RETRY
            .saturating_mul(1 << self.failures.min(10))
            .min(LAST_RETRY);
        self.failures = self.failures.saturating_add(1);
        tracing::debug!(instance = %self.id, ?delay, "trying again: {error}");
        Next::At(Instant::now() + delay)
    }

    async fn observe(&mut self, event: MachineEvent) {
        match event.kind {
            MachineEventKind::FirstOutput { at_ns } => {
                self.first_output = Some((event.run, at_ns));
                // While the start is not recorded, it is recorded with it.
                if self.started.is_none() {
                    self.record_first_output().await;
                }
            }
            MachineEventKind::Exited(exit) => {
                if self
                    .observed
                    .machine
                    .as_ref()
                    .is_some_and(|machine| machine.run == event.run)
                {
                    self.ended(exit);
                }
            }
        }
    }

    fn ended(&mut self, exit: MachineExit) {
        tracing::info!(instance = %self.id, ?exit, "machine ended");
        self.observed.machine = None;
        self.observed.pressed_at = None;
        let short = self
            .run_began
            .is_some_and(|began| began.elapsed() < SHORT_RUN);
        self.short_runs = if short {
            self.short_runs.saturating_add(1)
        } else {
            0
        };
        // The first reset is followed at once, a guest that does nothing else ever more slowly.
        let delay = Duration::from_millis(100)
            .saturating_mul(1 << self.short_runs.min(9))
            .min(LAST_RETRY);
        self.observed.not_before = (self.short_runs > 1).then(|| Instant::now() + delay);
        self.observed.exit = Some(exit);
    }

    async fn carry_out(&mut self, step: &Step, instance: &Instance) -> Result<()> {
        match step {
            Step::Start => self.start(instance.clone()).await,
            Step::Reset => self.reset().await,
            Step::RecordUp => self.record_up().await,
            Step::PressPowerButton => {
                let pressed = self.core.ports.machines.power_button(self.id).await;
                self.observed.pressed_at = Some(Instant::now());
                match pressed {
                    // It is just ending: its event is on the way.
                    Err(error) if error.kind == PortErrorKind::NotFound => Ok(()),
                    // A machine that cannot be asked is taken away after the grace period all the same.
                    Err(error) => {
                        tracing::warn!(instance = %self.id, "power button: {}", error.chain());
                        Ok(())
                    }
                    Ok(()) => Ok(()),
                }
            }
            Step::Kill => {
                self.core.ports.machines.kill(self.id).await?;
                self.ended(MachineExit::Killed);
                Ok(())
            }
            Step::Detach => self.networks.detach(instance.vpc, instance.interface).await,
            Step::RecordExit(reason) => self.record_exit(reason.clone()).await,
            Step::Release => release::release(&self.core, instance).await,
        }
    }

    async fn start(&mut self, instance: Instance) -> Result<()> {
        self.observed.exit = None;
        self.observed.pressed_at = None;
        match start::start(&self.core, &self.networks, instance).await {
            Ok(started) => {
                self.observed.machine = Some(started.machine.clone());
                self.run_began = Some(Instant::now());
                self.started = Some(started);
            }
            Err(error) => {
                tracing::warn!(instance = %self.id, "cannot be started: {}", error.chain());
                self.observed.start_failure = Some(error.chain());
            }
        }
        Ok(())
    }

    /// The guest reset: the next run begins where the last one ended.
    async fn reset(&mut self) -> Result<()> {
        let (id, requested_ns) = (self.id, self.core.ports.clock.monotonic_ns());
        let begin = move |transaction: &mut Transaction<'_>| {
            let Some(mut instance) = transaction.get::<Instance>(&id)? else {
                return Ok(None);
            };
            instance.run += 1;
            instance.requested_ns = requested_ns;
            instance.timings = crate::model::Timings::default();
            instance.vmm_pid = None;
            put_instance(transaction, &mut instance)?;
            Ok(Some(instance))
        };
        if let Some(instance) = self.core.write(begin).await? {
            self.start(instance).await?;
            if self.observed.machine.is_some() {
                self.record_up().await?;
            }
        }
        Ok(())
    }

    /// Notes that the machine runs: state, disks, use and timings in one transaction.
    async fn record_up(&mut self) -> Result<()> {
        let Some(machine) = self.observed.machine.clone() else {
            return Ok(());
        };
        let started = self.started.clone();
        if let Some(started) = &started {
            sync(&self.core, started.new_disks.clone()).await?;
        }
        let id = self.id;
        let first_output_ns = self
            .first_output
            .and_then(|(run, at_ns)| (run == machine.run).then_some(at_ns));
        let up = move |transaction: &mut Transaction<'_>| {
            let Some(mut instance) = transaction.get::<Instance>(&id)? else {
                return Ok(());
            };
            let now = transaction.core().now();
            if let Some(state) = instance.state.after(Change::Up) {
                instance.state = state;
                instance.started_at = Some(now);
            }
            instance.run = machine.run;
            instance.vmm_pid = Some(machine.pid);
            if let Some(started) = started {
                instance.timings = started.timings;
            }
            instance.timings.first_output_ns =
                first_output_ns.map(|at_ns| at_ns.saturating_sub(instance.requested_ns));
            charged::follow(transaction, &instance)?;
            meters::instance_runs(transaction, &id.to_string(), true)?;
            attach(transaction, &instance)?;
            put_instance(transaction, &mut instance)?;
            if first_output_ns.is_some() {
                transaction.event(
                    EventSubject::FirstOutput(id),
                    format!("instance {id} writes to its console"),
                );
            }
            Ok(())
        };
        self.core.write(up).await?;
        self.started = None;
        Ok(())
    }

    async fn record_first_output(&mut self) {
        let Some((run, at_ns)) = self.first_output else {
            return;
        };
        let id = self.id;
        let note = move |transaction: &mut Transaction<'_>| {
            let Some(mut instance) = transaction.get::<Instance>(&id)? else {
                return Ok(());
            };
            if instance.run == run && instance.timings.first_output_ns.is_none() {
                instance.timings.first_output_ns =
                    Some(at_ns.saturating_sub(instance.requested_ns));
                instance.generation += 1;
                transaction.put(&instance)?;
                transaction.event(
                    EventSubject::FirstOutput(id),
                    format!("instance {id} writes to its console"),
                );
            }
            Ok(())
        };
        // Not worth waiting for the disk: the next change takes it along.
        if let Err(error) = self.core.write_volatile(note).await {
            tracing::warn!(instance = %id, "the time of its first output is lost: {error}");
        }
    }

    /// Notes that the machine is gone, and has a reboot go on with a start.
    async fn record_exit(&mut self, reason: StopReason) -> Result<()> {
        let (id, requested_ns) = (self.id, self.core.ports.clock.monotonic_ns());
        // A machine may have ended before anybody noted that it ran: its disks are there all the same.
        let had_machine = self.observed.exit.is_some();
        if let Some(started) = &self.started {
            sync(&self.core, started.new_disks.clone()).await?;
        }
        let exit = move |transaction: &mut Transaction<'_>| {
            let Some(mut instance) = transaction.get::<Instance>(&id)? else {
                return Ok(());
            };
            if had_machine {
                attach(transaction, &instance)?;
            }
            if let Some(state) = instance.state.after(Change::Exit) {
                instance.state = state;
                let never_ran = matches!(reason, StopReason::StartFailed { .. });
                let asked_to_run = instance.intent == Intent::Running;
                if never_ran || asked_to_run && reason.is_the_hosts() {
                    // Nobody pays for what the host broke off.
                    instance.stopped_mode = instance.stopped_by_host();
                } else if asked_to_run {
                    let mode = instance.stopped_mode_for(StoppedMode::KeepCharging);
                    instance.stopped_mode = mode;
                }
                instance.stop_reason = Some(reason);
                instance.stopped_at = Some(transaction.core().now());
            }
            instance.vmm_pid = None;
            meters::instance_runs(transaction, &id.to_string(), false)?;
            let restart = instance.restart && instance.intent != Intent::Released;
            if instance.intent != Intent::Released {
                instance.intent = Intent::Stopped;
            }
            put_instance(transaction, &mut instance)?;
            match restart {
                true => begin_start(transaction, &mut instance, requested_ns),
                false => charged::follow(transaction, &instance),
            }
        };
        self.core.write(exit).await?;
        self.observed = Observed::default();
        self.started = None;
        credits::ended(&self.core);
        self.instances.stopped().notify_one();
        Ok(())
    }
}

/// Puts disks that were just made on stable storage.
async fn sync(core: &Arc<Core>, disks: Vec<(DiskId, DiskCategory)>) -> Result<()> {
    if disks.is_empty() {
        return Ok(());
    }
    let volumes = core.ports.volumes.clone();
    blocking(move || {
        disks
            .into_iter()
            .try_for_each(|(disk, category)| volumes.sync_disk(disk, category))
    })
    .await??;
    Ok(())
}

/// Notes that the disks of an instance are there and in use.
fn attach(transaction: &mut Transaction<'_>, instance: &Instance) -> Result<()> {
    let mut disks = instance.system_disk.iter().chain(&instance.data_disks);
    disks.try_for_each(|disk| attach_disk(transaction, *disk))
}

fn attach_disk(transaction: &mut Transaction<'_>, id: DiskId) -> Result<()> {
    let Some(mut disk) = transaction.get::<Disk>(&id)? else {
        return Ok(());
    };
    let changed = disk.state != DiskState::InUse || !disk.allocated;
    disk.state = DiskState::InUse;
    disk.allocated = true;
    if !disk.prepaid {
        transaction.open_usage(disk_usage(&disk));
    }
    if changed {
        transaction.put(&disk)?;
        transaction.event(
            EventSubject::Disk(id, Some(disk.state)),
            format!("disk {id} is in use"),
        );
    }
    Ok(())
}
