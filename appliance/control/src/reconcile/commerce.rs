//! What is due about money: renewals and expiries, debts, preemptible instances.
//!
//! ```text
//! clock ─────► due ─► policy ─► renew │ retry │ notice      one transaction each, with its purchase and its event
//! payment ──►   │             └─► stop, release ──► intents ──► actors
//! price ────►   └─► when to look again
//! ```
//!
//! It takes no input: whatever was due while no daemon ran is done now, in its order. Everybody who changes something about money
//! wakes it.

mod arrears;
pub(crate) mod spot;
mod subscriptions;

pub(crate) use arrears::note_debt;

use crate::{
    Result,
    core::{Core, Transaction, blocking},
    model::{EventSubject, FinancialLock, Instance, Intent, State, StoppedMode},
    reconcile::Instances,
    use_cases::{give_up_room, put_instance, start_again, take_room},
};
use instance::Change;
use std::{sync::Arc, time::Duration};
use types::{InstanceId, Timestamp};

/// The longest sleep: a clock that is set is noticed by then.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Deals with what is due, whenever something is or has changed.
pub(super) async fn run(core: Arc<Core>, instances: Arc<Instances>) {
    loop {
        let wake = match core.deal(&instances).await {
            Ok(wake) => wake,
            Err(error) => {
                // Nothing is lost: it is due the next time, too.
                tracing::error!("what is due about money could not be done: {error}");
                None
            }
        };
        let sleep = wake.map_or(LONGEST_SLEEP, |wake| {
            wake.saturating_since(core.now()).min(LONGEST_SLEEP)
        });
        tokio::select! {
            () = tokio::time::sleep(sleep.max(Duration::from_millis(1))) => {}
            () = instances.commerce().notified() => {}
        }
    }
}

/// What came of it.
#[derive(Default)]
struct Dealt {
    /// For whom something else is intended now.
    touched: Vec<InstanceId>,
    /// When something is due next.
    wake: Option<Timestamp>,
}

impl Dealt {
    fn wake_at(&mut self, at: Option<Timestamp>) {
        self.wake = match (self.wake, at) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
}

impl Core {
    /// Does what is due about money, and says when something is due next.
    pub(crate) async fn deal(
        self: &Arc<Self>,
        instances: &Arc<Instances>,
    ) -> Result<Option<Timestamp>> {
        let core = self.clone();
        let (dealt, done) = blocking(move || {
            let mut dealt = Dealt::default();
            let done = core.deal_blocking(&mut dealt);
            (dealt, done)
        })
        .await?;
        for id in dealt.touched {
            instances.look_after(id);
        }
        done.map(|()| dealt.wake)
    }

    fn deal_blocking(&self, dealt: &mut Dealt) -> Result<()> {
        let now = self.now();
        self.follow_subscriptions(now, dealt)?;
        self.follow_debts(now, dealt)?;
        self.follow_leases(now, dealt)
    }
}

/// Has an instance stop without charge because it is not paid for, and not start again before it is.
fn lock(
    transaction: &mut Transaction<'_>,
    instance: &mut Instance,
    lock: impl FnOnce(bool) -> FinancialLock,
) -> Result<()> {
    let runs = match instance.state {
        State::Pending | State::Starting | State::Running => true,
        State::Stopping => instance.restart,
        State::Stopped => false,
    };
    instance.lock = Some(lock(runs));
    instance.restart = false;
    if instance.intent == Intent::Running {
        instance.intent = Intent::Stopped;
    }
    give_up_room(transaction, instance)?;
    if let Some(state) = instance.state.after(Change::Stop) {
        instance.state = state;
    }
    put_instance(transaction, instance)
}

/// An instance is paid for again: if it ran when it was locked, it runs again, where there is room.
pub(crate) fn unlock(transaction: &mut Transaction<'_>, instance: &mut Instance) -> Result<()> {
    let Some(lock) = instance.lock.take() else {
        return Ok(());
    };
    let is_prepaid = instance.charge.subscription().is_some();
    if !lock.restart() || instance.intent == Intent::Released {
        // What is paid for in advance is kept again, where there is room.
        match instance.state {
            _ if !is_prepaid || instance.intent == Intent::Released => {}
            State::Stopped => drop(take_room(transaction, instance)?),
            // It has its room still.
            _ => {
                let mode = instance.stopped_mode_for(StoppedMode::KeepCharging);
                instance.stopped_mode = mode;
            }
        }
        return put_instance(transaction, instance);
    }
    if instance.state != State::Stopped {
        // It is just stopping: it starts again when it has.
        instance.restart = true;
        return put_instance(transaction, instance);
    }
    let requested_ns = transaction.core().ports.clock.monotonic_ns();
    if let Err(refusal) = start_again(transaction, instance, requested_ns)? {
        let message = format!(
            "instance {} is paid for again and not started: {}",
            instance.id, refusal.decision.reason
        );
        transaction.event(
            EventSubject::Instance(instance.id, Some(instance.state)),
            message,
        );
        put_instance(transaction, instance)?;
    }
    Ok(())
}
