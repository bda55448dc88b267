//! The screen and the keyboard, and what the daemon is told of faults.

use std::{fs, io::Write as _, os::unix::fs::OpenOptionsExt as _, rc::Rc};

use boot_disk::Disk;
use types::Sha256Digest;

use super::{FAULTS_FILE, Init, tell};
use crate::{
    boot::Machine,
    console,
    console::{Key, Shown},
    fault::chain,
    identity,
    protocol::Answer,
    requests::{self, Then},
};

impl Init {
    pub(super) fn key(&mut self, byte: u8) -> Then {
        let asked = self.asked.take();
        let key = match (asked, Key::of(byte)) {
            (Some(key), _) if byte.eq_ignore_ascii_case(&b'y') => key,
            (Some(_), _) => {
                self.terminals.show("  not done\n");
                return Then::Nothing;
            }
            (None, Some(key)) => {
                if let Some(question) = key.question() {
                    self.terminals.show(&format!("  {question}\n"));
                    self.asked = Some(key);
                    return Then::Nothing;
                }
                key
            }
            (None, None) => return Then::Nothing,
        };
        match key {
            Key::Redraw => self.draw(true),
            Key::Retry => {
                self.terminals.show("  trying again\n");
                if self.machine.data.is_none() {
                    let terminals = Rc::clone(&self.terminals);
                    self.machine
                        .open_data(&Disk::all(), None, &|text| tell(&terminals, text));
                }
                self.restart_daemon();
            }
            Key::NewToken => {
                let token = identity::new_token();
                let digest = Sha256Digest::of(token.as_bytes());
                let kept = self.machine.keep("keep the enrolment token", |record| {
                    if let Some(identity) = &mut record.identity {
                        identity.enrolment_sha256 = Some(digest);
                    }
                });
                if kept {
                    self.machine.identity.enrolment_sha256 = Some(digest);
                    self.machine.token = Some(token);
                }
                self.draw(true);
            }
            Key::PreviousSlot => return self.answered(requests::rollback),
            Key::ResetConfiguration => {
                self.answered(requests::reset_configuration);
                return Then::End { reboot: true };
            }
            Key::ForgetState => match self.machine.forget_state() {
                Ok(()) => return Then::End { reboot: true },
                Err(error) => self.terminals.show(&format!("  {}\n", chain(&error))),
            },
            Key::Reboot => return Then::End { reboot: true },
            Key::PowerOff => return Then::End { reboot: false },
        }
        Then::Nothing
    }

    /// Does what a request does, and shows a refusal.
    pub(super) fn answered(&mut self, work: fn(&mut Machine) -> (Answer, Then)) -> Then {
        let (answer, then) = work(&mut self.machine);
        if let Answer::Refused { message, next_step } = answer {
            self.terminals
                .show(&format!("  {message}\n  -> {next_step}\n"));
        }
        then
    }

    pub(super) fn draw(&mut self, always: bool) {
        let network = self
            .uplink
            .as_ref()
            .map(|uplink| uplink.status().borrow().clone());
        let shown = Shown {
            health: self.health.clone(),
            token: self.machine.token.clone(),
            network: network
                .map(|status| status.interfaces.iter().map(ToString::to_string).collect())
                .unwrap_or_default(),
            port: self.machine.chosen.config.api.listen.port(),
            last_errors: if matches!(self.health, Some(Err(_))) {
                self.log.trouble(3)
            } else {
                Vec::new()
            },
        };
        let screen = console::render(&requests::status(&self.machine, &self.addresses()), &shown);
        if always || screen != self.screen {
            self.terminals.show(&screen);
            self.screen = screen;
        }
    }

    /// What the daemon reads in maintenance, and whoever looks.
    pub(super) fn write_faults(&self) {
        let text = serde_json::to_string(self.machine.faults.all()).unwrap_or_default();
        if fs::read_to_string(FAULTS_FILE).is_ok_and(|old| old == text) {
            return;
        }
        let part = format!("{FAULTS_FILE}.part");
        let written = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&part)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .and_then(|()| fs::rename(&part, FAULTS_FILE));
        if let Err(error) = written {
            self.tell(&format!("cannot write {FAULTS_FILE}: {error}"));
        }
    }
}
