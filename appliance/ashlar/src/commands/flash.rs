//! `ashlar flash`.

use std::{
    fs::File,
    io::{IsTerminal as _, Read as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use clap::Args;
use image_format::{ArtifactKind, Manifest};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::{
    client::Error,
    flash::{
        interrupt::Interrupt,
        release::{Release, check_file, keys, manifest_beside},
        target::Target,
        write::{Image, write},
    },
    output::Output,
    size::parse_bytes,
};

/// Write a host image onto a disk.
#[derive(Debug, Args)]
#[command(
    after_help = "The image's signature is checked before anything is written, the disk is read back afterwards. A disk on which this was \
    interrupted does not boot: flash it again.\n\n\
    Examples:\n  sudo ashlar flash --image ashlar-0.1.0-metal.img.zst --to /dev/sdb --config host.toml --pubkey release.pub\n  \
    ashlar flash --image ashlar-0.1.0-cloud.img.zst --to vm.img --size 20G --pubkey release.pub"
)]
pub struct Flash {
    /// The image, `….img.zst`; manifest and signature are beside it
    #[arg(long, value_name = "FILE")]
    image: PathBuf,
    /// The disk to erase, or a file for a virtual machine
    #[arg(long, value_name = "DEVICE|FILE")]
    to: PathBuf,
    /// The host's configuration, checked before anything is written
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// minisign public key of who made the image, or a file with such keys [default: ~/.config/ashlar/trusted-keys, /etc/ashlar/trusted-keys]
    #[arg(long, value_name = "KEY|FILE")]
    pubkey: Option<String>,
    /// Size of a file that is made, for instance 20G [default: the image's]
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    size: Option<u64>,
    /// Erase without asking
    #[arg(long)]
    yes: bool,
}

#[derive(Serialize)]
struct Flashed {
    target: String,
    version: String,
    variant: String,
    bytes: u64,
    configured: bool,
}

impl Flash {
    /// Does it.
    pub fn execute(self, output: &Output) -> Result<(), Error> {
        let manifest = manifest_beside(&self.image).ok_or_else(|| {
            Error::Usage(format!(
                "{} is no host image: expected a file called ….img.zst",
                self.image.display()
            ))
        })?;
        let release = Release::verified(&manifest, &keys(self.pubkey.as_deref())?)?;
        let (artifact, _) = release.file(ArtifactKind::Disk)?;
        let (Some(raw_size), Some(raw_sha256)) = (artifact.raw_size, artifact.raw_sha256) else {
            return Err(Error::Failed(
                "the release does not say what its disk image unpacks to".into(),
            ));
        };
        let configuration = self.config.as_deref().map(configuration).transpose()?;
        if same_file(&self.image, &self.to) {
            return Err(Error::Usage("--image and --to are the same file".into()));
        }
        let target = Target::examine(&self.to, raw_size, self.size)?;
        let bar = bar(output, "checking", artifact.size);
        check_file(&self.image, artifact, &|bytes| bar.inc(bytes))?;
        bar.finish_and_clear();
        self.confirm(&target, &release.manifest)?;
        let file = target.open()?;
        let opening = || format!("cannot read {}", self.image.display());
        let packed = File::open(&self.image).map_err(Error::local(opening()))?;
        let mut content = zstd::Decoder::new(packed).map_err(Error::local(opening()))?;
        // Written once, read back once.
        let bar = self::bar(output, "writing", 2 * raw_size);
        let image = Image {
            content: &mut content,
            size: raw_size,
            sha256: raw_sha256,
            configuration: configuration.as_deref(),
        };
        let interrupt = Interrupt::watch().map_err(Error::local("cannot watch for Ctrl-C"))?;
        let written = write(&file, target.size, image, target.is_disk, &|bytes| {
            bar.inc(bytes);
            if bar.position() == raw_size {
                bar.set_message("verifying");
            }
            if interrupt.asked() {
                return Err(Error::Failed(format!(
                    "interrupted: {} holds a part of the image and does not boot; give the same command again to flash it from the beginning",
                    self.to.display()
                )));
            }
            Ok(())
        });
        bar.finish_and_clear();
        written?;
        let flashed = Flashed {
            target: self.to.display().to_string(),
            version: release.manifest.version.clone(),
            variant: release.manifest.variant.to_string(),
            bytes: raw_size,
            configured: configuration.is_some(),
        };
        output.answer(&flashed, |flashed| {
            format!(
                "{} holds Ashlar {} ({}){}; boot from it, and read address, fingerprint and token from its screen",
                flashed.target,
                flashed.version,
                flashed.variant,
                if flashed.configured { ", with its configuration" } else { "" }
            )
        })
    }

    /// Shows what will be lost, and asks.
    fn confirm(&self, target: &Target, manifest: &Manifest) -> Result<(), Error> {
        if target.contents.is_empty() || self.yes {
            return Ok(());
        }
        eprintln!(
            "Ashlar {} ({}) will replace everything on {}:",
            manifest.version,
            manifest.variant,
            self.to.display()
        );
        for line in &target.contents {
            eprintln!("  {line}");
        }
        if !std::io::stdin().is_terminal() {
            return Err(Error::Usage(format!(
                "{} holds something, and nobody can be asked: give --yes if it may be erased",
                self.to.display()
            )));
        }
        eprint!("Type {} to erase it: ", self.to.display());
        let _ = std::io::stderr().flush();
        let mut answer = String::new();
        std::io::stdin()
            .read_line(&mut answer)
            .map_err(Error::local("cannot read the answer"))?;
        if answer.trim() != self.to.to_string_lossy() {
            return Err(Error::Failed("nothing was written".into()));
        }
        Ok(())
    }
}

fn same_file(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| path.metadata().ok().map(|found| (found.dev(), found.ino()));
    identity(one).is_some_and(|one| identity(other) == Some(one))
}

fn configuration(path: &Path) -> Result<String, Error> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| {
            // One byte more than may be: what is too long is told, not cut off.
            file.take(host_config::MAX_BYTES as u64 + 1)
                .read_to_string(&mut text)
        })
        .map_err(Error::local(format!("cannot read {}", path.display())))?;
    host_config::parse(&text, &path.to_string_lossy())
        .map_err(|error| Error::Failed(error.to_string()))?;
    Ok(text)
}

fn bar(output: &Output, what: &'static str, length: u64) -> ProgressBar {
    let target = if output.talks() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(Some(length), target);
    let style = ProgressStyle::with_template(
        "{msg:10} [{bar:30}] {bytes}/{total_bytes} at {bytes_per_sec}, {eta} left",
    );
    if let Ok(style) = style {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_message(what);
    bar
}
