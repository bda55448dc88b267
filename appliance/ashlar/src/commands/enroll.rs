//! `ashlar enroll` and `ashlar hosts`.

use api_types::{Enroll as Offer, Enrolled};
use clap::{Args, Subcommand};

use crate::{
    client::{Address, Client, Error},
    hosts::{Hosts, KnownHost},
    output::{Column, Output, print},
};

/// Enrol with a host.
#[derive(Debug, Args)]
#[command(
    after_help = "The host's screen shows address, fingerprint and token at its first boot; the key t there makes a new token.\n\n\
    Example:\n  ashlar enroll https://10.0.0.7:7443 --fingerprint sha256:52683b… --token 261e8-a58ae-b7cdc-794dc\n  ashlar host system"
)]
pub struct Enroll {
    /// The host's address, as its screen shows it
    #[arg(value_name = "ADDRESS")]
    address: Address,
    /// The one-time token from the host's screen
    #[arg(long)]
    token: String,
    /// What to call the host here [default: its address]
    #[arg(long)]
    name: Option<String>,
}

/// The hosts enrolled with.
#[derive(Debug, Subcommand)]
pub enum Known {
    /// List them
    #[command(visible_alias = "ls")]
    List,
    /// Say which is meant when none is named
    Use {
        /// Its name
        name: String,
    },
    /// Forget one; the host does not hear of it
    Rm {
        /// Its name
        name: String,
    },
}

/// Offers the token, and remembers what comes back.
pub async fn enroll(
    enroll: Enroll,
    fingerprint: Option<&str>,
    output: &Output,
) -> Result<(), Error> {
    if !matches!(enroll.address, Address::Tls { .. }) {
        return Err(Error::Usage(format!(
            "`{}` is not where hosts are enrolled with: expected https://HOST:PORT",
            enroll.address
        )));
    }
    let client = Client::new(enroll.address.clone(), None).pinned(fingerprint);
    let offer = Offer {
        token: enroll.token,
    };
    let enrolled: Enrolled = client.post("/v1/enroll", &offer).await?;
    let path = path()?;
    let mut hosts = Hosts::load(&path)?;
    let name = enroll.name.unwrap_or_else(|| enroll.address.host_header());
    hosts.hosts.insert(
        name.clone(),
        KnownHost {
            address: enroll.address.to_string(),
            fingerprint: fingerprint.unwrap_or_default().to_owned(),
            token: enrolled.api_token,
        },
    );
    hosts.current = Some(name.clone());
    hosts.save(&path)?;
    if output.quiet {
        return print(&name);
    }
    print(&format!(
        "enrolled with {name}; commands go there from now on (`ashlar hosts use` changes that)"
    ))
}

const COLUMNS: &[Column<(String, KnownHost, bool)>] = &[
    Column("NAME", |(name, ..)| name.clone()),
    Column("ADDRESS", |(_, host, _)| host.address.clone()),
    Column("USED", |(.., current)| {
        if *current { "yes" } else { "" }.to_owned()
    }),
    Column("FINGERPRINT", |(_, host, _)| host.fingerprint.clone()),
];

/// Lists, chooses, forgets.
pub fn known(command: Known, output: &Output) -> Result<(), Error> {
    let path = path()?;
    let mut hosts = Hosts::load(&path)?;
    let unknown = |name: &str, hosts: &Hosts| {
        let names: Vec<&str> = hosts.hosts.keys().map(String::as_str).collect();
        Error::Usage(format!(
            "no host is called `{name}` here; known are: {}",
            names.join(", ")
        ))
    };
    match command {
        Known::List => {
            let rows: Vec<_> = hosts
                .hosts
                .iter()
                .map(|(name, host)| {
                    (
                        name.clone(),
                        host.clone(),
                        hosts.current.as_ref() == Some(name),
                    )
                })
                .collect();
            // Not the file itself: that has the tokens.
            let answer: Vec<_> = rows
                .iter()
                .map(|(name, host, current)| serde_json::json!({"name": name, "address": host.address, "fingerprint": host.fingerprint, "current": current}))
                .collect();
            output.list(&answer, &rows, |(name, ..)| name.clone(), COLUMNS)
        }
        Known::Use { name } => {
            if !hosts.hosts.contains_key(&name) {
                return Err(unknown(&name, &hosts));
            }
            hosts.current = Some(name);
            hosts.save(&path)
        }
        Known::Rm { name } => {
            if hosts.hosts.remove(&name).is_none() {
                return Err(unknown(&name, &hosts));
            }
            hosts.current = hosts.current.filter(|current| *current != name);
            hosts.save(&path)
        }
    }
}

fn path() -> Result<std::path::PathBuf, Error> {
    Hosts::path().ok_or_else(|| {
        Error::Usage("there is no place to keep known hosts: set HOME or XDG_CONFIG_HOME".into())
    })
}
