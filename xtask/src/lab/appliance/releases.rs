//! The releases that scenarios need, made of the same parts: a first one, a better one, and those that must not survive.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use image_build::{Built, Root};
use image_format::ArtifactKind;

use crate::command::Invocation;
use crate::image::{Edition, Materials, SecureBoot, mib};
use crate::lab::linux_guest;
use crate::{paths, progress, targets};

/// Compression that is quick: these images are read once.
const LEVEL: i32 = 3;
/// A daemon that never answers.
const HANGS: &str = "#include <unistd.h>\nint main(void) { for (;;) pause(); }\n";

/// A daemon that stops its parent, the first process, as a debugger would (ptrace(2)), and holds it there.
const STOPS_ITS_PARENT: &str = "#include <sys/ptrace.h>\n#include <unistd.h>\nint main(void) { ptrace(PTRACE_ATTACH, getppid(), 0, 0); for (;;) pause(); }\n";

/// All of them.
pub struct Releases {
    /// What is flashed.
    pub first: Built,
    /// Good, and from then on nothing older is taken.
    pub better: Built,
    /// Its kernel finds no first process.
    pub panics: Built,
    /// Its daemon does nothing.
    pub hangs: Built,
    /// Its first process stands still as soon as the daemon is started.
    pub stands_still: Built,
    /// One of its policies is broken.
    pub unwell: Built,
    /// The first one, signed for Secure Boot by Debian's public test key.
    pub signed: Built,
    /// The guest: a kernel and an initramfs.
    pub guest: (PathBuf, PathBuf),
    /// The unikernel.
    pub probe: PathBuf,
}

impl Releases {
    /// Builds them.
    pub fn build() -> Result<Self> {
        let materials = Materials::gather("lab", None, None)?;
        let dir = paths::out_dir("lab/releases")?;
        progress::quiet_step("build the releases of the lab", || {
            let hangs = program(&dir, "hangs", HANGS)?;
            let stops = program(&dir, "stops", STOPS_ITS_PARENT)?;
            let make =
                |version: &str, command_line: &str, security: u32, change: &dyn Fn(&mut Root)| {
                    let edition = Edition {
                        version,
                        security_version: security,
                        minimum_security_version: if security > 2 { 3 } else { 0 },
                        command_line,
                        level: LEVEL,
                        everything: version == "0.1.0",
                    };
                    materials.build(&edition, &dir.join(version), change)
                };
            let first = make("0.1.0", "", 2, &|_| {})?;
            let again = materials.build(
                &Edition {
                    version: "0.1.0",
                    security_version: 2,
                    minimum_security_version: 0,
                    command_line: "",
                    level: LEVEL,
                    everything: true,
                },
                &dir.join("again"),
                |_| {},
            )?;
            ensure!(
                first.manifest == again.manifest,
                "two builds of the same inputs differ: {:?} and {:?}",
                first.manifest,
                again.manifest
            );
            Ok(Self {
                better: make("0.2.0", "", 3, &|_| {})?,
                panics: make("0.3.0", "rdinit=/nonexistent", 3, &|_| {})?,
                hangs: make("0.4.0", "", 3, &|root| instead_of_daemon(root, &hangs))?,
                stands_still: make("0.6.0", "", 3, &|root| instead_of_daemon(root, &stops))?,
                unwell: make("0.5.0", "", 3, &|root| {
                    root.archive.file(
                        "/usr/share/ashlar/plugins/scheduler-basic.wasm",
                        0o644,
                        b"no component".to_vec(),
                    );
                })?,
                signed: {
                    let signing = Materials::gather("lab", None, Some(test_key(&dir)?))?;
                    let edition = Edition {
                        version: "0.1.0",
                        security_version: 2,
                        minimum_security_version: 0,
                        command_line: "",
                        level: LEVEL,
                        everything: true,
                    };
                    signing.build(&edition, &dir.join("signed"), |_| {})?
                },
                guest: linux_guest::guest_parts()?,
                probe: targets::build(targets::Options::default())?.probe,
                first,
            })
        })
    }

    /// Path of a release's file.
    pub fn file(&self, of: &Built, kind: ArtifactKind) -> Result<PathBuf> {
        let artifact = of
            .manifest
            .artifact(kind)
            .with_context(|| format!("{} has no {kind:?}", of.manifest.version))?;
        Ok(of.manifest_file.with_file_name(&artifact.file))
    }

    /// What the image costs.
    pub fn figures(&self) -> String {
        let size = |kind| {
            self.first
                .manifest
                .artifact(kind)
                .map_or(0, |artifact| artifact.size)
        };
        format!(
            "image: {:.1} MiB compressed (lab, quickly; goal 40), update {:.1} MiB, {} files, {} MiB unpacked; two builds: the same bytes",
            mib(size(ArtifactKind::Disk)),
            mib(size(ArtifactKind::Uki)),
            self.first.files_in_root,
            self.first.root_bytes >> 20
        )
    }
}

/// The key that Debian's firmware for tests knows; everybody has it.
fn test_key(dir: &Path) -> Result<SecureBoot> {
    let key = dir.join("test.key");
    Invocation::new("openssl")
        .args([
            "rsa",
            "-in",
            "/usr/share/ovmf/PkKek-1-snakeoil.key",
            "-passin",
            "pass:snakeoil",
            "-out",
        ])
        .arg(&key)
        .read()?;
    Ok(SecureBoot {
        key,
        certificate: PathBuf::from("/usr/share/ovmf/PkKek-1-snakeoil.pem"),
    })
}

/// The first process is the true one; the daemon that it starts is another program.
fn instead_of_daemon(root: &mut Root, program: &[u8]) {
    let daemon = root
        .archive
        .files()
        .find(|(path, _)| *path == "usr/bin/ashlard")
        .map(|(_, data)| data.to_vec());
    root.archive
        .file("/usr/bin/first", 0o755, daemon.unwrap_or_default());
    root.archive.link("/init", "usr/bin/first");
    root.archive
        .file("/usr/bin/ashlard", 0o755, program.to_vec());
}

fn program(dir: &Path, name: &str, text: &str) -> Result<Vec<u8>> {
    let (source, program) = (dir.join(format!("{name}.c")), dir.join(name));
    fs::write(&source, text).context("cannot write a program")?;
    Invocation::new("cc")
        .args(["-static", "-O1", "-o"])
        .args([&program, &source])
        .read()?;
    fs::read(&program).context("cc wrote nothing")
}
