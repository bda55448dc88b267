//! What to do next about an instance: a pure function of what is intended and what is seen.

use crate::{
    model::{Instance, Intent, State, StopReason},
    ports::{Machine, MachineExit},
};
use std::time::Duration;
use tokio::time::Instant;

/// What is known of an instance's machine that its record does not say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed {
    /// The machine, while there is one.
    pub(crate) machine: Option<Machine>,
    /// How the last machine ended, until that is recorded.
    pub(crate) exit: Option<MachineExit>,
    /// Why no machine could be started, until that is recorded.
    pub(crate) start_failure: Option<String>,
    /// When the power button was pressed.
    pub(crate) pressed_at: Option<Instant>,
    /// When a machine may be started again whose guest keeps resetting.
    pub(crate) not_before: Option<Instant>,
}

/// One step. Each is idempotent: one that failed is planned again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Prepare disks and interface and start a machine.
    Start,
    /// Start a machine in place of the one whose guest reset it.
    Reset,
    /// Note that it runs.
    RecordUp,
    /// Ask the guest to power off.
    PressPowerButton,
    /// Take the machine away.
    Kill,
    /// Take its interface off the network.
    Detach,
    /// Note that it has stopped.
    RecordExit(StopReason),
    /// Remove everything that goes with it, and its record.
    Release,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Everything is as it should be.
    Steady,
    /// Nothing, until then or until something happens.
    Wait(Instant),
    /// These, in this order; then look again.
    Do(Vec<Step>),
}

pub(crate) fn plan(
    instance: &Instance,
    observed: &Observed,
    grace: Duration,
    now: Instant,
) -> Plan {
    match &observed.machine {
        Some(_) => with_machine(instance, observed, grace, now),
        None => without_machine(instance, observed, now),
    }
}

fn with_machine(instance: &Instance, observed: &Observed, grace: Duration, now: Instant) -> Plan {
    match (instance.intent, instance.state) {
        (Intent::Running, State::Pending | State::Starting) => Plan::Do(vec![Step::RecordUp]),
        (Intent::Running, State::Running) => Plan::Steady,
        // A machine of an instance that is to have none.
        (Intent::Running, State::Stopping | State::Stopped)
        | (Intent::Stopped, State::Stopped)
        | (Intent::StoppedByForce | Intent::Released, _) => Plan::Do(vec![Step::Kill]),
        (Intent::Stopped, _) => match observed.pressed_at.map(|pressed_at| pressed_at + grace) {
            None => Plan::Do(vec![Step::PressPowerButton]),
            Some(deadline) if deadline <= now => Plan::Do(vec![Step::Kill]),
            Some(deadline) => Plan::Wait(deadline),
        },
    }
}

fn without_machine(instance: &Instance, observed: &Observed, now: Instant) -> Plan {
    let stopped = |reason| Plan::Do(vec![Step::Detach, Step::RecordExit(reason)]);
    if instance.intent == Intent::Released {
        return Plan::Do(vec![Step::Detach, Step::Release]);
    }
    if instance.state == State::Stopped {
        return Plan::Steady;
    }
    if let Some(message) = &observed.start_failure {
        return stopped(StopReason::StartFailed {
            message: message.clone(),
        });
    }
    match (instance.intent, &observed.exit) {
        (Intent::Running, Some(MachineExit::Reset)) => match observed.not_before {
            Some(not_before) if not_before > now => Plan::Wait(not_before),
            _ => Plan::Do(vec![Step::Reset]),
        },
        (Intent::Running, None) if instance.state != State::Running => Plan::Do(vec![Step::Start]),
        (intent, exit) => stopped(reason(intent, exit.as_ref())),
    }
}

/// Why an instance is stopped whose machine ended so.
fn reason(intent: Intent, exit: Option<&MachineExit>) -> StopReason {
    match (intent, exit) {
        (Intent::Running, None) => StopReason::Vanished,
        (Intent::Running, Some(MachineExit::PowerOff)) => StopReason::GuestPowerOff,
        (Intent::StoppedByForce, None) | (_, Some(MachineExit::Killed)) => StopReason::Forced,
        // Whatever the guest did when it was asked to stop, it did stop.
        (_, None | Some(MachineExit::PowerOff | MachineExit::Reset)) => StopReason::Requested,
        (_, Some(MachineExit::Crash)) => StopReason::GuestCrash,
        (_, Some(MachineExit::Signal(signal))) => StopReason::VmmKilled { signal: *signal },
        (_, Some(MachineExit::Failed(message))) => StopReason::VmmFailed {
            message: message.clone(),
        },
    }
}
