//! `ashlard serve`: from nothing to a serving host, and back.

use crate::{
    host_machine::InitMachine,
    machines::{HostMachines, VmmGroups},
    networks::HostNetworks,
    options::{Folders, Serve},
    policies::{HostPolicies, Sources},
    state,
};
use anyhow::{Context, Result, bail};
use api::{Listener, Token};
use control::{
    Control, HostSystem, Settings,
    adapters::{Pools, SystemClock, SystemEntropy},
    ports::Ports,
};
use network::NetworkManager;
use pool::Pool;
use std::{
    fs::DirBuilder,
    io::{IsTerminal, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::Path,
    sync::Arc,
};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// What the first process sends when the machine goes down (signal(7)).
const SIGPWR: i32 = 30;

/// Runs the host until it is told to stop.
pub fn run(options: Serve) -> Result<()> {
    log_to_stderr();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(serve(options))
}

/// The log goes to standard error, filtered by ASHLAR_LOG.
pub fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("ASHLAR_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

async fn serve(options: Serve) -> Result<()> {
    // From here on a signal is waited for; before it, it ends the program as usual.
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    // The terminal it was started from may go; the host stays.
    let _hang_up = signal(SignalKind::hangup()).context("cannot ignore SIGHUP")?;

    // The machine goes down: guests are stopped first.
    let mut power = signal(SignalKind::from_raw(SIGPWR)).context("cannot wait for SIGPWR")?;

    private_folder(&options.folders.state)?;
    if let Some(faults) = &options.maintenance {
        let stop = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = power.recv() => {}
            }
        };
        return maintain(&options, faults, stop).await;
    }
    let mut settings = options.settings()?;
    let grace = settings.stop_grace;
    // Before anything in the folders is touched: they may be another daemon's.
    let store = state::open(&options.folders.state)?;
    let ports = ports(&options, &mut settings)?;
    let control = Control::open_on(store, settings, ports).await?;
    let listeners = listeners(&options).await?;
    announce(&options, &listeners)?;
    let mut goes_down = false;
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = power.recv() => goes_down = true,
        }
        tracing::info!(
            "stopping; instances {}",
            if goes_down {
                "are stopped too"
            } else {
                "go on"
            }
        );
    };
    let host = host(&options)?;
    let options = api::Options::default();
    let served = api::serve(listeners, control.clone(), host, options, stop).await;
    if goes_down {
        control.shut_down_host(grace).await?;
    } else {
        control.shut_down().await?;
    }
    served.context("the API broke off")
}

/// The host as it can be without instances: its own machine, and why there is no more.
async fn maintain(
    options: &Serve,
    faults: &Path,
    stop: impl Future<Output = ()> + Send,
) -> Result<()> {
    let text = std::fs::read_to_string(faults)
        .with_context(|| format!("cannot read the faults in {}", faults.display()))?;
    let faults: Vec<init::Fault> = serde_json::from_str(&text)
        .with_context(|| format!("{} is no list of faults", faults.display()))?;
    let checks = faults
        .into_iter()
        .map(|fault| api_types::HealthCheck {
            name: fault.what,
            ok: false,
            message: Some(format!("{} ({})", fault.message, fault.next_step)),
        })
        .collect();
    let listeners = listeners(options).await?;
    announce(options, &listeners)?;
    api::serve_maintenance(
        listeners,
        host(options)?,
        checks,
        api::Options::default(),
        stop,
    )
    .await
    .context("the API broke off")
}

/// The machine under the daemon, where its first process is ours.
fn host(options: &Serve) -> Result<api::Host> {
    let Some(socket) = &options.init_socket else {
        return Ok(api::Host::default());
    };
    let token = Token::text_in(&options.token_file())?;
    Ok(api::Host {
        system: Some(HostSystem::new(Arc::new(InitMachine::new(socket)))),
        api_token: Some(token.into()),
    })
}

/// The pool of images and disks, and that of local disks.
fn pools(options: &Serve) -> Result<Pools> {
    let open = |folder: &Path| {
        private_folder(folder)?;
        anyhow::Ok(Pool::open(folder)?)
    };
    let pool = open(&options.folders.pool())?;
    let local = options.local_pool.as_deref().map(open).transpose()?;
    if let Some(local) = &local {
        let device = |pool: &Pool| pool.folder().metadata().map(|found| found.dev());
        if device(local)? == device(&pool)? {
            bail!(
                "the pools {} and {} are on one file system, whose room would be given twice: give --local-pool one of its own",
                pool.folder().display(),
                local.folder().display()
            );
        }
    }
    Ok(Pools::new(pool, local))
}

/// Everything the control plane needs of this machine; its local disks are noted in the settings.
fn ports(options: &Serve, settings: &mut Settings) -> Result<Ports> {
    let folders = &options.folders;
    let vcpus = settings.vcpus.saturating_add(settings.dedicated_cpus.len());
    let groups = VmmGroups::open(&folders.network_prefix()?, vcpus);
    let machines = HostMachines::new(Some(&options.kvm), folders.machines(), groups)?;
    let machines = Arc::new(machines);
    let volumes = Arc::new(pools(options)?);
    settings.local_disk = volumes.local_capacity()?;
    Ok(Ports {
        machines: machines.clone(),
        processors: machines,
        networks: Arc::new(HostNetworks::new(network_manager(folders)?)),
        volumes,
        policies: Arc::new(HostPolicies::load(
            Sources {
                folder: options.plugins.as_deref(),
                prices: options.prices.as_deref(),
                keys: options.policy_keys.as_deref(),
            },
            &folders.state.join("policies"),
        )?),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
    })
}

/// The networks of the host with these folders. Several hosts on one machine (in tests, say) don't see each other's.
pub fn network_manager(folders: &Folders) -> Result<NetworkManager> {
    Ok(NetworkManager::new(&folders.network_prefix()?)?)
}

fn private_folder(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make the folder {}", path.display()))
}

async fn listeners(options: &Serve) -> Result<Vec<Listener>> {
    let socket = options.socket();
    if let Some(folder) = socket.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    let mut listeners = vec![Listener::unix(&socket, None)?];
    if let Some(address) = options.listen {
        let token = Token::load_or_create(&options.token_file())?;
        listeners.push(Listener::tcp(address, token).await?);
    }
    if let (Some(address), Some(certificate), Some(key)) =
        (options.listen_tls, &options.tls_cert, &options.tls_key)
    {
        let token = Token::load_or_create(&options.token_file())?;
        listeners.push(Listener::tls(address, certificate, key, token).await?);
    }
    Ok(listeners)
}

/// Tells whoever started the daemon that it serves, and where.
fn announce(options: &Serve, listeners: &[Listener]) -> Result<()> {
    let mut line = format!(
        "ready pid={} socket={}",
        std::process::id(),
        options.socket().display()
    );
    for listener in listeners {
        if let Some(address) = listener.tcp_address() {
            let name = if listener.is_tls() {
                "listen-tls"
            } else {
                "listen"
            };
            line.push_str(&format!(" {name}={address}"));
        }
    }
    let mut out = std::io::stdout();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .context("cannot write to standard output")?;
    tracing::info!("{line}");
    Ok(())
}
