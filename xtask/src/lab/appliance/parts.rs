//! What a machine is made of, and the folder where that is.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::paths;

const VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/// What a machine is made of.
#[derive(Default)]
pub struct Parts {
    /// Disks, the first one is booted from.
    pub disks: Vec<Disk>,
    /// Virtual media.
    pub iso: Option<PathBuf>,
    /// A kernel and an initramfs started directly, with a command line.
    pub kernel: Option<(PathBuf, PathBuf, String)>,
    /// Its network cards and what they are plugged into.
    pub network: Network,
    /// Writes to the first disk are logged here.
    pub log_writes: Option<PathBuf>,
    /// Whether only images signed by Debian's public test key boot.
    pub secure_boot: bool,
    /// The folder of a TPM's state: it has one then.
    pub tpm: Option<PathBuf>,
}

/// The network of a machine.
#[derive(Default)]
pub enum Network {
    /// One card.
    #[default]
    One,
    /// No card.
    None,
    /// Two cards on one switch, with the hardware addresses [`CARDS`].
    Two,
    /// One card that the firmware boots from: a folder of files, and the one that boots.
    Boot(PathBuf, String),
}

/// Hardware addresses of [`Network::Two`].
pub const CARDS: [&str; 2] = ["52:54:00:00:00:01", "52:54:00:00:00:02"];

impl Network {
    /// What the emulator is told; `port` of this machine leads to the API.
    pub(super) fn arguments(&self, port: u16) -> Vec<String> {
        let user = format!("user,id=n0,hostfwd=tcp:127.0.0.1:{port}-:7443");
        let card = |on: &str, more: &str| format!("virtio-net-pci,netdev={on},romfile={more}");
        let told = match self {
            Self::None => Vec::new(),
            Self::One => vec![("-netdev", user), ("-device", card("n0", ""))],
            Self::Two => {
                let port = |id: &str, to: &str| format!("hubport,id={id},hubid=0{to}");
                vec![
                    ("-netdev", user),
                    ("-netdev", port("h0", ",netdev=n0")),
                    ("-netdev", port("h1", "")),
                    ("-netdev", port("h2", "")),
                    ("-device", card("h1", &format!(",mac={}", CARDS[0]))),
                    ("-device", card("h2", &format!(",mac={}", CARDS[1]))),
                ]
            }
            Self::Boot(folder, file) => {
                let user = format!("{user},tftp={},bootfile={file}", folder.display());
                vec![("-netdev", user), ("-device", card("n0", ",bootindex=0"))]
            }
        };
        told.into_iter()
            .flat_map(|(option, value)| [option.to_owned(), value])
            .collect()
    }
}

/// A disk of a machine.
pub struct Disk {
    /// Its file.
    pub file: PathBuf,
    /// Its serial number.
    pub serial: String,
}

impl Disk {
    pub fn new(file: &Path) -> Self {
        let serial = file
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        Self {
            file: file.to_owned(),
            serial,
        }
    }
}

/// A folder for one scenario, taken away when it went well.
pub struct Stage {
    pub dir: PathBuf,
}

impl Stage {
    pub fn new(name: &str) -> Result<Self> {
        let dir = paths::out_dir("lab")?.join(name);
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        fs::copy(VARIABLES, dir.join("vars.fd"))
            .context("cannot copy the firmware's variables: install ovmf")?;
        Ok(Self { dir })
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A disk of zeros.
    pub fn blank(&self, name: &str, size: u64) -> Result<PathBuf> {
        let path = self.file(name);
        let file =
            fs::File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
        file.set_len(size)?;
        Ok(path)
    }

    /// Takes the large files away; consoles stay.
    pub fn clean(self) {
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            if entry
                .path()
                .extension()
                .is_none_or(|extension| extension != "log")
            {
                let _ = fs::remove_file(entry.path());
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}
