//! `ashlar images`.

use std::path::PathBuf;

use api_types::{CreateImage, Image, ImagePart, ImagePartKind};
use clap::{Args, Subcommand};

use super::upload::upload;
use crate::{
    cli::Admission,
    client::{Client, Error},
    output::{Column, Output, age_now, facts, or_dash},
};

const COLUMNS: &[Column<Image>] = &[
    Column("ID", |i| i.id.clone()),
    Column("NAME", |i| i.name.clone()),
    Column("STATE", |i| i.state.as_str().into()),
    Column("PARTS", |i| {
        let kinds: Vec<&str> = i.parts.iter().map(|part| part.kind.as_str()).collect();
        or_dash((!kinds.is_empty()).then(|| kinds.join("+")).as_ref())
    }),
    Column("SIZE", |i| {
        size(
            i.parts
                .iter()
                .map(|part| part.size_bytes)
                .fold(0, u64::saturating_add),
        )
    }),
    Column("AGE", |i| age_now(&i.created_at)),
];

fn size(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

/// Images: what instances boot.
#[derive(Debug, Subcommand)]
pub enum Images {
    /// List images
    Ls,
    /// Bring an image: a kernel, and what it needs
    Import(Import),
    /// Show everything about one image
    Show {
        /// The image
        id: String,
    },
    /// Delete images; disks made from them stay
    Rm {
        /// The images
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
    /// Show what a host image is: a file of this machine, as `ashlar flash` takes it
    Inspect(super::inspect::Inspect),
}

/// Bring an image.
#[derive(Debug, Args)]
#[command(
    after_help = "Each part's SHA-256 is computed on both sides, and the image is only completed if they agree.\n\nExamples:\n  ashlar images import --name probe --kernel probe.elf\n  ashlar images import --name debian --kernel vmlinuz --initrd initrd.img --disk debian.raw --cmdline 'console=ttyS0 root=/dev/vda1'"
)]
pub struct Import {
    /// Its name
    #[arg(long)]
    name: String,
    /// For people: what it is
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// The kernel: an ELF with a PVH entry, or a Linux bzImage
    #[arg(long, value_name = "FILE")]
    kernel: PathBuf,
    /// An initial RAM disk for the kernel
    #[arg(long, value_name = "FILE")]
    initrd: Option<PathBuf>,
    /// What the system disk starts as: a raw disk image
    #[arg(long, value_name = "FILE")]
    disk: Option<PathBuf>,
    /// The kernel command line of every instance made from it
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    cmdline: Option<String>,
    #[command(flatten)]
    admission: Admission,
}

impl Images {
    /// Does it.
    pub async fn execute(self, client: &Client, output: &Output) -> Result<(), Error> {
        match self {
            Self::Ls => {
                let page = client.list::<Image>("/v1/images").await?;
                output.list(&page, &page.items, |i| i.id.clone(), COLUMNS)
            }
            Self::Import(import) => import.execute(client, output).await,
            Self::Show { id } => {
                let image: Image = client.get(&super::item("images", &id)).await?;
                output.answer(&image, describe)
            }
            Self::Rm { ids } => super::remove(client, output, "images", &ids).await,
            Self::Inspect(inspect) => inspect.execute(output),
        }
    }
}

impl Import {
    async fn execute(self, client: &Client, output: &Output) -> Result<(), Error> {
        let parts = [
            (ImagePartKind::Kernel, Some(&self.kernel)),
            (ImagePartKind::Initrd, self.initrd.as_ref()),
            (ImagePartKind::Disk, self.disk.as_ref()),
        ];
        // Every file is opened before anything is made at the host.
        let mut files = Vec::new();
        for (kind, path) in parts {
            if let Some(path) = path {
                let what = format!("cannot read the {} {}", kind.as_str(), path.display());
                let file = std::fs::File::open(path).map_err(Error::local(what.clone()))?;
                let length = file.metadata().map_err(Error::local(what))?.len();
                files.push((kind, path.clone(), file, length));
            }
        }
        let request = CreateImage {
            name: self.name,
            description: self.description,
            cmdline: self.cmdline,
            client_token: self.admission.client_token,
            dry_run: self.admission.dry_run,
        };
        let image: Image = client.post("/v1/images", &request).await?;
        if image.state == api_types::ImageState::Available {
            // The answer to a repeated request (its token was seen before): the image is complete already.
            return super::created(output, &image, &image.id, COLUMNS);
        }
        let path = super::item("images", &image.id);
        let sent = async {
            for (kind, file_path, file, length) in files {
                let part_path = format!("{path}/{}", kind.as_str());
                let (part, sha256): (ImagePart, String) =
                    upload(client, output, &part_path, &file_path, file, length).await?;
                if part.sha256 != sha256 {
                    return Err(Error::Failed(format!(
                        "the {} arrived as {} but was sent as {sha256}: it was damaged on the way or changed meanwhile",
                        kind.as_str(),
                        part.sha256
                    )));
                }
            }
            client
                .post::<Image>(&format!("{path}/complete"), &serde_json::json!({}))
                .await
        };
        match sent.await {
            Ok(image) => super::created(output, &image, &image.id, COLUMNS),
            Err(error) => {
                // Half an image is of no use to anyone; the first error is the one to tell.
                let _ = client.delete(&path).await;
                Err(error)
            }
        }
    }
}

fn describe(i: &Image) -> String {
    let parts: Vec<String> = i
        .parts
        .iter()
        .map(|part| {
            format!(
                "{} {}, sha256 {}",
                part.kind.as_str(),
                size(part.size_bytes),
                part.sha256
            )
        })
        .collect();
    facts(&[
        ("id", i.id.clone()),
        ("name", i.name.clone()),
        ("description", i.description.clone().unwrap_or_default()),
        ("state", i.state.as_str().into()),
        (
            "reason",
            i.state_reason
                .as_ref()
                .map_or_else(String::new, |reason| reason.message.clone()),
        ),
        (
            "boots as",
            match i.boot_protocol {
                Some(api_types::BootProtocol::Pvh) => "ELF with a PVH entry".into(),
                Some(api_types::BootProtocol::Linux) => "Linux bzImage".into(),
                None => String::new(),
            },
        ),
        ("parts", parts.join("\n")),
        ("cmdline", i.cmdline.clone().unwrap_or_default()),
        ("created", i.created_at.clone()),
    ])
}
