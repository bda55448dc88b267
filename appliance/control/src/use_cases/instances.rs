//! Instances, once they are made.

use crate::{
    Control, ControlError, ErrorKind, Result, charged,
    commands::{InstanceFilter, ModifyInstance},
    core::{Transaction, sentence, to_the_end},
    model::{
        Console, Disk, EventSubject, FinancialLock, Instance, Intent, Stage, State, StoppedMode,
        Timings,
    },
    placing::{self, Hosts, Wanted},
    ports::PortErrorKind,
    records::SubscriptionRecord,
    site::Site,
    use_cases::{check_names, meters, oldest_first},
};
use bytes::Bytes;
use futures_util::{Stream, stream};
use instance::{Change, IncorrectStatus, Operation, admission::check_tags};
use placement::NoStock;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use types::InstanceId;

/// The most console output one call gives.
const MAX_CONSOLE_CHUNK: usize = 1 << 20;
/// How long a follower waits for output before it looks whether the instance is still there.
const CONSOLE_WAIT: Duration = Duration::from_secs(5);

impl Control {
    /// The instance of that id (`InvalidInstanceId.NotFound`).
    pub async fn instance(&self, id: InstanceId) -> Result<Instance> {
        self.core().get(&id)?.ok_or_else(|| unknown(id))
    }

    /// The instances the filter lets through, oldest first (ECS DescribeInstances).
    pub async fn instances(&self, filter: &InstanceFilter) -> Result<Vec<Instance>> {
        let all = self.core().all::<Instance>();
        let asked = all
            .values()
            .filter(|instance| lets_through(filter, instance));
        let mut instances: Vec<Instance> = asked.map(|instance| (**instance).clone()).collect();
        oldest_first(&mut instances, |instance| {
            (instance.created_at, instance.id)
        });
        Ok(instances)
    }

    /// Waits until the instance is in one of `states`, or `timeout` is over (`Timeout`), or it is released (`NotFound`).
    pub async fn wait_for_instance(
        &self,
        id: InstanceId,
        states: &[State],
        timeout: Duration,
    ) -> Result<Instance> {
        let mut events = self.subscribe();
        let reached = async {
            loop {
                let instance = self.instance(id).await?;
                if states.contains(&instance.state) {
                    return Ok(instance);
                }
                loop {
                    match events.recv().await {
                        Ok(event) if matches!(event.subject, EventSubject::Instance(of, _) if of == id) =>
                        {
                            break;
                        }
                        Ok(_) => {}
                        Err(RecvError::Lagged(_)) => break,
                        Err(RecvError::Closed) => return Err(shutting_down()),
                    }
                }
            }
        };
        match tokio::time::timeout(timeout, reached).await {
            Ok(instance) => instance,
            Err(_) => {
                let state = self.instance(id).await?.state;
                let names: Vec<&str> = states.iter().map(|state| state.name()).collect();
                let message = format!(
                    "Instance {id} is still {state} after {timeout:?}, not {}.",
                    names.join(" or ")
                );
                Err(ControlError::new(ErrorKind::Timeout, "Timeout", message)
                    .with_next_step("Wait longer, or read the instance's console."))
            }
        }
    }

    /// Starts a stopped instance (ECS StartInstance). `received_ns`: when the request came in, see
    /// [`Control::monotonic_ns`].
    pub async fn start_instance(
        &self,
        id: InstanceId,
        received_ns: Option<u64>,
    ) -> Result<Instance> {
        let received_ns = received_ns.unwrap_or_else(|| self.monotonic_ns());
        let start = move |transaction: &mut Transaction<'_>| {
            let mut instance = transaction
                .get::<Instance>(&id)?
                .ok_or_else(|| unknown(id))?;
            permit(&instance, Operation::Start)?;
            let started = start_again(transaction, &mut instance, received_ns)?;
            Ok(started.map(|()| instance))
        };
        let (core, instances) = (self.core().clone(), self.inner.instances.clone());
        to_the_end(async move {
            let started: std::result::Result<Instance, NoStock> = core.write(start).await?;
            let instance = started.map_err(|refusal| placing::no_stock(&refusal))?;
            instances.look_after(id);
            Ok(instance)
        })
        .await
    }

    /// Stops an instance (ECS StopInstance): presses the power button and gives the guest the grace period; with
    /// `force`, or after it, takes the machine away. `mode`: what it keeps then; `None`: [`StoppedMode::KeepCharging`], or what was asked
    /// for if it is stopping. What is paid for in advance keeps what is paid for, and what must not run keeps nothing.
    ///
    /// One that is stopped and keeps its virtual CPUs and memory gives them up when it is stopped with [`StoppedMode::StopCharging`].
    pub async fn stop_instance(
        &self,
        id: InstanceId,
        force: bool,
        mode: Option<StoppedMode>,
    ) -> Result<Instance> {
        let stop = move |transaction: &mut Transaction<'_>, instance: &mut Instance| {
            let gives_up = mode == Some(StoppedMode::StopCharging)
                && instance.stopped_mode == StoppedMode::KeepCharging
                && instance.stopped_mode_for(StoppedMode::StopCharging)
                    == StoppedMode::StopCharging;
            if instance.state == State::Stopped && instance.intent == Intent::Stopped && gives_up {
                return give_up_room(transaction, instance);
            }
            permit(instance, Operation::Stop { force })?;
            let before = (instance.state == State::Stopping).then_some(instance.stopped_mode);
            let asked = mode.or(before).unwrap_or(StoppedMode::KeepCharging);
            begin_stop(instance, force, asked);
            Ok(())
        };
        self.change_instance(id, stop).await
    }

    /// Stops a running instance and starts it again (ECS RebootInstance).
    pub async fn reboot_instance(&self, id: InstanceId, force: bool) -> Result<Instance> {
        let reboot = move |_: &mut Transaction<'_>, instance: &mut Instance| {
            permit(instance, Operation::Reboot)?;
            begin_stop(instance, force, StoppedMode::KeepCharging);
            instance.restart = true;
            Ok(())
        };
        self.change_instance(id, reboot).await
    }

    /// Releases an instance (ECS DeleteInstance): a stopped one, or with `force` any. Disks with delete-with-instance
    /// go with it, the others become Available. Answers when that is on stable storage; it is gone when `instance`
    /// says `NotFound`.
    pub async fn delete_instance(&self, id: InstanceId, force: bool) -> Result<()> {
        let release = move |transaction: &mut Transaction<'_>| {
            let mut instance = transaction
                .get::<Instance>(&id)?
                .ok_or_else(|| unknown(id))?;
            if instance.intent == Intent::Released {
                return Ok(());
            }
            if instance.deletion_protection {
                let message = format!("Instance {id} is protected from release.");
                return Err(ControlError::new(
                    ErrorKind::Denied,
                    "InvalidOperation.DeletionProtection",
                    message,
                )
                .with_next_step("Take its deletion protection away first."));
            }
            permit(&instance, Operation::Release { force })?;
            check_paid(transaction, &instance)?;
            begin_release(transaction, &mut instance)
        };
        let (core, instances) = (self.core().clone(), self.inner.instances.clone());
        to_the_end(async move {
            core.write(release).await?;
            instances.look_after(id);
            Ok(())
        })
        .await
    }

    /// Changes attributes (ECS ModifyInstanceAttribute).
    pub async fn modify_instance(
        &self,
        id: InstanceId,
        change: ModifyInstance,
    ) -> Result<Instance> {
        check_names(change.name.as_deref(), change.description.as_deref())?;
        change
            .tags
            .as_ref()
            .map(|tags| check_tags(tags.iter()))
            .transpose()?;
        let modify = move |transaction: &mut Transaction<'_>| {
            let mut instance = transaction
                .get::<Instance>(&id)?
                .ok_or_else(|| unknown(id))?;
            instance.name = change.name.or(instance.name);
            instance.description = change.description.or(instance.description);
            instance.deletion_protection = change
                .deletion_protection
                .unwrap_or(instance.deletion_protection);
            instance.tags = change.tags.unwrap_or(instance.tags);
            instance.generation += 1;
            transaction.put(&instance)?;
            if instance.intent != Intent::Released {
                meters::follow_policy(transaction, &instance)?;
            }
            Ok(instance)
        };
        self.core().write(modify).await
    }

    /// At most `max` bytes of console output from `offset` on (ECS GetInstanceConsoleOutput). Empty at the end.
    pub async fn console(&self, id: InstanceId, offset: u64, max: usize) -> Result<Console> {
        self.instance(id).await?;
        self.console_wait(id, offset, max, Duration::ZERO).await
    }

    /// Console output from `offset` on as it comes, over stops and starts, until the instance is released.
    pub fn follow_console(
        &self,
        id: InstanceId,
        offset: u64,
    ) -> impl Stream<Item = Result<Console>> + Send + use<> {
        let control = self.clone();
        stream::unfold(Some(offset), move |offset| {
            let control = control.clone();
            async move {
                let offset = offset?;
                loop {
                    match control.instance(id).await {
                        Ok(_) => {}
                        Err(error) if error.kind() == ErrorKind::NotFound => return None,
                        Err(error) => return Some((Err(error), None)),
                    }
                    match control
                        .console_wait(id, offset, MAX_CONSOLE_CHUNK, CONSOLE_WAIT)
                        .await
                    {
                        Ok(console) if console.data.is_empty() => {}
                        Ok(console) => {
                            let next = console.next();
                            return Some((Ok(console), Some(next)));
                        }
                        Err(error) => return Some((Err(error), None)),
                    }
                }
            }
        })
    }

    async fn console_wait(
        &self,
        id: InstanceId,
        offset: u64,
        max: usize,
        wait: Duration,
    ) -> Result<Console> {
        let machines = &self.core().ports.machines;
        match machines
            .console_output(id, offset, max.min(MAX_CONSOLE_CHUNK), wait)
            .await
        {
            Ok(output) => Ok(Console {
                offset: output.offset,
                data: output.data,
            }),
            // No machine yet, so no output either.
            Err(error) if error.kind == PortErrorKind::NotFound => {
                tokio::time::sleep(wait.min(Duration::from_millis(200))).await;
                Ok(Console {
                    offset,
                    data: Bytes::new(),
                })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Types into the console of an instance that has its machine, also where it is not recorded yet that it runs.
    pub async fn console_input(&self, id: InstanceId, data: Bytes) -> Result<()> {
        let instance = self.instance(id).await?;
        let typed = self.core().ports.machines.console_input(id, data).await;
        if let Err(error) = &typed
            && error.kind == PortErrorKind::NotFound
        {
            // There is no machine: what the instance does instead is the better answer.
            permit(&instance, Operation::ConsoleInput)?;
        }
        Ok(typed?)
    }

    /// Writes what is intended for an instance, and wakes who leads it there.
    async fn change_instance(
        &self,
        id: InstanceId,
        change: impl FnOnce(&mut Transaction<'_>, &mut Instance) -> Result<()> + Send + 'static,
    ) -> Result<Instance> {
        let write = move |transaction: &mut Transaction<'_>| {
            let mut instance = transaction
                .get::<Instance>(&id)?
                .ok_or_else(|| unknown(id))?;
            change(transaction, &mut instance)?;
            put(transaction, &mut instance)?;
            Ok(instance)
        };
        let (core, instances) = (self.core().clone(), self.inner.instances.clone());
        to_the_end(async move {
            let instance = core.write(write).await?;
            instances.look_after(id);
            Ok(instance)
        })
        .await
    }
}

/// Has a stopped instance start: with the room it kept, or placed anew if a host has some for it.
pub(crate) fn start_again(
    transaction: &mut Transaction<'_>,
    instance: &mut Instance,
    requested_ns: u64,
) -> Result<std::result::Result<(), NoStock>> {
    if !instance.holds_capacity()
        && let Err(refusal) = place_again(transaction, instance)?
    {
        return Ok(Err(refusal));
    }
    begin_start(transaction, instance, requested_ns)?;
    Ok(Ok(()))
}

/// Has a stopped instance whose room was given up have some again, if a host has it; whether one has.
pub(crate) fn take_room(
    transaction: &mut Transaction<'_>,
    instance: &mut Instance,
) -> Result<bool> {
    let placed = place_again(transaction, instance)?.is_ok();
    if placed {
        instance.stopped_mode = instance.stopped_mode_for(StoppedMode::KeepCharging);
    }
    Ok(placed)
}

/// Finds room for an instance that has none. Its local disks that are there it has already.
fn place_again(
    transaction: &mut Transaction<'_>,
    instance: &mut Instance,
) -> Result<std::result::Result<(), NoStock>> {
    let disks = transaction.all::<Disk>();
    let missing = instance.data_disks.iter().filter_map(|id| disks.get(id));
    let missing = missing.filter(|disk| disk.category.is_local() && !disk.allocated);
    let local_disk = missing.map(|disk| disk.size).sum();
    let site = Site::again(transaction, instance)?;
    let wanted = Wanted {
        instance: instance.id,
        instance_type: instance.instance_type.clone(),
        vcpus: instance.vcpus,
        memory: instance.memory,
        local_disk,
        spot: instance.charge.lease().is_some(),
        site: &site,
    };
    let (decided, inputs) = Hosts::new(transaction)?.place(transaction.core(), wanted);
    let decision = match decided {
        Ok(decision) => decision,
        Err(refusal) => {
            placing::record(transaction, &refusal.decision, inputs)?;
            return Ok(Err(refusal));
        }
    };
    placing::record(transaction, &decision, inputs)?;
    instance.decision = decision.id;
    Ok(Ok(()))
}

/// Makes a stopped instance one that starts.
pub(crate) fn begin_start(
    transaction: &mut Transaction<'_>,
    instance: &mut Instance,
    requested_ns: u64,
) -> Result<()> {
    if let Some(state) = instance.state.after(Change::Start) {
        instance.state = state;
    }
    instance.intent = Intent::Running;
    instance.restart = false;
    instance.stop_reason = None;
    instance.run += 1;
    instance.timings = Timings::default();
    instance.requested_ns = requested_ns;
    // A guest that powers itself off keeps what it has.
    instance.stopped_mode = instance.stopped_mode_for(StoppedMode::KeepCharging);
    charged::follow(transaction, instance)?;
    put(transaction, instance)
}

/// Makes an instance that has a machine, or is to have one, one that stops.
fn begin_stop(instance: &mut Instance, force: bool, mode: StoppedMode) {
    instance.intent = match force {
        true => Intent::StoppedByForce,
        false => Intent::Stopped,
    };
    instance.restart = false;
    instance.stopped_mode = instance.stopped_mode_for(mode);
    if let Some(state) = instance.state.after(Change::Stop) {
        instance.state = state;
    }
}

/// Has a stopped instance, or one that stops, keep its virtual CPUs and memory no longer.
pub(crate) fn give_up_room(
    transaction: &mut Transaction<'_>,
    instance: &mut Instance,
) -> Result<()> {
    instance.stopped_mode = StoppedMode::StopCharging;
    match instance.state {
        State::Stopped => charged::follow(transaction, instance),
        _ => Ok(()),
    }
}

/// Has an instance go, protected or not.
pub(crate) fn begin_release(
    transaction: &mut Transaction<'_>,
    instance: &mut Instance,
) -> Result<()> {
    if instance.intent == Intent::Released {
        return Ok(());
    }
    instance.intent = Intent::Released;
    instance.restart = false;
    match instance.state.after(Change::Stop) {
        Some(state) => instance.state = state,
        None if instance.state == State::Stopped => charged::follow(transaction, instance)?,
        None => {}
    }
    put(transaction, instance)
}

/// Keeps an instance whose state may have changed, and says so.
pub(crate) fn put(transaction: &mut Transaction<'_>, instance: &mut Instance) -> Result<()> {
    instance.generation += 1;
    transaction.put(instance)?;
    let why = instance
        .stop_reason
        .as_ref()
        .map(|reason| format!(": {reason}"))
        .unwrap_or_default();
    let keeps = match (instance.state, instance.stopped_mode) {
        (State::Stopped, StoppedMode::KeepCharging) => ", and keeps its vCPUs and memory",
        _ => "",
    };
    let message = format!("instance {} is {}{why}{keeps}", instance.id, instance.state);
    transaction.event(
        EventSubject::Instance(instance.id, Some(instance.state)),
        message,
    );
    Ok(())
}

fn unknown(id: InstanceId) -> ControlError {
    ControlError::not_found("InstanceId", "instance", &id)
}

fn shutting_down() -> ControlError {
    ControlError::new(
        ErrorKind::Internal,
        "ServiceUnavailable",
        "The daemon is shutting down.",
    )
    .with_next_step("Try again when it is back.")
}

/// Refuses to release what is paid for in advance.
fn check_paid(transaction: &Transaction<'_>, instance: &Instance) -> Result<()> {
    let Some(id) = instance.charge.subscription() else {
        return Ok(());
    };
    let record = transaction.get::<SubscriptionRecord>(&id)?;
    let Some(active) = record.filter(|record| record.subscription.stage() == Stage::Active) else {
        return Ok(());
    };
    let message = format!(
        "Instance {} is paid for by {id} until {}.",
        instance.id,
        active.subscription.expires()
    );
    Err(
        ControlError::new(ErrorKind::Denied, "ChargeTypeViolation", message)
            .with_next_step("Stop it, and have its subscription not renewed; it goes then."),
    )
}

/// Refuses to run what is not paid for, or is about to go.
fn check_lock(instance: &Instance) -> Result<()> {
    let id = instance.id;
    if let Some(notice) = instance.charge.lease().and_then(|lease| lease.notice) {
        let message = format!("Instance {id} is reclaimed at {}.", notice.reclaim_at);
        return Err(ControlError::new(
            ErrorKind::IncorrectState,
            "IncorrectInstanceStatus",
            message,
        )
        .with_next_step("Run another one."));
    }
    let (why, next_step) = match instance.lock {
        None => return Ok(()),
        Some(FinancialLock::Arrears { .. }) => (
            "its account owes",
            "Pay in what is owed: `ashlar account ls` says how much.",
        ),
        Some(FinancialLock::Expired { .. }) => {
            ("its subscription has expired", "Renew its subscription.")
        }
    };
    let message = format!("Instance {id} must not run: {why}.");
    Err(
        ControlError::new(ErrorKind::Denied, "InstanceExpiredOrInArrears", message)
            .with_next_step(next_step),
    )
}

fn permit(instance: &Instance, operation: Operation) -> Result<()> {
    if instance.intent == Intent::Released {
        let message = format!("Instance {} is being released.", instance.id);
        return Err(ControlError::new(
            ErrorKind::IncorrectState,
            "IncorrectInstanceStatus",
            message,
        ));
    }
    if matches!(operation, Operation::Start | Operation::Reboot) {
        check_lock(instance)?;
    }
    operation
        .permit(instance.state)
        .map_err(|error: IncorrectStatus| {
            let message = sentence(&format!("instance {}: {error}", instance.id));
            ControlError::new(
                ErrorKind::IncorrectState,
                "IncorrectInstanceStatus",
                message,
            )
            .with_next_step(advice(operation, instance.state))
        })
}

/// What to do when `operation` is not permitted in `state`.
fn advice(operation: Operation, state: State) -> &'static str {
    match operation {
        Operation::Release { .. } => "Stop it first, or release it with force.",
        Operation::Start if state == State::Stopping => {
            "Wait until it is Stopped, or stop it with force."
        }
        Operation::Start => "It needs no start; to run it anew, reboot it.",
        Operation::Stop { .. } if state == State::Stopping => "Wait, or stop it with force.",
        Operation::Stop { .. } => {
            "It needs no stop; to run it, start it. What keeps its vCPUs and memory can give them up: stop it with StopCharging."
        }
        Operation::Reboot | Operation::ConsoleInput => {
            "Wait until it is Running; if it is Stopped, start it."
        }
    }
}

fn lets_through(filter: &InstanceFilter, instance: &Instance) -> bool {
    (filter.ids.is_empty() || filter.ids.contains(&instance.id))
        && (filter.states.is_empty() || filter.states.contains(&instance.state))
        && (filter.name.is_none() || instance.name == filter.name)
        && filter.image.is_none_or(|image| instance.image == image)
        && filter.vpc.is_none_or(|vpc| instance.vpc == vpc)
        && filter
            .vswitch
            .is_none_or(|vswitch| instance.vswitch == vswitch)
        && filter
            .security_group
            .is_none_or(|group| instance.security_groups.contains(&group))
        && filter
            .deployment_set
            .is_none_or(|set| instance.deployment_set == Some(set))
        && filter
            .tags
            .iter()
            .all(|(key, value)| instance.tags.get(key) == Some(value))
}
