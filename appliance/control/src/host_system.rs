//! Use cases of the machine under the daemon: its updates, its configuration, its end. They need no store and no pool, so that a
//! host that lacks those can still be mended.
//!
//! One update at a time:
//!
//! ```text
//!  begin (manifest verified, not too old) ─▶ Receiving ─file whole, digest right─▶ Staged ─apply─▶ Applying ─reboot─▶ Trial ─▶ Good
//!                                               └─ anything else ─▶ Failed (nothing was changed)         └── other slot ◀── Failed
//! ```

use crate::{
    ControlError, ErrorKind, Result,
    core::blocking,
    model::{HostConfiguration, HostStatus, NewUpdate, UpdateState, UpdateStatus},
    ports::HostMachine,
};
use boot_disk::{InstancesPolicy, LiveDaemon, UpdatePhase, UpdateRecord};
use image_format::{Artifact, ArtifactKind, Manifest, Slot};
use std::{
    collections::VecDeque,
    io::Read,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};
use types::Timestamp;

/// How often a wrong enrolment token may be offered within [`GUESS_WINDOW`].
const GUESSES: usize = 5;
const GUESS_WINDOW: Duration = Duration::from_secs(60);

/// The machine under the daemon. Cheap to clone.
#[derive(Clone)]
pub struct HostSystem {
    inner: Arc<Inner>,
}

struct Inner {
    machine: Arc<dyn HostMachine>,
    update: Mutex<Option<Update>>,
    guesses: Mutex<VecDeque<Instant>>,
}

/// The update of this daemon's life; earlier ones are in the host's record.
struct Update {
    status: UpdateStatus,
    manifest: Manifest,
    artifact: Artifact,
    asked: Asked,
    /// Whether somebody is sending the file.
    busy: bool,
}

#[derive(Clone, Copy)]
struct Asked {
    instances: InstancesPolicy,
    tries: u32,
    live: bool,
    reboot: bool,
}

impl HostSystem {
    /// The use cases over a machine.
    #[must_use]
    pub fn new(machine: Arc<dyn HostMachine>) -> Self {
        Self {
            inner: Arc::new(Inner {
                machine,
                update: Mutex::default(),
                guesses: Mutex::default(),
            }),
        }
    }

    /// How the machine is.
    ///
    /// # Errors
    /// Its first process does not answer.
    pub async fn status(&self) -> Result<HostStatus> {
        self.on(|machine| machine.status()).await
    }

    /// The newest update, if there ever was one.
    ///
    /// # Errors
    /// The first process does not answer.
    pub async fn update(&self) -> Result<Option<UpdateStatus>> {
        if let Some(update) = &*self.lock() {
            return Ok(Some(update.status.clone()));
        }
        Ok(self.status().await?.update.map(|record| told(&record)))
    }

    /// Begins an update: checks who signed it and whether this host may take it. Nothing is changed yet. `running` is asked for the
    /// instances that run when a file that the host fetches itself is to be applied.
    ///
    /// # Errors
    /// It is not to be trusted, of another variant, too old, has no such file; or another update is under way.
    pub async fn begin_update(
        &self,
        new: NewUpdate,
        running: impl Future<Output = Result<Vec<String>>> + Send + 'static,
    ) -> Result<UpdateStatus> {
        let status = self.status().await?;
        let keys = self.on(|machine| machine.trusted_keys()).await?;
        let manifest = Manifest::verified(&new.manifest, &new.signature, &keys).map_err(|error| {
            ControlError::new(ErrorKind::Denied, "InvalidUpdate.Manifest", chain(&error))
                .with_next_step("Take the release from who makes it, or build the host's image with the key that signs your releases.")
        })?;
        may_take(&status, &manifest)?;
        let kind = if new.live {
            ArtifactKind::Daemon
        } else {
            ArtifactKind::Uki
        };
        let artifact = manifest.artifact(kind).cloned().ok_or_else(|| {
            ControlError::invalid(
                "manifest",
                format!("The release has no file of the kind {kind:?}."),
            )
        })?;
        let slot = match (new.live, status.booted) {
            (true, _) => None,
            (false, Some(booted)) => Some(booted.other()),
            (false, None) => {
                return Err(ControlError::new(
                    ErrorKind::IncorrectState,
                    "IncorrectHostStatus",
                    "This host did not boot from a slot, so it has none to update.",
                )
                .with_next_step(
                    "Flash the image onto a disk, or update what the host boots from.",
                ));
            }
        };
        let update = Update {
            status: UpdateStatus {
                id: format!("hu-{:016x}", rand::random::<u64>()),
                state: UpdateState::Receiving,
                from: status.version,
                to: manifest.version.clone(),
                slot,
                file: artifact.file.clone(),
                bytes_done: 0,
                bytes_total: artifact.size,
                reason: None,
            },
            asked: Asked {
                instances: new.instances,
                tries: new.tries.clamp(1, 9),
                live: new.live,
                reboot: new.reboot,
            },
            manifest,
            artifact,
            busy: false,
        };
        let shown = update.status.clone();
        {
            let mut current = self.lock();
            let under_way =
                |update: &Update| update.busy || update.status.state == UpdateState::Applying;
            if current.as_ref().is_some_and(under_way) {
                return Err(under_way_error());
            }
            *current = Some(update);
        }
        if let Some(url) = new.url {
            let system = self.clone();
            let id = shown.id.clone();
            // Goes on when its caller hangs up; its end is seen in the status.
            tokio::spawn(async move {
                let opened = system.on(move |machine| machine.fetch(&url)).await;
                match opened {
                    Ok(file) => drop(system.receive(&id, file, running).await),
                    Err(error) => system.failed(&id, &error.to_string()),
                }
            });
        }
        Ok(shown)
    }

    /// Takes the update's file. Once it is whole and verified it is staged, and applied if that was asked for; `running` is asked then for
    /// the instances that run.
    ///
    /// # Errors
    /// There is no such update, somebody else sends the file, or the file is not the one that was signed: nothing was changed then.
    pub async fn receive(
        &self,
        id: &str,
        mut file: impl Read + Send + 'static,
        running: impl Future<Output = Result<Vec<String>>> + Send,
    ) -> Result<UpdateStatus> {
        let (artifact, asked, slot) = {
            let mut current = self.lock();
            let update = find(&mut current, id)?;
            if update.busy || update.status.state != UpdateState::Receiving {
                return Err(under_way_error());
            }
            update.busy = true;
            (update.artifact.clone(), update.asked, update.status.slot)
        };
        let system = self.clone();
        let name = id.to_owned();
        let staged = self
            .on(move |machine| {
                let mut progress = |bytes| system.progress(&name, bytes);
                match slot {
                    Some(slot) => machine.stage(
                        slot,
                        &mut file,
                        artifact.size,
                        artifact.sha256,
                        &mut progress,
                    ),
                    None => {
                        let size = artifact.raw_size.unwrap_or(artifact.size);
                        let sha256 = artifact.raw_sha256.unwrap_or(artifact.sha256);
                        machine.install_daemon(&mut file, size, sha256, &mut progress)
                    }
                }
            })
            .await;
        if let Err(error) = staged {
            self.failed(id, &chain(&error));
            return Err(error);
        }
        let shown = {
            let mut current = self.lock();
            let update = find(&mut current, id)?;
            update.busy = false;
            update.status.state = UpdateState::Staged;
            update.status.bytes_done = update.status.bytes_total;
            update.status.clone()
        };
        if asked.reboot || asked.live {
            self.apply(id, &running.await?).await
        } else {
            Ok(shown)
        }
    }

    /// Applies a staged update: switches the boot loader to it and reboots, or replaces the daemon. `running` names the instances
    /// that run.
    ///
    /// # Errors
    /// There is no such update or it is not staged; instances run and the operator was to stop them first.
    pub async fn apply(&self, id: &str, running: &[String]) -> Result<UpdateStatus> {
        let (record, live, tries, shown) = {
            let mut current = self.lock();
            let update = find(&mut current, id)?;
            match update.status.state {
                UpdateState::Staged => {}
                // Asked again: it is on its way.
                UpdateState::Applying => return Ok(update.status.clone()),
                _ => {
                    return Err(ControlError::new(
                        ErrorKind::IncorrectState,
                        "IncorrectUpdateStatus",
                        format!("The update {id} is not staged."),
                    )
                    .with_next_step("Send its file first, or begin the update again."));
                }
            }
            if update.asked.instances == InstancesPolicy::Drained
                && !update.asked.live
                && !running.is_empty()
            {
                let reason = format!(
                    "waits until these instances are stopped: {}",
                    running.join(", ")
                );
                update.status.reason = Some(reason.clone());
                return Err(ControlError::new(
                    ErrorKind::IncorrectState,
                    "IncorrectHostStatus",
                    format!("The update {reason}."),
                )
                .with_next_step("Stop them, then apply the update."));
            }
            update.status.state = UpdateState::Applying;
            update.status.reason = None;
            let record = update.status.slot.map(|slot| record_of(update, slot));
            let live = update.asked.live.then(|| LiveDaemon {
                version: update.manifest.version.clone(),
                sha256: update.artifact.raw_sha256.unwrap_or(update.artifact.sha256),
                over: update.status.from.clone(),
                unknown: Default::default(),
            });
            (record, live, update.asked.tries, update.status.clone())
        };
        let applied = self
            .on(move |machine| match (record, live) {
                (Some(record), _) => {
                    // Written down before the switch: a host that comes up in the new slot knows that it is on trial.
                    let slot = record.slot;
                    machine.set_update(record)?;
                    machine.switch(slot, tries)?;
                    machine.end(true)
                }
                (None, Some(live)) => machine.run_daemon(live),
                (None, None) => Ok(()),
            })
            .await;
        if let Err(error) = applied {
            self.failed(id, &chain(&error));
            return Err(error);
        }
        Ok(shown)
    }

    /// Reboots, or powers off: guests are stopped first.
    ///
    /// # Errors
    /// The first process does not answer.
    pub async fn end(&self, reboot: bool) -> Result<()> {
        self.on(move |machine| machine.end(reboot)).await
    }

    /// Boots the other slot from now on, and reboots.
    ///
    /// # Errors
    /// There is no good image in it.
    pub async fn rollback(&self) -> Result<()> {
        self.on(|machine| machine.rollback()).await
    }

    /// Opens the data partition with a key that only the operator has. The daemon is started anew with it.
    ///
    /// # Errors
    /// It is open already, or that is not its key.
    pub async fn unlock_data(&self, key: Vec<u8>) -> Result<()> {
        self.on(move |machine| machine.unlock_data(&key)).await
    }

    /// Whether this is the host's enrolment token, which is used up by asking.
    ///
    /// # Errors
    /// It is not, or too many were tried.
    pub async fn enroll(&self, token: &str) -> Result<()> {
        {
            let mut guesses = self
                .inner
                .guesses
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            while guesses
                .front()
                .is_some_and(|at| at.elapsed() > GUESS_WINDOW)
            {
                guesses.pop_front();
            }
            if guesses.len() >= GUESSES {
                return Err(ControlError::new(
                    ErrorKind::QuotaExceeded,
                    "Throttling",
                    "Too many enrolment tokens were tried.",
                )
                .with_next_step("Wait a minute."));
            }
            guesses.push_back(Instant::now());
        }
        let token = token.to_owned();
        if self
            .on(move |machine| machine.use_enrolment_token(&token))
            .await?
        {
            return Ok(());
        }
        Err(ControlError::new(
            ErrorKind::Denied,
            "InvalidEnrolmentToken",
            "This is not the host's enrolment token, or it was used already.",
        )
        .with_next_step("Read the token from the host's screen; the key t there makes a new one."))
    }

    /// The configuration in force.
    ///
    /// # Errors
    /// The first process does not answer.
    pub async fn configuration(&self) -> Result<HostConfiguration> {
        self.on(|machine| machine.configuration()).await
    }

    /// Uses that configuration from the next boot on.
    ///
    /// # Errors
    /// It is wrong; the message has the lines.
    pub async fn push_configuration(&self, text: String) -> Result<()> {
        self.on(move |machine| machine.push_configuration(&text))
            .await
    }

    /// Forgets what was pushed, from the next boot on.
    ///
    /// # Errors
    /// The first process does not answer.
    pub async fn reset_configuration(&self) -> Result<()> {
        self.on(|machine| machine.reset_configuration()).await
    }

    async fn on<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn HostMachine) -> crate::ports::PortResult<T> + Send + 'static,
    ) -> Result<T> {
        let machine = self.inner.machine.clone();
        Ok(blocking(move || work(&*machine)).await??)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Update>> {
        self.inner
            .update
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn progress(&self, id: &str, bytes: u64) {
        if let Ok(update) = find(&mut self.lock(), id) {
            update.status.bytes_done = bytes.min(update.status.bytes_total);
        }
    }

    fn failed(&self, id: &str, reason: &str) {
        tracing::warn!(update = id, reason, "the update failed");
        if let Ok(update) = find(&mut self.lock(), id) {
            update.busy = false;
            update.status.state = UpdateState::Failed;
            update.status.reason = Some(reason.to_owned());
        }
    }
}

/// Whether a host may take a release.
fn may_take(status: &HostStatus, manifest: &Manifest) -> Result<()> {
    if manifest.variant.as_str() != status.variant {
        return Err(ControlError::invalid(
            "manifest",
            format!(
                "The release is of the variant {}, and this host is of {}.",
                manifest.variant, status.variant
            ),
        )
        .with_next_step("Take the release of this host's variant."));
    }
    if manifest.security_version < status.security_floor {
        return Err(ControlError::new(
            ErrorKind::Denied,
            "InvalidUpdate.TooOld",
            format!(
                "The release {} has security version {}, and this host takes none below {}.",
                manifest.version, manifest.security_version, status.security_floor
            ),
        )
        .with_next_step("Take a newer release: older ones have faults that must not come back."));
    }
    Ok(())
}

fn find<'a>(current: &'a mut Option<Update>, id: &str) -> Result<&'a mut Update> {
    current
        .as_mut()
        .filter(|update| update.status.id == id)
        .ok_or_else(|| ControlError::not_found("Update", "update", &id))
}

fn under_way_error() -> ControlError {
    ControlError::new(
        ErrorKind::Conflict,
        "IncorrectUpdateStatus",
        "An update is under way.",
    )
    .with_next_step("Wait until it ended: GET /v1/host/updates tells.")
}

fn record_of(update: &Update, slot: Slot) -> UpdateRecord {
    UpdateRecord {
        id: update.status.id.clone(),
        from: update.status.from.clone(),
        to: update.status.to.clone(),
        slot,
        phase: UpdatePhase::Trial,
        minimum_security_version: update.manifest.minimum_security_version,
        reason: None,
        begun: Timestamp::from_system_time(SystemTime::now()),
        ended: None,
        unknown: Default::default(),
    }
}

/// An update of an earlier daemon's life.
fn told(record: &UpdateRecord) -> UpdateStatus {
    UpdateStatus {
        id: record.id.clone(),
        state: match record.phase {
            UpdatePhase::Staged => UpdateState::Staged,
            UpdatePhase::Trial => UpdateState::Trial,
            UpdatePhase::Good => UpdateState::Good,
            UpdatePhase::Failed => UpdateState::Failed,
        },
        from: record.from.clone(),
        to: record.to.clone(),
        slot: Some(record.slot),
        file: String::new(),
        bytes_done: 0,
        bytes_total: 0,
        reason: record.reason.clone(),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
