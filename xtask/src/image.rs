//! `cargo xtask image`: brings the builder of the host image what it needs, and shows what it made.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use image_build::{
    BuildError, Built, Ingredient, Inputs, Kernel, Root, RootInputs, SignEfi, SigningKey,
    VariantFile,
};
use image_format::{ArtifactKind, Release};
use types::Sha256Digest;

use crate::command::Invocation;
use crate::firmware::Firmware;
use crate::packages::{self, Suite};
use crate::setup::{self, Purpose};
use crate::{build, paths, progress, targets};

/// What is built.
#[derive(Args)]
pub struct Options {
    /// Which hardware it is for: metal, cloud, lab, or a file with a variant of one's own.
    #[arg(long, default_value = "metal")]
    pub variant: String,
    /// The folder of the release [default: target/ashlar/image]
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Version of the release [default: the product's]
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"))]
    pub version: String,
    /// Rises when older images must not come back.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub security_version: u32,
    /// The least security version that a host takes once this release was found good [default: none is refused]
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub minimum_security_version: u32,
    /// A folder laid out as /lib/firmware; what the image's drivers ask for is taken from it. May be given again.
    #[arg(long, value_name = "FOLDER")]
    pub firmware: Vec<PathBuf>,
    /// minisign secret key, without a password, that signs the release [default: a developer's key made once in target/ashlar/keys]
    #[arg(long, value_name = "FILE")]
    pub sign_key: Option<PathBuf>,
    /// Private key, PEM, that signs loader and image for Secure Boot.
    #[arg(long, value_name = "FILE", requires = "secure_boot_cert")]
    pub secure_boot_key: Option<PathBuf>,
    /// Its certificate, PEM, which is enrolled in the firmware.
    #[arg(long, value_name = "FILE", requires = "secure_boot_key")]
    pub secure_boot_cert: Option<PathBuf>,
    /// Added to the kernel's command line.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub command_line: String,
    /// How hard to compress, 1 to 19.
    #[arg(long, default_value_t = 19, value_parser = clap::value_parser!(i32).range(1..=19))]
    pub level: i32,
}

/// What every image of a variant is made of: files of packages and of this build.
pub struct Materials {
    /// The variant.
    pub variant: VariantFile,
    kernel: Kernel,
    stub: PathBuf,
    boot_loader: PathBuf,
    daemon: PathBuf,
    first: PathBuf,
    plugins: Vec<PathBuf>,
    programs: BTreeMap<String, PathBuf>,
    firmware: BTreeMap<String, PathBuf>,
    ingredients: Vec<Ingredient>,
    sign: Option<Box<SignEfi>>,
    state_schema: u64,
    epoch: u64,
    /// What signs.
    pub key: SigningKey,
}

/// Key and certificate for Secure Boot, PEM files.
pub struct SecureBoot {
    /// The private key.
    pub key: PathBuf,
    /// Its certificate, which the firmware knows.
    pub certificate: PathBuf,
}

/// How one image differs from others of the same materials.
pub struct Edition<'a> {
    /// Version of the release.
    pub version: &'a str,
    /// See [`Options::security_version`].
    pub security_version: u32,
    /// See [`Options::minimum_security_version`].
    pub minimum_security_version: u32,
    /// Added to the command line.
    pub command_line: &'a str,
    /// How hard to compress.
    pub level: i32,
    /// Whether everything is made, not only what an update needs.
    pub everything: bool,
}

/// Builds a release and shows it.
pub fn run(options: Options) -> Result<()> {
    setup::ensure(&[Purpose::Build, Purpose::Image])?;
    let secure_boot = match (options.secure_boot_key, options.secure_boot_cert) {
        (Some(key), Some(certificate)) => Some(SecureBoot { key, certificate }),
        _ => None,
    };
    let mut materials =
        Materials::gather(&options.variant, options.sign_key.as_deref(), secure_boot)?;
    materials.add_firmware(&options.firmware)?;
    let out = match options.out {
        Some(out) => out,
        None => paths::out_dir("image")?,
    };
    let edition = Edition {
        version: &options.version,
        security_version: options.security_version,
        minimum_security_version: options.minimum_security_version,
        command_line: &options.command_line,
        level: options.level,
        everything: true,
    };
    let built = progress::quiet_step("build the image", || {
        materials.build(&edition, &out, |_| {})
    })?;
    show(&built);
    materials.show(&built);
    Ok(())
}

/// The goals for the compressed disk image of a variant, MiB.
const GOALS: &[(&str, u64)] = &[("metal", 64), ("cloud", 64), ("lab", 40)];

impl Materials {
    /// Builds the daemon and its policies, and gets the packages of a variant.
    pub fn gather(
        variant: &str,
        sign_key: Option<&Path>,
        secure_boot: Option<SecureBoot>,
    ) -> Result<Self> {
        let variant = if variant.ends_with(".toml") {
            let text = std::fs::read_to_string(variant)
                .with_context(|| format!("cannot read the variant {variant}"))?;
            VariantFile::parse(&text)?
        } else {
            VariantFile::known(variant)?
        };
        let plugins = targets::build(targets::Options::default())?.plugins;
        build::programs()?;
        let (kernel, kernel_package) = packages::kernel(&variant.kernel_package, Suite::Backports)?;
        let boot = packages::unpacked("systemd-boot-efi")?;
        let boot_package = boot.name;
        let boot = boot.root.join("usr/lib/systemd/boot/efi");
        let ashlard = paths::program("ashlard");
        let epoch = epoch()?;
        let programs: BTreeMap<String, PathBuf> = variant
            .programs
            .iter()
            .filter_map(|name| Some((name.clone(), paths::find_program(name)?)))
            .collect();
        let ingredients = ingredients(
            &variant,
            &ashlard,
            &programs,
            &[kernel_package, boot_package],
        )?;
        let state_schema = Invocation::new(&ashlard).args(["state", "schema"]).read()?;
        Ok(Self {
            programs,
            firmware: BTreeMap::new(),
            ingredients,
            sign: secure_boot.map(|files| signer(files, epoch)).transpose()?,
            stub: boot.join("linuxx64.efi.stub"),
            boot_loader: boot.join("systemd-bootx64.efi"),
            daemon: stripped("ashlard")?,
            first: stripped("ashlar-initramfs")?,
            state_schema: state_schema
                .trim()
                .parse()
                .context("the daemon does not tell its schema")?,
            key: signing_key(sign_key)?,
            epoch,
            variant,
            kernel,
            plugins,
        })
    }

    /// Adds the firmware that the drivers ask for, from folders laid out as /lib/firmware; says what is in none of them.
    fn add_firmware(&mut self, folders: &[PathBuf]) -> Result<()> {
        let modules = self.kernel.files(&self.variant.all_modules(&self.kernel))?;
        let firmware = Firmware::gather(&modules, folders)?;
        if let Some(note) = firmware.note() {
            progress::note(note);
        }
        for (name, file) in &firmware.found {
            let content =
                std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            self.ingredients.push(Ingredient {
                ecosystem: "generic",
                name: name.clone(),
                version: Sha256Digest::of(&content).to_string(),
            });
        }
        self.firmware = firmware.found;
        Ok(())
    }

    /// What the image consists of, and whether it is as small as it is meant to be.
    fn show(&self, built: &Built) {
        let count = |ecosystem: &str| {
            let of = self
                .ingredients
                .iter()
                .filter(|part| part.ecosystem == ecosystem);
            of.map(|part| format!("{} {}", part.name, part.version))
                .collect::<BTreeSet<_>>()
        };
        let packages = count("deb");
        println!(
            "\n{} Debian packages, {} crates, {} firmware files:",
            packages.len(),
            count("cargo").len(),
            self.firmware.len()
        );
        for package in packages {
            println!("  {package}");
        }
        let goal = GOALS
            .iter()
            .find(|(name, _)| *name == self.variant.name.as_str());
        let disk = built.manifest.artifact(ArtifactKind::Disk);
        if let (Some((_, goal)), Some(disk)) = (goal, disk) {
            let verdict = if disk.size <= goal << 20 {
                "met"
            } else {
                "NOT met"
            };
            println!(
                "disk image {:.1} MiB compressed (goal {goal} MiB: {verdict})",
                mib(disk.size)
            );
        }
    }

    /// Builds one release of these materials into `out`.
    pub fn build(
        &self,
        edition: &Edition<'_>,
        out: &Path,
        change: impl FnOnce(&mut Root),
    ) -> Result<Built> {
        let release = Release {
            version: edition.version.to_owned(),
            variant: self.variant.name.clone(),
            security_version: edition.security_version,
            state_schema: self.state_schema,
        };
        let inputs = Inputs {
            variant: &self.variant,
            kernel: &self.kernel,
            root: RootInputs {
                kernel: &self.kernel,
                variant: &self.variant,
                daemon: self.daemon.clone(),
                first: self.first.clone(),
                programs: self.programs.clone(),
                firmware: self.firmware.clone(),
                library_folders: packages::library_folders(),
                plugins: self.plugins.clone(),
                trusted_keys: format!("{}\n", self.key.public()?),
                release: release.clone(),
                clock_floor: self.epoch,
            },
            stub: self.stub.clone(),
            boot_loader: self.boot_loader.clone(),
            more_command_line: edition.command_line.to_owned(),
            release,
            minimum_security_version: edition.minimum_security_version,
            source_date_epoch: self.epoch,
            level: edition.level,
            everything: edition.everything,
            ingredients: self.ingredients.clone(),
            sign: self.sign.as_deref(),
        };
        Ok(image_build::build(&inputs, &self.key, out, change)?)
    }
}

/// What of whom is in an image: the packages that files came from, and the crates of the daemon.
fn ingredients(
    variant: &VariantFile,
    daemon: &Path,
    programs: &BTreeMap<String, PathBuf>,
    unpacked: &[String],
) -> Result<Vec<Ingredient>> {
    let deb = |name: &str, version: &str| Ingredient {
        ecosystem: "deb",
        name: name.to_owned(),
        version: version.to_owned(),
    };
    let mut all: Vec<Ingredient> = unpacked
        .iter()
        .filter_map(|file| {
            let mut parts = file.split('_');
            Some(deb(parts.next()?, parts.next()?))
        })
        .collect();
    let folders = packages::library_folders();
    let mut files: BTreeMap<String, PathBuf> = image_build::needed(daemon, &folders)?;
    for name in &variant.programs {
        if let Some(program) = programs.get(name) {
            files.insert(name.clone(), program.clone());
            files.extend(image_build::needed(program, &folders)?);
        }
    }
    for file in files.values() {
        if let Some((name, version)) = packages::owner(file) {
            all.push(deb(&name, &version));
        }
    }
    all.extend(crates()?);
    Ok(all)
}

/// Every crate that is linked into the daemon.
fn crates() -> Result<Vec<Ingredient>> {
    let tree = Invocation::new(paths::cargo())
        .args([
            "tree",
            "--package",
            "ashlard",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])
        .dir(paths::root())
        .read()?;
    let parsed = tree.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        Some(Ingredient {
            ecosystem: "cargo",
            name: words.next()?.to_owned(),
            version: words.next()?.strip_prefix('v')?.to_owned(),
        })
    });
    Ok(parsed.collect())
}

/// Signs with osslsigncode, which takes the time of signing from us: the same inputs give the same signature.
fn signer(files: SecureBoot, epoch: u64) -> Result<Box<SignEfi>> {
    if paths::find_program("osslsigncode").is_none() {
        setup::install(&["osslsigncode"])?;
    }
    Ok(Box::new(move |program| {
        let sign = || -> Result<Vec<u8>> {
            let folder = tempfile::tempdir().context("cannot create a temporary folder")?;
            let (plain, signed) = (
                folder.path().join("plain.efi"),
                folder.path().join("signed.efi"),
            );
            std::fs::write(&plain, program).context("cannot write a temporary file")?;
            Invocation::new("osslsigncode")
                .args(["sign", "-h", "sha256", "-time", &epoch.to_string()])
                .arg("-certs")
                .arg(&files.certificate)
                .arg("-key")
                .arg(&files.key)
                .arg("-in")
                .arg(&plain)
                .arg("-out")
                .arg(&signed)
                .read()?;
            std::fs::read(&signed).context("osslsigncode wrote nothing")
        };
        sign().map_err(|error| BuildError::new(format!("cannot sign for Secure Boot: {error:#}")))
    }))
}

/// A program without debugging information, beside the lab's other files.
fn stripped(program: &str) -> Result<PathBuf> {
    let to = paths::out_dir("image-parts")?.join(program);
    Invocation::new("strip")
        .arg("-o")
        .args([&to, &paths::program(program)])
        .read()?;
    Ok(to)
}

/// The time the inputs are of: SOURCE_DATE_EPOCH, or that of the newest commit.
fn epoch() -> Result<u64> {
    if let Ok(text) = std::env::var("SOURCE_DATE_EPOCH") {
        return text.parse().with_context(|| {
            format!("SOURCE_DATE_EPOCH is {text:?}, and must be seconds since 1970")
        });
    }
    let text = Invocation::new("git")
        .args(["log", "-1", "--format=%ct"])
        .dir(paths::root())
        .read()?;
    text.trim()
        .parse()
        .context("git does not tell the time of the newest commit")
}

/// The key that signs: the one given, or a developer's own.
fn signing_key(given: Option<&Path>) -> Result<SigningKey> {
    let file = match given {
        Some(file) => file.to_owned(),
        None => {
            let file = paths::out_dir("keys")?.join("developer.key");
            if !file.exists() {
                write_private(&file, &SigningKey::generate()?)?;
            }
            progress::note(format!(
                "signed with the developer's key {}: hosts of others do not trust it",
                file.display()
            ));
            file
        }
    };
    let text = std::fs::read_to_string(&file)
        .with_context(|| format!("cannot read the key {}", file.display()))?;
    Ok(SigningKey::parse(&text)?)
}

fn write_private(file: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .and_then(|mut to| to.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write the key {}", file.display()))
}

/// Bytes as MiB, exact enough for people.
pub fn mib(bytes: u64) -> f64 {
    #[allow(clippy::cast_precision_loss)]
    let kib = (bytes >> 10) as f64;
    kib / 1024.0
}

fn show(built: &Built) {
    println!("{:<44} {:>12}  SHA-256", "FILE", "BYTES");
    for artifact in &built.manifest.artifacts {
        println!(
            "{:<44} {:>12}  {}",
            artifact.file, artifact.size, artifact.sha256
        );
    }
    println!(
        "\n{} files in the image's root, {} MiB unpacked; kernel {}",
        built.files_in_root,
        built.root_bytes >> 20,
        built.manifest.kernel
    );
    println!("signed manifest: {}", built.manifest_file.display());
}
