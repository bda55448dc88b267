//! What the daemon is told on its command line.

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use control::Settings;
use cpu::{CpuSet, LAUNCH_CREDITS};
use std::{
    net::SocketAddr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    time::Duration,
};
use types::{ByteCount, Sha256Digest, UtcOffset};

const DEFAULT_STATE: &str = "/var/lib/ashlar";
/// Where `ashlar` looks when it is not told.
const DEFAULT_SOCKET: &str = "/run/ashlar/api.sock";

/// The daemon of an Ashlar host.
#[derive(Parser)]
#[command(version, about, propagate_version = true)]
pub struct Options {
    #[command(subcommand)]
    pub task: Task,
}

#[derive(Subcommand)]
pub enum Task {
    /// Runs the host: adopts the instances that run, then serves the API until SIGTERM or SIGINT. Instances go on.
    #[command(
        after_help = "When it is ready it prints one line, `ready pid=PID socket=PATH [listen=ADDRESS]`, on standard output.\n\
        The log goes to standard error; ASHLAR_LOG filters it (`info`, `debug`, `control=trace`, …).\n\n\
        Examples:\n  ashlard serve\n  ashlard serve --state /srv/ashlar --listen 127.0.0.1:7070 --plugins /usr/lib/ashlar/plugins"
    )]
    Serve(Box<Serve>),
    /// Runs as the first process of a host image: brings the machine up, then starts and supervises `serve`.
    /// On a running system it refuses to start.
    Init,
    /// Ends every instance of a host whose daemon does not run, and removes its networks and rules from the machine.
    /// The state folder stays: the next `serve` shows the instances as stopped.
    #[command(after_help = "Example:\n  ashlard teardown --state /srv/ashlar")]
    Teardown(Teardown),
    /// The schema of a host's state: what this daemon works with, and going to another one and back.
    #[command(subcommand)]
    State(State),
}

#[derive(Subcommand)]
pub enum State {
    /// Prints the schema that this daemon works with.
    Schema,
    /// Takes the state of a host whose daemon does not run to another schema, in one step that is done or not.
    /// An older daemon that finds a newer state does this by itself, with the copy that the newer one left in STATE/migrators.
    #[command(after_help = "Example:\n  ashlard state migrate --state /srv/ashlar --to 1")]
    Migrate {
        /// The state folder.
        #[arg(long, value_name = "DIR", default_value = DEFAULT_STATE, env = "ASHLAR_STATE")]
        state: PathBuf,
        /// The schema it is to have.
        #[arg(long, value_name = "SCHEMA", value_parser = clap::value_parser!(u64).range(1..))]
        to: u64,
    },
}

/// The folders of a host.
#[derive(Args)]
pub struct Folders {
    /// The state folder. One daemon per folder.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_STATE, env = "ASHLAR_STATE")]
    pub state: PathBuf,
    /// The folder of disks and images, on a file system that can reflink (XFS) [default: STATE/pool]
    #[arg(long, value_name = "DIR", env = "ASHLAR_POOL")]
    pool: Option<PathBuf>,
}

impl Folders {
    pub fn pool(&self) -> PathBuf {
        self.pool.clone().unwrap_or_else(|| self.state.join("pool"))
    }

    /// What the names of the host's network namespaces begin with: `ash`, or for another state folder than the default one
    /// `ash` and a digest of its path.
    pub fn network_prefix(&self) -> Result<String> {
        if self.state == Path::new(DEFAULT_STATE) {
            return Ok("ash".to_owned());
        }
        let path = self
            .state
            .canonicalize()
            .with_context(|| format!("cannot find {}", self.state.display()))?;
        let digest = Sha256Digest::of(path.as_os_str().as_bytes()).to_string();
        Ok(format!("ash{}", &digest[..8]))
    }

    /// Where consoles and control sockets of the instances are.
    pub fn machines(&self) -> PathBuf {
        self.state.join("machines")
    }
}

#[derive(Args)]
pub struct Serve {
    #[command(flatten)]
    pub folders: Folders,
    /// The folder of local disks, on a file system of its own that can reflink (XFS) [default: there are no local disks]
    #[arg(long, value_name = "DIR", env = "ASHLAR_LOCAL_POOL")]
    pub local_pool: Option<PathBuf>,
    /// The API's unix socket; who may open it needs no token [default: /run/ashlar/api.sock for the default state folder, else STATE/api.sock]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Serves the API also on this loopback address; callers need the token in STATE/api-token.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = loopback)]
    pub listen: Option<SocketAddr>,
    /// Serves the API also on this address with TLS, for callers with the token and those who enrol.
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        requires = "tls_cert",
        requires = "tls_key"
    )]
    pub listen_tls: Option<SocketAddr>,
    /// The certificate for that, PEM.
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// Its key, PEM.
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// The bearer token; made when it is not there [default: STATE/api-token]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The socket of the host's first process, where that is `ashlard init`.
    #[arg(long, value_name = "PATH")]
    pub init_socket: Option<PathBuf>,
    /// Serves only what works without instances, and says why: a JSON list of faults, each with `what`, `message` and `next_step`.
    #[arg(long, value_name = "FILE")]
    pub maintenance: Option<PathBuf>,
    /// Starts instances again that ran when the machine went down.
    #[arg(long)]
    restart_instances: bool,
    /// Policies to load: `scheduler-*.wasm` and `billing-*.wasm`, each with its configuration in a `.json` of the same name.
    #[arg(long, value_name = "DIR")]
    pub plugins: Option<PathBuf>,
    /// Takes only policies that one of these keys signed: minisign public keys, one per line [default: any policy that someone with
    /// access to the interface installs].
    #[arg(long, value_name = "FILE")]
    pub policy_keys: Option<PathBuf>,
    /// Prices where no billing policy sets them: a JSON object with `currency`, `vcpu`, `memory_gib` and `disk_gib` (per hour)
    /// [default: a small list in USD]
    #[arg(long, value_name = "FILE")]
    pub prices: Option<PathBuf>,
    /// The KVM device.
    #[arg(long, value_name = "PATH", default_value = "/dev/kvm")]
    pub kvm: PathBuf,
    /// The zone that the host is in, which instances can ask for: 1 to 63 letters, digits and dashes.
    #[arg(long, value_name = "NAME", default_value = "local", value_parser = zone)]
    zone: String,
    /// CPUs that instances of enterprise families (c, g, r, i) have for themselves, whole cores at a time, as in `2-7`; all others share the
    /// rest [default: none, all share all]
    #[arg(long, value_name = "LIST")]
    dedicated_cpus: Option<CpuSet>,
    /// CPU credits that a new burstable instance gets for each virtual CPU, once: minutes at full speed before it has saved any.
    #[arg(long, value_name = "COUNT", default_value_t = LAUNCH_CREDITS, value_parser = clap::value_parser!(u32).range(0..=1440))]
    launch_credits: u32,
    /// Virtual CPUs that may be given to instances that share CPUs [default: 4 for each CPU of the machine that is shared]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    vcpus: Option<u32>,
    /// Memory that may be given to instances [default: the machine's less 512 MiB]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..))]
    memory_mib: Option<u64>,
    /// How often use is metered and charged.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 60_000, value_parser = clap::value_parser!(u64).range(100..=3_600_000))]
    metering_interval_ms: u64,
    /// Where the days of subscriptions begin, from UTC.
    #[arg(
        long,
        value_name = "±HH:MM",
        default_value = "+00:00",
        allow_hyphen_values = true
    )]
    billing_offset: UtcOffset,
    /// How long a guest has to power off before a stop is enforced.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(0..=3600))]
    stop_grace_s: u64,
}

impl Serve {
    pub fn socket(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| {
            if self.folders.state == Path::new(DEFAULT_STATE) {
                PathBuf::from(DEFAULT_SOCKET)
            } else {
                self.folders.state.join("api.sock")
            }
        })
    }

    /// Where the bearer token is.
    pub fn token_file(&self) -> PathBuf {
        self.token_file
            .clone()
            .unwrap_or_else(|| self.folders.state.join("api-token"))
    }

    /// The settings of the control plane: what was asked for, and what the machine has where nothing was.
    pub fn settings(&self) -> Result<Settings> {
        let cpus = std::thread::available_parallelism()
            .context("cannot count the CPUs")?
            .get();
        let cpus = u32::try_from(cpus).unwrap_or(u32::MAX);
        let dedicated_cpus = self.dedicated_cpus.clone().unwrap_or_default();
        let dedicated = dedicated_cpus.len();
        if dedicated >= cpus {
            anyhow::bail!(
                "--dedicated-cpus {dedicated_cpus} leaves none of {cpus} CPUs to share: leave at least one"
            );
        }
        let vcpus = match self.vcpus {
            Some(vcpus) => vcpus,
            None => (cpus - dedicated).saturating_mul(4),
        };
        let memory = match self.memory_mib {
            Some(mib) => ByteCount::from_mib(mib),
            // Whole MiB, as instances have it.
            None => ByteCount::from_mib((machine_memory()? >> 20).saturating_sub(512)),
        };
        let mut settings = Settings::new(self.folders.state.clone(), vcpus, memory);
        settings.zone.clone_from(&self.zone);
        settings.launch_credits = self.launch_credits;
        settings.dedicated_cpus = dedicated_cpus;
        settings.limits.max_vcpus = settings.limits.max_vcpus.max(dedicated);
        env!("CARGO_PKG_VERSION").clone_into(&mut settings.version);
        settings.stop_grace = Duration::from_secs(self.stop_grace_s);
        settings.metering_interval = Duration::from_millis(self.metering_interval_ms);
        settings.billing_zone = self.billing_offset;
        settings.restart_vanished = self.restart_instances;
        Ok(settings)
    }
}

#[derive(Args)]
pub struct Teardown {
    #[command(flatten)]
    pub folders: Folders,
}

fn zone(text: &str) -> Result<String, String> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let fits = (1..=63).contains(&text.len()) && !text.starts_with('-') && !text.ends_with('-');
    if !fits || !text.bytes().all(known) {
        return Err(
            "write 1 to 63 letters and digits, and dashes between them, as in north-1a".to_owned(),
        );
    }
    Ok(text.to_owned())
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text
        .parse()
        .map_err(|_| "write it as 127.0.0.1:7070 or [::1]:7070".to_owned())?;
    if !address.ip().is_loopback() {
        return Err(
            "without TLS the API is served on loopback addresses only (127.0.0.1 or [::1])"
                .to_owned(),
        );
    }
    Ok(address)
}

/// Bytes of memory the machine has (proc(5), MemTotal).
fn machine_memory() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse::<u64>().ok())
        .context("/proc/meminfo has no MemTotal")?;
    Ok(kib * 1024)
}
