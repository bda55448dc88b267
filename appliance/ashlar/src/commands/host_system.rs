//! `ashlar host …`: the machine under a host's daemon.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use api_types::{
    HostConfiguration, HostSystem, HostUpdate, NewHostUpdate, Page, PushHostConfiguration,
    UnlockHost,
};
use clap::{Args, Subcommand, ValueEnum};
use image_format::{ArtifactKind, Manifest, layout};

use super::upload;
use crate::{
    client::{Client, Error},
    output::{Output, facts},
};

/// How often a host is asked while it is waited for.
const PAUSE: Duration = Duration::from_millis(500);

/// The machine under a host's daemon.
#[derive(Debug, Subcommand)]
pub enum Machine {
    /// Slots, versions, faults, addresses
    System,
    /// Update the host into its other slot, or its daemon alone
    Update(Update),
    /// Reboot into an update that is staged
    Apply,
    /// Boot the previous slot from now on, and reboot
    Rollback,
    /// Open the host's encrypted data with a key that only you have
    #[command(
        after_help = "For hosts with `storage.encryption = \"key\"`: after each boot, unless a volume labelled ASHLAR-KEY brings the key. The first time, the data \
        is encrypted with it. The host does not keep the key: without it the data is lost.\n\n\
        Examples:\n  openssl rand -out data.key 64\n  ashlar host unlock --key-file data.key\n  vault read -field=key hosts/7 | ashlar host unlock --key-file -"
    )]
    Unlock {
        /// The key, 32 to 4096 bytes as they are; `-` reads it from standard input
        #[arg(long, value_name = "FILE")]
        key_file: PathBuf,
    },
    /// Reboot: instances are stopped, and started again afterwards
    Reboot,
    /// Power off: instances are stopped first
    Shutdown,
    /// The host's configuration
    #[command(subcommand)]
    Configuration(Configuration),
}

/// An update of the host.
#[derive(Debug, Args)]
#[command(
    after_help = "The release's signature is checked by the host. It boots the new image on trial; unless that is healthy in time, the host goes \
    back to what it ran, and says why.\n\n\
    Examples:\n  ashlar host update ashlar-0.2.0-metal.manifest.json\n  ashlar host update http://releases.example/ashlar-0.2.0-metal.manifest.json --instances drained\n  \
    ashlar host update ashlar-0.2.0-metal.manifest.json --live"
)]
pub struct Update {
    /// The release's manifest, a file or a URL; its signature and files are beside it
    #[arg(value_name = "MANIFEST")]
    manifest: String,
    /// What happens to instances: stopped and started again, or to be stopped by you first
    #[arg(long, value_enum, default_value_t)]
    instances: Instances,
    /// Boots that the new image gets to be found good
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=9))]
    tries: u32,
    /// Replace the daemon alone, without a reboot: guests go on
    #[arg(long)]
    live: bool,
    /// Only put the image into its slot; `ashlar host apply` reboots into it
    #[arg(long)]
    no_reboot: bool,
    /// Give up waiting for the outcome after this many seconds (exit status 4)
    #[arg(long, default_value_t = 900, value_name = "SECONDS")]
    timeout: u64,
}

/// What happens to instances.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Instances {
    #[default]
    Stop,
    Drained,
}

/// The host's configuration.
#[derive(Debug, Subcommand)]
pub enum Configuration {
    /// Show the one in force
    Show,
    /// Check one, and use it from the next boot on
    #[command(
        after_help = "Example:\n  ashlar host configuration push host.toml && ashlar host reboot"
    )]
    Push {
        /// The file, TOML
        file: PathBuf,
    },
    /// Forget what was pushed, from the next boot on
    Reset,
}

/// Does it.
pub async fn execute(command: Machine, client: &Client, output: &Output) -> Result<(), Error> {
    match command {
        Machine::System => {
            let system: HostSystem = client.get("/v1/host/system").await?;
            output.answer(&system, shown)
        }
        Machine::Update(update) => self::update(update, client, output).await,
        Machine::Apply => {
            let page: Page<HostUpdate> = client.get("/v1/host/updates").await?;
            let staged = page
                .items
                .into_iter()
                .find(|update| update.state == "Staged");
            let staged = staged.ok_or_else(|| Error::Failed("no update is staged".into()))?;
            let path = format!("/v1/host/updates/{}/apply", staged.id);
            let applied: HostUpdate = client.post(&path, &serde_json::json!({})).await?;
            output.answer(&applied, |update| {
                format!(
                    "the host reboots into {}; `ashlar host system` tells what comes of it",
                    update.to
                )
            })
        }
        Machine::Rollback => client.post_empty("/v1/host/rollback").await,
        Machine::Unlock { key_file } => unlock(&key_file, client).await,
        Machine::Reboot => client.post_empty("/v1/host/reboot").await,
        Machine::Shutdown => client.post_empty("/v1/host/shutdown").await,
        Machine::Configuration(command) => configuration(command, client, output).await,
    }
}

async fn unlock(key_file: &Path, client: &Client) -> Result<(), Error> {
    let mut key = Vec::new();
    let most = *layout::GIVEN_KEY_BYTES.end();
    let from: Box<dyn Read> = if key_file == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        let doing = format!("cannot open the key {}", key_file.display());
        Box::new(File::open(key_file).map_err(Error::local(doing))?)
    };
    from.take(most as u64 + 1)
        .read_to_end(&mut key)
        .map_err(Error::local("cannot read the key"))?;
    if !layout::GIVEN_KEY_BYTES.contains(&key.len()) {
        return Err(Error::Usage(format!(
            "the key {} has {} bytes, and a key has from {} to {most}: make one with `openssl rand -out {} 64`",
            key_file.display(),
            if key.len() > most {
                "too many".to_owned()
            } else {
                key.len().to_string()
            },
            layout::GIVEN_KEY_BYTES.start(),
            key_file.display(),
        )));
    }
    let unlock = UnlockHost {
        key: hex::encode(&key),
    };
    client.post_only("/v1/host/unlock", &unlock).await
}

async fn configuration(
    command: Configuration,
    client: &Client,
    output: &Output,
) -> Result<(), Error> {
    let people = |found: &HostConfiguration| {
        let pending = if found.pending {
            "# another one comes into force with the next boot\n"
        } else {
            ""
        };
        format!(
            "{pending}# from {}\n{}",
            found.source,
            found
                .text
                .as_deref()
                .unwrap_or("# nothing but the defaults")
                .trim_end()
        )
    };
    match command {
        Configuration::Show => {
            let found: HostConfiguration = client.get("/v1/host/configuration").await?;
            output.answer(&found, people)
        }
        Configuration::Push { file } => {
            let text = read(&file)?;
            host_config::parse(&text, &file.to_string_lossy())
                .map_err(|error| Error::Failed(error.to_string()))?;
            let push = PushHostConfiguration { text };
            let found: HostConfiguration = client.put("/v1/host/configuration", &push).await?;
            output.answer(&found, people)
        }
        Configuration::Reset => client.delete("/v1/host/configuration").await,
    }
}

async fn update(update: Update, client: &Client, output: &Output) -> Result<(), Error> {
    let deadline = Instant::now() + Duration::from_secs(update.timeout);
    let kind = if update.live {
        ArtifactKind::Daemon
    } else {
        ArtifactKind::Uki
    };
    let from_url =
        update.manifest.starts_with("http://") || update.manifest.starts_with("https://");
    let (manifest, signature) = if from_url {
        let signature = format!("{}.minisig", update.manifest);
        (fetch(&update.manifest).await?, fetch(&signature).await?)
    } else {
        let path = Path::new(&update.manifest);
        (read(path)?, read(&with_suffix(path, ".minisig"))?)
    };
    // Only to know the file's name; the host decides whether it is to be trusted.
    let parsed = Manifest::parse(manifest.as_bytes())
        .map_err(|error| Error::Failed(format!("{}: {error}", update.manifest)))?;
    let artifact = parsed.artifact(kind).ok_or_else(|| {
        Error::Failed(format!(
            "{} names no file for such an update",
            update.manifest
        ))
    })?;
    let beside = update
        .manifest
        .rsplit_once('/')
        .map_or(artifact.file.clone(), |(folder, _)| {
            format!("{folder}/{}", artifact.file)
        });
    let new = NewHostUpdate {
        manifest,
        signature,
        url: from_url.then(|| beside.clone()),
        instances: match update.instances {
            Instances::Stop => "stop",
            Instances::Drained => "drained",
        }
        .to_owned(),
        tries: update.tries,
        live: update.live,
        reboot: !update.no_reboot,
    };
    let before: HostSystem = client.get("/v1/host/system").await?;
    let mut begun: HostUpdate = client.post("/v1/host/updates", &new).await?;
    if !from_url {
        let path = PathBuf::from(&beside);
        let file =
            File::open(&path).map_err(Error::local(format!("cannot open {}", path.display())))?;
        let length = artifact.size;
        let target = format!("/v1/host/updates/{}/image", begun.id);
        let (answer, _) = upload::upload(client, output, &target, &path, file, length).await?;
        begun = answer;
    }
    let ended = follow(client, output, begun, &before, &update, deadline).await?;
    if ended.state == "Failed" {
        let reason = ended.reason.clone().unwrap_or_default();
        return Err(Error::Failed(format!(
            "the update to {} failed, and the host runs {}: {reason}",
            ended.to, ended.from
        )));
    }
    output.answer(&ended, |ended| match ended.state.as_str() {
        "Staged" => format!(
            "{} is staged in slot {}",
            ended.to,
            ended.slot.as_deref().unwrap_or("?")
        ),
        _ if update.live => format!("the daemon is {} now", ended.to),
        _ => format!("the host runs {}, which is good", ended.to),
    })
}

/// Follows an update through the reboot, until something came of it.
async fn follow(
    client: &Client,
    output: &Output,
    mut update: HostUpdate,
    before: &HostSystem,
    asked: &Update,
    deadline: Instant,
) -> Result<HostUpdate, Error> {
    let mut told = String::new();
    loop {
        if output.talks() && update.state != told {
            eprintln!("{}: {} -> {}", update.state, update.from, update.to);
            told.clone_from(&update.state);
        }
        match update.state.as_str() {
            "Good" | "Failed" => return Ok(update),
            "Staged" if asked.no_reboot => return Ok(update),
            _ => {}
        }
        if Instant::now() >= deadline {
            return Err(Error::TimedOut(format!(
                "the update is {} after {} s",
                update.state, asked.timeout
            )));
        }
        tokio::time::sleep(PAUSE).await;
        // The host goes away in the middle: only the end of the time ends the asking.
        let Ok(system) = client.get::<HostSystem>("/v1/host/system").await else {
            continue;
        };
        if asked.live && system.live_daemon.as_deref() == Some(update.to.as_str()) {
            update.state = "Good".to_owned();
            return Ok(update);
        }
        if let Ok(page) = client.get::<Page<HostUpdate>>("/v1/host/updates").await
            && let Some(now) = page.items.into_iter().next()
        {
            if now.id == update.id {
                update = now;
            } else if system.boots != before.boots {
                return Err(Error::Failed(format!(
                    "the host knows nothing of the update {}",
                    update.id
                )));
            }
        }
    }
}

async fn fetch(url: &str) -> Result<String, Error> {
    let url = url.to_owned();
    let fetched = tokio::task::spawn_blocking(move || {
        let mut answer = ureq::get(&url)
            .call()
            .map_err(|error| format!("cannot fetch {url}: {error}"))?;
        answer
            .body_mut()
            .with_config()
            .limit(1 << 20)
            .read_to_string()
            .map_err(|error| format!("cannot read {url}: {error}"))
    });
    match fetched.await {
        Ok(text) => text.map_err(Error::Failed),
        Err(error) => Err(Error::Failed(error.to_string())),
    }
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(Error::local(format!("cannot read {}", path.display())))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn shown(system: &HostSystem) -> String {
    let slots: Vec<String> = system
        .slots
        .iter()
        .map(|slot| {
            let version = slot.version.as_deref().unwrap_or("unreadable");
            let booted = if system.booted_slot.as_ref() == Some(&slot.slot) {
                ", booted"
            } else {
                ""
            };
            let tries = slot
                .tries_left
                .map_or(String::new(), |left| format!(", {left} tries left"));
            format!("{}: {version} ({}{booted}{tries})", slot.slot, slot.state)
        })
        .collect();
    let mut rows = vec![
        ("id", system.host_id.clone()),
        ("name", system.hostname.clone()),
        (
            "version",
            format!("{} ({})", system.version, system.variant),
        ),
        ("slots", slots.join("; ")),
    ];
    if let Some(live) = &system.live_daemon {
        rows.push(("live daemon", live.clone()));
    }
    if let Some(update) = &system.update {
        let reason = update
            .reason
            .as_ref()
            .map_or(String::new(), |reason| format!(": {reason}"));
        rows.push((
            "last update",
            format!("{} -> {} {}{reason}", update.from, update.to, update.state),
        ));
    }
    rows.push(("addresses", system.addresses.join(", ")));
    rows.push(("fingerprint", system.certificate_sha256.clone()));
    rows.push(("configured by", system.configuration_source.clone()));
    rows.push((
        "data on",
        system.data.clone().unwrap_or_else(|| "nothing".into()),
    ));
    rows.push(("boots", system.boots.to_string()));
    rows.push((
        "memory",
        format!("{} MiB in use", system.memory_used_kib >> 10),
    ));
    let mut text = facts(&rows);
    for fault in &system.faults {
        text.push_str(&format!(
            "\n\nFAULT {}: {}\n  next: {}",
            fault.what, fault.message, fault.next_step
        ));
    }
    text
}
