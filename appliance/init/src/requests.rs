//! What the daemon asks of the first process, answered one by one.

use boot_disk::UpdatePhase;
use image_format::Slot;
use types::Sha256Digest;

use crate::{
    boot::Machine,
    fault::chain,
    identity,
    protocol::{Answer, HostStatus, Request, SlotStatus},
};

/// What is to be done after the answer was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// Nothing.
    Nothing,
    /// Ends the machine.
    End { reboot: bool },
    /// Starts the daemon anew.
    RestartDaemon,
}

/// Answers.
pub(crate) fn answer(
    machine: &mut Machine,
    addresses: &[String],
    request: Request,
) -> (Answer, Then) {
    let done = (Answer::Done, Then::Nothing);
    match request {
        Request::Status => (
            Answer::Status(Box::new(status(machine, addresses))),
            Then::Nothing,
        ),
        Request::SetUpdate { record } => {
            // Somebody's slots have changed.
            let _ = machine.with_esp(|_| Ok(()));
            kept(machine, "write down the update", |host| {
                host.update = Some(record)
            })
            .unwrap_or(done)
        }
        Request::End { reboot } => (Answer::Done, Then::End { reboot }),
        Request::Rollback => rollback(machine),
        Request::UseEnrolmentToken { token } => {
            let digest = machine.identity.enrolment_sha256;
            let accepted = digest.is_some_and(|digest| identity::is_token(&digest, &token));
            if accepted {
                let used = |host: &mut boot_disk::HostRecord| {
                    if let Some(identity) = &mut host.identity {
                        identity.enrolment_sha256 = None;
                    }
                };
                // Used up before anybody gains from it.
                if let Some(refused) = kept(machine, "use up the enrolment token", used) {
                    return refused;
                }
                machine.identity.enrolment_sha256 = None;
                machine.token = None;
            }
            (Answer::Token { accepted }, Then::Nothing)
        }
        Request::GetConfiguration => {
            let configuration = &machine.records.record().configuration;
            let pending =
                configuration.pushed.is_some() && configuration.pushed != machine.chosen.text;
            let answer = Answer::Configuration {
                source: machine.chosen.source.to_string(),
                text: machine.chosen.text.clone(),
                pending,
            };
            (answer, Then::Nothing)
        }
        Request::PushConfiguration { text } => {
            if let Err(error) = host_config::parse(&text, "the configuration") {
                return refused(
                    error.to_string(),
                    "Correct the lines that are named, and push it again.",
                );
            }
            let flashed = machine
                .flashed
                .as_ref()
                .map(|text| Sha256Digest::of(text.as_bytes()));
            let push = |host: &mut boot_disk::HostRecord| {
                host.configuration.pushed = Some(text);
                host.configuration.flashed_sha256 = flashed;
            };
            kept(machine, "keep the configuration", push).unwrap_or(done)
        }
        Request::ResetConfiguration => reset_configuration(machine),
        Request::UnlockData { key } => {
            let key = hex::decode(key).unwrap_or_default();
            match machine.unlock_data(&key) {
                Ok(()) => (Answer::Done, Then::RestartDaemon),
                Err(fault) => refused(fault.message, &fault.next_step),
            }
        }
        Request::Live { daemon } => {
            let restart = (Answer::Done, Then::RestartDaemon);
            kept(machine, "write down which daemon runs", |host| {
                host.live = daemon
            })
            .unwrap_or(restart)
        }
    }
}

/// Forgets what was pushed.
pub(crate) fn reset_configuration(machine: &mut Machine) -> (Answer, Then) {
    let forget = |host: &mut boot_disk::HostRecord| {
        host.configuration.pushed = None;
        host.configuration.flashed_sha256 = None;
        host.configuration.last_good = None;
    };
    kept(machine, "forget the configuration", forget).unwrap_or((Answer::Done, Then::Nothing))
}

/// Boots the other slot from now on.
pub(crate) fn rollback(machine: &mut Machine) -> (Answer, Then) {
    let Some(booted) = machine.booted() else {
        return refused(
            "this host did not boot from a slot".to_owned(),
            "Flash the image onto a disk first.",
        );
    };
    let to: Slot = booted.other();
    if let Err(error) = machine.with_esp(|esp| esp.go_back(to)) {
        return refused(chain(&error), error.next_step());
    }
    // A trial that somebody ended by hand is over.
    if machine
        .records
        .record()
        .update
        .as_ref()
        .is_some_and(|update| update.phase == UpdatePhase::Trial)
    {
        machine.keep("write down that the update was undone", |host| {
            if let Some(update) = &mut host.update {
                update.phase = UpdatePhase::Failed;
                update.reason = Some("undone by the operator".to_owned());
            }
        });
    }
    (Answer::Done, Then::End { reboot: true })
}

/// How the host is.
pub(crate) fn status(machine: &Machine, addresses: &[String]) -> HostStatus {
    let record = machine.records.record();
    HostStatus {
        host_id: machine.identity.host_id.clone(),
        version: machine.release.version.clone(),
        variant: machine.release.variant.to_string(),
        hostname: machine.hostname(),
        booted: machine.booted(),
        slots: machine.slots.iter().map(SlotStatus::of).collect(),
        update: record.update.clone(),
        live: record
            .live
            .clone()
            .filter(|live| live.over == machine.release.version),
        faults: machine.faults.all().to_vec(),
        addresses: addresses.to_vec(),
        certificate_sha256: machine.fingerprint.clone(),
        security_floor: record.security_floor,
        configuration_source: machine.chosen.source.to_string(),
        esp: machine.boot_disk.as_ref().map(|boot| boot.esp.path.clone()),
        data: machine.data.clone(),
        secure_boot: machine.boot.secure_boot,
        measurements: machine.measurements.clone().into_iter().collect(),
        boots: record.boots,
        memory_used_kib: host::facts::memory_in_use().unwrap_or_default(),
    }
}

/// Changes the record; the refusal if that fails.
fn kept(
    machine: &mut Machine,
    doing: &str,
    change: impl FnOnce(&mut boot_disk::HostRecord),
) -> Option<(Answer, Then)> {
    if machine.keep(doing, change) {
        return None;
    }
    let fault = machine
        .faults
        .all()
        .iter()
        .find(|fault| fault.what == "state");
    let (message, next_step) = fault.map_or_else(Default::default, |fault| {
        (fault.message.clone(), fault.next_step.clone())
    });
    Some(refused(message, &next_step))
}

fn refused(message: String, next_step: &str) -> (Answer, Then) {
    let answer = Answer::Refused {
        message,
        next_step: next_step.to_owned(),
    };
    (answer, Then::Nothing)
}
