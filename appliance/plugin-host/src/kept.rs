//! Instances that wait for the next call. Nobody waits for them: a slot that is in use is passed over.

use crate::{host::Runtime, session::Session};
use std::sync::{Arc, Mutex, TryLockError, atomic::Ordering};

/// The kept instances of one policy.
pub(crate) struct Kept {
    runtime: Arc<Runtime>,
    slots: Vec<Mutex<Option<Session>>>,
}

/// The right to keep an instance; as many exist as may be kept.
pub(crate) struct Permit(Arc<Runtime>);

impl Kept {
    pub(crate) fn new(runtime: &Arc<Runtime>) -> Self {
        Self {
            runtime: Arc::clone(runtime),
            slots: (0..runtime.limits.kept).map(|_| Mutex::default()).collect(),
        }
    }

    /// Takes one out.
    pub(crate) fn take(&self) -> Option<Session> {
        self.slots.iter().find_map(|slot| match slot.try_lock() {
            Ok(mut slot) => slot.take(),
            Err(TryLockError::Poisoned(slot)) => slot.into_inner().take(),
            Err(TryLockError::WouldBlock) => None,
        })
    }

    /// Keeps it, or drops it if it has answered long enough or too many are kept already.
    pub(crate) fn put(&self, mut session: Session) {
        if session.answered >= self.runtime.limits.reuse {
            return;
        }
        if session.permit.is_none() {
            session.permit = self.permit();
        }
        if session.permit.is_none() {
            return;
        }
        for slot in &self.slots {
            if let Ok(mut slot) = slot.try_lock()
                && slot.is_none()
            {
                *slot = Some(session);
                return;
            }
        }
    }

    fn permit(&self) -> Option<Permit> {
        let most = self.runtime.limits.kept;
        let more = |kept: u32| (kept < most).then_some(kept + 1);
        let kept = &self.runtime.kept;
        kept.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()
            .map(|_| Permit(Arc::clone(&self.runtime)))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.kept.fetch_sub(1, Ordering::Relaxed);
    }
}
