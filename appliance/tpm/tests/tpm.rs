//! Against `swtpm`, a TPM 2.0 in software (Debian package `swtpm`).

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tpm::{Blob, Error, Pcrs, Tpm, Transport};

const DEADLINE: Duration = Duration::from_secs(20);

/// A TPM with a state of its own, ended when dropped.
struct SoftTpm {
    process: Child,
    folder: TempDir,
}

impl SoftTpm {
    /// A new one; `None`, and a word about it, where there is no `swtpm`.
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        match Self::spawn(folder.path()) {
            Ok(process) => Some(Self { process, folder }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                eprintln!(
                    "sealing is not tried: there is no program `swtpm` (Debian package swtpm)"
                );
                None
            }
            Err(e) => panic!("start swtpm: {e}"),
        }
    }

    fn spawn(folder: &Path) -> io::Result<Child> {
        let path = |name: &str| folder.join(name).display().to_string();
        let _ = std::fs::remove_file(folder.join("server"));
        Command::new("swtpm")
            .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
            .args(["--tpmstate", &format!("dir={}", folder.display())])
            .args(["--server", &format!("type=unixio,path={}", path("server"))])
            .args(["--ctrl", &format!("type=unixio,path={}", path("ctrl"))])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
    }

    /// As after the machine was switched off and on.
    fn restart(&mut self) {
        self.process.kill().expect("end swtpm");
        self.process.wait().expect("end swtpm");
        self.process = Self::spawn(self.folder.path()).expect("start swtpm");
    }

    fn connect(&self) -> Tpm<Socket> {
        Tpm::new(self.socket())
    }

    fn socket(&self) -> Socket {
        let path: PathBuf = self.folder.path().join("server");
        let begun = Instant::now();
        loop {
            match UnixStream::connect(&path) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
                    return Socket(stream);
                }
                Err(e) => assert!(begun.elapsed() < DEADLINE, "swtpm does not listen: {e}"),
            }
            std::thread::yield_now();
        }
    }

    /// A measurement, by TPM2_PCR_Extend.
    fn measure(&self, register: u8, digest: [u8; 32]) {
        let auth = [0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0];
        let values = [&[0, 0, 0, 1, 0, 0x0b][..], &digest].concat();
        let body = [&[0, 0, 0, register][..], &auth, &values].concat();
        self.command(0x182, &body);
    }

    /// A command with an authorization that must succeed.
    fn command(&self, code: u32, body: &[u8]) {
        let length = u32::try_from(10 + body.len()).expect("short");
        let message = [
            &[0x80, 2][..],
            &length.to_be_bytes(),
            &code.to_be_bytes(),
            body,
        ]
        .concat();
        let response = self.socket().transact(&message).expect("an answer");
        assert_eq!(response[6..10], [0; 4], "command {code:#x}");
    }
}

impl Drop for SoftTpm {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Socket(UnixStream);

impl Transport for Socket {
    fn transact(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        self.0.write_all(command)?;
        let mut response = vec![0; 10];
        self.0.read_exact(&mut response)?;
        let length = u32::from_be_bytes([response[2], response[3], response[4], response[5]]);
        response.resize(usize::try_from(length).expect("64 bits").clamp(10, 8192), 0);
        self.0.read_exact(&mut response[10..])?;
        Ok(response)
    }
}

fn pcrs(registers: &[u8]) -> Pcrs {
    Pcrs::new(registers).expect("registers that exist")
}

#[test]
fn registers_are_read_and_follow_measurements() {
    let Some(soft) = SoftTpm::new() else { return };
    let before = soft.connect().pcrs().expect("read");
    assert_eq!(before.len(), 24);
    assert_eq!(before[&7], [0; 32]);
    soft.measure(7, [0xab; 32]);
    let after = soft.connect().pcrs().expect("read");
    let expected: [u8; 32] = Sha256::digest([[0; 32], [0xab; 32]].concat()).into();
    assert_eq!(after[&7], expected);
    assert_eq!(after[&8], before[&8]);
}

#[test]
fn a_secret_is_unsealed_until_its_registers_change() {
    let Some(mut soft) = SoftTpm::new() else {
        return;
    };
    let secrets: [&[u8]; 3] = [&[7], &[8; 32], &[9; 64]];
    let sealed = secrets.map(|secret| {
        (
            secret,
            soft.connect().seal(secret, Pcrs::DEFAULT).expect("seal"),
        )
    });
    let unseal = |soft: &SoftTpm, blob: &Blob| soft.connect().unseal(blob);
    for (secret, blob) in &sealed {
        assert_eq!(blob.pcrs(), Pcrs::DEFAULT);
        let kept = Blob::from_bytes(&blob.to_bytes()).expect("sound");
        assert_eq!(unseal(&soft, &kept).expect("unseal"), *secret);
    }
    soft.restart();
    assert_eq!(
        unseal(&soft, &sealed[1].1).expect("after a restart"),
        sealed[1].0
    );
    soft.measure(11, [1; 32]);
    assert_eq!(
        unseal(&soft, &sealed[1].1).expect("another register"),
        sealed[1].0
    );
    soft.measure(7, [1; 32]);
    for _ in 0..40 {
        let refused = unseal(&soft, &sealed[1].1);
        assert!(
            matches!(
                refused,
                Err(Error::PcrsChanged {
                    pcrs: Pcrs::DEFAULT
                })
            ),
            "{refused:?}"
        );
    }
    soft.restart();
    assert_eq!(
        unseal(&soft, &sealed[1].1).expect("as before, and never locked out"),
        sealed[1].0
    );
}

#[test]
fn a_secret_can_be_sealed_to_several_registers() {
    let Some(soft) = SoftTpm::new() else { return };
    soft.measure(0, [3; 32]);
    let blob = soft
        .connect()
        .seal(b"key", pcrs(&[0, 7, 23]))
        .expect("seal");
    assert_eq!(soft.connect().unseal(&blob).expect("unseal"), b"key");
    soft.measure(23, [3; 32]);
    let error = soft.connect().unseal(&blob).expect_err("another value");
    let text = error.to_string();
    assert!(
        text.contains("PCR 0, 7, 23") && text.contains("recovery key"),
        "{text}"
    );
}

#[test]
fn a_secret_is_bound_to_its_tpm_and_unchanged() {
    let (Some(soft), Some(other)) = (SoftTpm::new(), SoftTpm::new()) else {
        return;
    };
    let blob = soft.connect().seal(b"key", Pcrs::DEFAULT).expect("seal");
    assert!(matches!(other.connect().unseal(&blob), Err(Error::Foreign)));
    let sound = blob.to_bytes();
    for at in (9..sound.len()).step_by(13) {
        let mut damaged = sound.clone();
        damaged[at] ^= 0x10;
        if let Ok(blob) = Blob::from_bytes(&damaged) {
            assert!(soft.connect().unseal(&blob).is_err(), "byte {at}");
        }
    }
    assert_eq!(soft.connect().unseal(&blob).expect("still"), b"key");
}

#[test]
fn nothing_is_left_in_the_tpm() {
    let Some(soft) = SoftTpm::new() else { return };
    let mut tpm = soft.connect();
    // There is room for three objects and three sessions.
    for n in 0..8 {
        let blob = tpm.seal(&[n], Pcrs::DEFAULT).expect("seal");
        assert_eq!(tpm.unseal(&blob).expect("unseal"), [n]);
    }
}

#[test]
fn a_tpm_with_an_owner_is_named() {
    let Some(soft) = SoftTpm::new() else { return };
    let auth = [0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0];
    let body = [&[0x40, 0, 0, 1][..], &auth, &[0, 3], b"own"].concat();
    soft.command(0x129, &body);
    let error = soft
        .connect()
        .seal(b"key", Pcrs::DEFAULT)
        .expect_err("a password");
    assert!(matches!(error, Error::Owned), "{error:?}");
}

#[test]
fn secrets_that_do_not_fit_are_refused() {
    let Some(soft) = SoftTpm::new() else { return };
    for length in [0, 65] {
        let refused = soft.connect().seal(&vec![1; length], Pcrs::DEFAULT);
        assert!(
            matches!(refused, Err(Error::SecretLength { .. })),
            "{length} bytes"
        );
    }
}

#[test]
fn a_machine_without_tpm_is_told_so() {
    let error = tpm::Device::open(Path::new("/nonexistent/tpmrm0")).expect_err("no device");
    assert!(
        error
            .to_string()
            .contains("no TPM 2.0 at /nonexistent/tpmrm0"),
        "{error}"
    );
}
