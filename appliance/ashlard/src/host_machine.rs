//! The host-machine port over `init` and `boot-disk`: the first process is asked over its socket, the slots are written here.

use boot_disk::{DiskError, Esp, LiveDaemon, UpdateRecord};
use control::{
    model::{HostConfiguration, HostFault, HostSlot, HostStatus},
    ports::{HostMachine, PortError, PortErrorKind, PortResult},
};
use image_format::{Slot, TrustedKeys, layout};
use init::protocol::{Answer, Client, ClientError, Request};
use sha2::{Digest as _, Sha256};
use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{Read, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};
use types::Sha256Digest;

/// Where the daemon mounts the EFI system partition while it writes to it.
const ESP_AT: &str = "/run/ashlar/esp";
/// How long a release's server may take to begin to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// The largest file that is fetched, bytes.
const MAX_FILE: u64 = 8 << 30;

/// The machine, through its first process.
pub struct InitMachine {
    client: Client,
}

impl InitMachine {
    pub fn new(socket: &Path) -> Self {
        Self {
            client: Client::new(socket),
        }
    }

    fn ask(&self, request: &Request) -> PortResult<Answer> {
        self.client.ask(request).map_err(|error| match error {
            ClientError::Refused { message, next_step } => {
                PortError::new(PortErrorKind::Invalid, message).with_next_step(next_step)
            }
            other => PortError::new(
                PortErrorKind::Failed,
                "the host's first process cannot be asked",
            )
            .with_source(other),
        })
    }

    fn told(&self) -> PortResult<init::protocol::HostStatus> {
        match self.ask(&Request::Status)? {
            Answer::Status(status) => Ok(*status),
            other => Err(unexpected(&other)),
        }
    }

    fn esp(&self) -> PortResult<Esp> {
        let device = self
            .told()?
            .esp
            .ok_or_else(|| disk(DiskError::no_slots()))?;
        Esp::mount(&device, Path::new(ESP_AT)).map_err(disk)
    }
}

impl HostMachine for InitMachine {
    fn status(&self) -> PortResult<HostStatus> {
        let told = self.told()?;
        Ok(HostStatus {
            host_id: told.host_id,
            version: told.version,
            variant: told.variant,
            hostname: told.hostname,
            booted: told.booted,
            slots: told
                .slots
                .into_iter()
                .map(|slot| HostSlot {
                    slot: slot.slot,
                    version: slot.version,
                    state: slot.state,
                    tries_left: slot.tries_left,
                })
                .collect(),
            update: told.update,
            live: told.live,
            faults: told
                .faults
                .into_iter()
                .map(|fault| HostFault {
                    what: fault.what,
                    message: fault.message,
                    next_step: fault.next_step,
                })
                .collect(),
            addresses: told.addresses,
            certificate_sha256: told.certificate_sha256,
            security_floor: told.security_floor,
            configuration_source: told.configuration_source,
            data: told.data,
            secure_boot: told.secure_boot,
            measurements: told.measurements.into_iter().collect(),
            boots: told.boots,
            memory_used_kib: told.memory_used_kib,
        })
    }

    fn trusted_keys(&self) -> PortResult<TrustedKeys> {
        let path = Path::new("/").join(layout::TRUSTED_KEYS);
        let failed = || {
            PortError::new(
                PortErrorKind::Failed,
                format!("cannot read the trusted keys in {}", path.display()),
            )
        };
        let text = fs::read_to_string(&path).map_err(|error| failed().with_source(error))?;
        TrustedKeys::parse(&text).map_err(|error| failed().with_source(error))
    }

    fn fetch(&self, url: &str) -> PortResult<Box<dyn Read + Send>> {
        let failed = |error| {
            PortError::new(PortErrorKind::Failed, format!("cannot fetch {url}")).with_source(error)
        };
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(CONNECT_TIMEOUT))
            .build()
            .into();
        let answer = agent.get(url).call().map_err(failed)?;
        Ok(Box::new(
            answer
                .into_body()
                .into_with_config()
                .limit(MAX_FILE)
                .reader(),
        ))
    }

    fn stage(
        &self,
        slot: Slot,
        image: &mut dyn Read,
        size: u64,
        sha256: Sha256Digest,
        progress: &mut dyn FnMut(u64),
    ) -> PortResult<()> {
        let esp = self.esp()?;
        esp.stage(slot, image, size, sha256, progress)
            .map(drop)
            .map_err(disk)
    }

    fn switch(&self, slot: Slot, tries: u32) -> PortResult<()> {
        let esp = self.esp()?;
        let staged = esp.staged(slot).map_err(disk)?;
        esp.switch(staged, tries).map_err(disk)
    }

    fn set_update(&self, record: UpdateRecord) -> PortResult<()> {
        self.ask(&Request::SetUpdate { record }).map(drop)
    }

    fn install_daemon(
        &self,
        packed: &mut dyn Read,
        size: u64,
        sha256: Sha256Digest,
        progress: &mut dyn FnMut(u64),
    ) -> PortResult<()> {
        install(Path::new(init::LIVE), packed, size, sha256, progress)
    }

    fn run_daemon(&self, daemon: LiveDaemon) -> PortResult<()> {
        self.ask(&Request::Live {
            daemon: Some(daemon),
        })
        .map(drop)
    }

    fn end(&self, reboot: bool) -> PortResult<()> {
        self.ask(&Request::End { reboot }).map(drop)
    }

    fn rollback(&self) -> PortResult<()> {
        self.ask(&Request::Rollback).map(drop)
    }

    fn unlock_data(&self, key: &[u8]) -> PortResult<()> {
        let key = hex::encode(key);
        self.ask(&Request::UnlockData { key }).map(drop)
    }

    fn use_enrolment_token(&self, token: &str) -> PortResult<bool> {
        let request = Request::UseEnrolmentToken {
            token: token.to_owned(),
        };
        match self.ask(&request)? {
            Answer::Token { accepted } => Ok(accepted),
            other => Err(unexpected(&other)),
        }
    }

    fn configuration(&self) -> PortResult<HostConfiguration> {
        match self.ask(&Request::GetConfiguration)? {
            Answer::Configuration {
                source,
                text,
                pending,
            } => Ok(HostConfiguration {
                source,
                text,
                pending,
            }),
            other => Err(unexpected(&other)),
        }
    }

    fn push_configuration(&self, text: &str) -> PortResult<()> {
        let request = Request::PushConfiguration {
            text: text.to_owned(),
        };
        self.ask(&request).map(drop)
    }

    fn reset_configuration(&self) -> PortResult<()> {
        self.ask(&Request::ResetConfiguration).map(drop)
    }
}

/// Unpacks a daemon into `folder`, as `ashlard`; whole and checked, or not there.
fn install(
    folder: &Path,
    packed: &mut dyn Read,
    size: u64,
    sha256: Sha256Digest,
    progress: &mut dyn FnMut(u64),
) -> PortResult<()> {
    let target = folder.join("ashlard");
    let part = folder.join("ashlard.part");
    let unpacked = unpack(folder, &part, packed, size, progress);
    let checked = unpacked.and_then(|digest| {
        if digest != sha256 {
            return Err(PortError::new(
                PortErrorKind::Invalid,
                "the daemon is not the one that the manifest names: its SHA-256 digest differs",
            )
            .with_next_step("Get the release again; it was changed or damaged on its way."));
        }
        fs::rename(&part, &target).map_err(|error| writing(&target).with_source(error))
    });
    if checked.is_err() {
        let _ = fs::remove_file(&part);
    }
    checked
}

fn unpack(
    folder: &Path,
    part: &PathBuf,
    packed: &mut dyn Read,
    size: u64,
    progress: &mut dyn FnMut(u64),
) -> PortResult<Sha256Digest> {
    let failed = |error| writing(part).with_source(error);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(failed)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o700)
        .open(part)
        .map_err(failed)?;
    let arriving = |error| {
        PortError::new(
            PortErrorKind::Invalid,
            "the daemon's file is damaged or stopped coming",
        )
        .with_source(error)
        .with_next_step("Begin the update again.")
    };
    let mut counted = Counted {
        inner: packed,
        count: 0,
    };
    let mut decoder = zstd::Decoder::new(&mut counted).map_err(arriving)?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 1 << 20];
    let mut count = 0;
    loop {
        let got = decoder.read(&mut chunk).map_err(arriving)?;
        if got == 0 {
            break;
        }
        count += got as u64;
        if count > size {
            return Err(PortError::new(
                PortErrorKind::Invalid,
                "the daemon's file unpacks to more than the manifest says",
            ));
        }
        hash.update(&chunk[..got]);
        file.write_all(&chunk[..got]).map_err(failed)?;
        progress(decoder.get_ref().get_ref().count);
    }
    file.sync_all().map_err(failed)?;
    Ok(Sha256Digest::new(hash.finalize().into()))
}

/// Counts what was read.
struct Counted<'a> {
    inner: &'a mut dyn Read,
    count: u64,
}

impl Read for Counted<'_> {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(to)?;
        self.count += count as u64;
        Ok(count)
    }
}

fn writing(path: &Path) -> PortError {
    PortError::new(
        PortErrorKind::Failed,
        format!("cannot write {}", path.display()),
    )
    .with_next_step("Make room on the data partition.")
}

fn disk(error: DiskError) -> PortError {
    let next_step = error.next_step();
    let kind = match error.kind() {
        boot_disk::ErrorKind::NotFound => PortErrorKind::NotFound,
        boot_disk::ErrorKind::Full => PortErrorKind::Exhausted,
        boot_disk::ErrorKind::Damaged => PortErrorKind::Invalid,
        _ => PortErrorKind::Failed,
    };
    PortError::new(kind, error.to_string())
        .with_source(error)
        .with_next_step(next_step)
}

fn unexpected(answer: &Answer) -> PortError {
    PortError::new(
        PortErrorKind::Failed,
        format!("the host's first process answered something unexpected: {answer:?}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_is_installed_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let program = vec![7; 3 << 20];
        let packed = zstd::encode_all(&program[..], 3).unwrap();
        let digest = Sha256Digest::of(&program);
        let put = |packed: &[u8], size: usize, digest| {
            install(
                folder.path(),
                &mut &packed[..],
                size as u64,
                digest,
                &mut |_| {},
            )
        };
        put(&packed, program.len(), digest).unwrap();
        assert!(fs::read(folder.path().join("ashlard")).unwrap() == program);
        for (packed, size, digest, said) in [
            (
                &packed[..packed.len() / 2],
                program.len(),
                digest,
                "stopped coming",
            ),
            (&packed[..], 100, digest, "more than the manifest says"),
            (
                &packed[..],
                program.len(),
                Sha256Digest::of(b"other"),
                "SHA-256",
            ),
        ] {
            let error = put(packed, size, digest).unwrap_err();
            assert!(error.message.contains(said), "{}", error.message);
            assert!(!folder.path().join("ashlard.part").exists());
        }
        assert!(
            fs::read(folder.path().join("ashlard")).unwrap() == program,
            "the old one stays"
        );
    }
}
