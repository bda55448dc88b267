//! What the daemon and the first process say to each other: one line of JSON each way, over a unix socket that only root may open.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use boot_disk::{InstancesPolicy, LiveDaemon, UpdateRecord};
use image_format::{Slot, SlotState};
use serde::{Deserialize, Serialize};

use crate::Fault;

/// The longest line, bytes: a pushed configuration and its escapes.
pub const MAX_LINE: u64 = 2 << 20;
const TIMEOUT: Duration = Duration::from_secs(20);

/// From the daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Request {
    /// How the host is.
    Status,
    /// What is known of the newest update, from now on.
    SetUpdate {
        /// The record.
        record: UpdateRecord,
    },
    /// End the machine once this was answered: guests are stopped first.
    End {
        /// Whether it starts again.
        reboot: bool,
    },
    /// Boot the other slot from now on, and reboot.
    Rollback,
    /// Whether this is the enrolment token; if so it is used up.
    UseEnrolmentToken {
        /// What was offered.
        token: String,
    },
    /// The configuration in force.
    GetConfiguration,
    /// Use this configuration from the next boot on.
    PushConfiguration {
        /// TOML.
        text: String,
    },
    /// Forget what was pushed.
    ResetConfiguration,
    /// Open the data partition with this key; the daemon is started anew then.
    UnlockData {
        /// The key, hexadecimal.
        key: String,
    },
    /// Run that daemon instead of the image's, now.
    Live {
        /// Which, at [`crate::LIVE`]; none goes back to the image's.
        daemon: Option<LiveDaemon>,
    },
}

/// To the daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Answer {
    /// Done.
    Done,
    /// To [`Request::Status`].
    Status(Box<HostStatus>),
    /// To [`Request::UseEnrolmentToken`].
    Token {
        /// Whether it was the token.
        accepted: bool,
    },
    /// To [`Request::GetConfiguration`].
    Configuration {
        /// Where it came from.
        source: String,
        /// TOML; none where the defaults are in force.
        text: Option<String>,
        /// Whether another one comes into force with the next boot.
        pending: bool,
    },
    /// It was not done.
    Refused {
        /// Why.
        message: String,
        /// What to do about it.
        next_step: String,
    },
}

/// How a host is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostStatus {
    /// The host's id.
    pub host_id: String,
    /// Version of the running image.
    pub version: String,
    /// Its variant.
    pub variant: String,
    /// The host's name.
    pub hostname: String,
    /// The slot that was booted, if it was one.
    pub booted: Option<Slot>,
    /// The slots.
    pub slots: Vec<SlotStatus>,
    /// The newest update.
    pub update: Option<UpdateRecord>,
    /// The daemon that runs instead of the image's.
    pub live: Option<LiveDaemon>,
    /// What is wrong.
    pub faults: Vec<Fault>,
    /// Addresses by which the host can be reached.
    pub addresses: Vec<String>,
    /// SHA-256 digest of the host's certificate, `sha256:…`.
    pub certificate_sha256: String,
    /// No image below this security version is taken.
    pub security_floor: u32,
    /// Where the configuration in force came from.
    pub configuration_source: String,
    /// The device of the EFI system partition, if the host has one.
    pub esp: Option<PathBuf>,
    /// The device of the data partition.
    pub data: Option<PathBuf>,
    /// Whether Secure Boot is in force, if known.
    pub secure_boot: Option<bool>,
    /// What was measured at boot: registers of the TPM and their values, hexadecimal. Empty without a TPM. (No map: in a tagged
    /// enum its keys would have to be texts.)
    pub measurements: Vec<(u8, String)>,
    /// Boots so far.
    pub boots: u64,
    /// Memory in use on the whole machine that cannot be given back, KiB.
    pub memory_used_kib: u64,
}

/// A slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotStatus {
    /// Which.
    pub slot: Slot,
    /// Version of the image in it, if it can be read.
    pub version: Option<String>,
    /// `good`, `trial` or `bad`.
    pub state: String,
    /// Boots that are left to it, if it is on trial.
    pub tries_left: Option<u32>,
}

impl SlotStatus {
    /// Of what is in a slot.
    #[must_use]
    pub fn of(entry: &boot_disk::SlotEntry) -> Self {
        let (state, tries_left) = match entry.file.state() {
            SlotState::Good => ("good", None),
            SlotState::Trial { left } => ("trial", Some(left)),
            SlotState::Bad => ("bad", None),
        };
        Self {
            slot: entry.file.slot,
            version: entry
                .release
                .as_ref()
                .map(|release| release.version.clone()),
            state: state.to_owned(),
            tries_left,
        }
    }
}

/// What is done with instances, in words of the wire.
#[must_use]
pub fn instances_policy(text: &str) -> Option<InstancesPolicy> {
    match text {
        "stop" => Some(InstancesPolicy::Stop),
        "drained" => Some(InstancesPolicy::Drained),
        _ => None,
    }
}

/// The first process cannot be talked to.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The socket failed.
    #[error("the first process of the host does not answer on {path}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It said something else.
    #[error("the first process of the host said something unexpected: {0}")]
    NotUnderstood(String),
    /// It refused.
    #[error("{message}")]
    Refused {
        /// Why.
        message: String,
        /// What to do about it.
        next_step: String,
    },
}

/// Talks to the first process. Each call blocks until it answers, at most 20 seconds.
#[derive(Clone, Debug)]
pub struct Client {
    path: PathBuf,
}

impl Client {
    /// A client of the socket at `path`.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// The socket failed, or the request was refused.
    pub fn ask(&self, request: &Request) -> Result<Answer, ClientError> {
        let failed = |source| ClientError::Io {
            path: self.path.clone(),
            source,
        };
        let mut line = serde_json::to_string(request)
            .map_err(|error| ClientError::NotUnderstood(error.to_string()))?;
        line.push('\n');
        let mut stream = UnixStream::connect(&self.path).map_err(failed)?;
        stream.set_read_timeout(Some(TIMEOUT)).map_err(failed)?;
        stream.set_write_timeout(Some(TIMEOUT)).map_err(failed)?;
        stream.write_all(line.as_bytes()).map_err(failed)?;
        let mut answer = String::new();
        BufReader::new(stream.take(MAX_LINE))
            .read_line(&mut answer)
            .map_err(failed)?;
        match serde_json::from_str(&answer) {
            Ok(Answer::Refused { message, next_step }) => {
                Err(ClientError::Refused { message, next_step })
            }
            Ok(answer) => Ok(answer),
            Err(error) => Err(ClientError::NotUnderstood(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_answers_are_single_lines() {
        for request in [
            Request::Status,
            Request::PushConfiguration {
                text: "version = 1\nhostname = \"a\"\n".into(),
            },
            Request::UseEnrolmentToken {
                token: "a-b".into(),
            },
            Request::Live { daemon: None },
        ] {
            let line = serde_json::to_string(&request).unwrap();
            assert!(!line.contains('\n'));
            assert_eq!(serde_json::from_str::<Request>(&line).unwrap(), request);
        }
        let status = crate::console::tests::status();
        assert!(!status.measurements.is_empty() && !status.faults.is_empty());
        let answer = Answer::Status(Box::new(status));
        let line = serde_json::to_string(&answer).unwrap();
        assert!(!line.contains('\n'));
        assert_eq!(serde_json::from_str::<Answer>(&line).unwrap(), answer);
    }
}
