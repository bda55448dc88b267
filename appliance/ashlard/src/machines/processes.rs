//! Processes for machines. Starting and confining one takes longer than building a machine in it, so a few wait, confined and
//! without anything of anybody's, until there is a machine for them. They end with this daemon.

use super::{folder::ProcessId, groups::VmmGroups};
use std::{
    collections::VecDeque,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use vmm::launch::{LaunchError, Prepared, ProcessSpec, prepare};

/// The first of the user ids that vmm processes take: far from people's and from those user namespaces get.
const FIRST_UID: u32 = 1_900_000_000;
/// As many machines can there be at a time.
pub const UIDS: u32 = 100_000;
/// So many wait.
const AHEAD: usize = 2;
/// A guest that has just been started has the processors for itself; then the process it took is replaced.
const REST: Duration = Duration::from_millis(100);

/// A process and the user id it has for itself.
pub struct Process {
    pub uid: u32,
    /// `None` if it has ended meanwhile.
    pub id: Option<ProcessId>,
    pub prepared: Prepared,
}

/// Where processes come from.
pub struct Processes {
    executable: Arc<OwnedFd>,
    kvm: Arc<OwnedFd>,
    groups: Arc<VmmGroups>,
    next_uid: AtomicU32,
    waiting: Mutex<VecDeque<Process>>,
    /// Held by whoever fills up; false once nobody is to any more.
    filling: tokio::sync::Mutex<bool>,
}

impl Processes {
    /// Processes of `executable`, this program, for machines of the device `kvm`, in these groups.
    pub fn new(executable: OwnedFd, kvm: OwnedFd, groups: Arc<VmmGroups>) -> Self {
        Self {
            executable: Arc::new(executable),
            kvm: Arc::new(kvm),
            groups,
            next_uid: AtomicU32::new(0),
            waiting: Mutex::default(),
            filling: tokio::sync::Mutex::new(true),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Process>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process, at once if one waits. `taken` tells which user ids machines have.
    pub async fn take(&self, taken: impl Fn(u32) -> bool + Sync) -> Result<Process, LaunchError> {
        loop {
            let first = self.waiting().pop_front();
            match first {
                Some(process) if process.prepared.waits() => return Ok(process),
                // Somebody ended it.
                Some(process) => self.groups.remove(process.uid).await,
                None => return self.make(taken).await,
            }
        }
    }

    /// Sees to it that processes wait again, soon.
    pub fn fill_up(self: &Arc<Self>, taken: impl Fn(u32) -> bool + Send + Sync + 'static) {
        let processes = Arc::clone(self);
        tokio::spawn(async move {
            let filling = processes.filling.lock().await;
            if !*filling {
                return;
            }
            tokio::time::sleep(REST).await;
            while processes.waiting().len() < AHEAD {
                match processes.make(&taken).await {
                    Ok(process) => processes.waiting().push_back(process),
                    Err(error) => {
                        let error = anyhow::Error::from(error);
                        return tracing::warn!("no vmm can be started ahead: {error:#}");
                    }
                }
            }
        });
    }

    /// Ends the processes that wait, and lets none wait from now on.
    pub async fn close(&self) {
        *self.filling.lock().await = false;
        let waiting = std::mem::take(&mut *self.waiting());
        for Process { uid, prepared, .. } in waiting {
            drop(prepared);
            self.groups.remove(uid).await;
        }
    }

    /// Makes one with a user id that no machine has, nor any other process made lately.
    async fn make(&self, taken: impl Fn(u32) -> bool + Sync) -> Result<Process, LaunchError> {
        let uid = loop {
            // Fewer machines run than there are ids, so this ends.
            let uid = FIRST_UID + self.next_uid.fetch_add(1, Ordering::Relaxed) % UIDS;
            if !taken(uid) {
                break uid;
            }
        };
        let spec = |cgroups| ProcessSpec {
            executable: Arc::clone(&self.executable),
            kvm: Arc::clone(&self.kvm),
            arguments: vec![crate::VMM_TASK.to_owned()],
            uid,
            gid: uid,
            cgroups,
            limits: jail::Limits::default(),
        };
        let groups = self.groups.make(uid);
        let grouped = !groups.is_empty();
        let prepared = match prepare(spec(groups)).await {
            Err(error) if grouped => {
                let error = anyhow::Error::from(error);
                tracing::warn!("a vmm is started again, without a control group: {error:#}");
                self.groups.remove(uid).await;
                prepare(spec(Vec::new())).await?
            }
            prepared => prepared?,
        };
        let id = prepared.id()?;
        let id = id.map(|(pid, started)| ProcessId { pid, started });
        Ok(Process { uid, id, prepared })
    }
}
