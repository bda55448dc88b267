//! The networks port over `network`, `nft` and `security-group`.

use async_trait::async_trait;
use control::ports::{
    InterfaceSpec, Networks, PortError, PortErrorKind, PortResult, PresentVpc, VpcSecurity, VpcSpec,
};
use network::{Error, InterfaceFound, NetworkManager, device_name};
use security_group::{Interface, VpcPolicy, compile};
use std::{net::IpAddr, os::fd::OwnedFd};
use types::{InterfaceId, VpcId};

/// The networks of this host.
pub struct HostNetworks {
    manager: NetworkManager,
}

impl HostNetworks {
    pub fn new(manager: NetworkManager) -> Self {
        Self { manager }
    }

    /// Prepares the interface; the tap if nobody held it yet.
    async fn prepare(&self, spec: &InterfaceSpec) -> PortResult<InterfaceFound> {
        let mut wanted =
            network::InterfaceSpec::new(spec.id, spec.vpc.id, spec.mac, spec.address, spec.subnet)
                .map_err(failure)?;
        wanted.gateway = spec.gateway;
        wanted.hostname = Some(spec.instance.to_string());
        self.manager
            .ensure_vpc(spec.vpc.id)
            .await
            .map_err(failure)?;
        self.manager
            .ensure_interface(&wanted)
            .await
            .map_err(failure)
    }
}

#[async_trait]
impl Networks for HostNetworks {
    async fn ensure_vpc(&self, vpc: &VpcSpec) -> PortResult<()> {
        self.manager
            .ensure_vpc(vpc.id)
            .await
            .map(drop)
            .map_err(failure)
    }

    async fn remove_vpc(&self, vpc: VpcId) -> PortResult<()> {
        self.manager
            .remove_vpc(vpc)
            .await
            .map(drop)
            .map_err(failure)
    }

    async fn ensure_interface(&self, interface: &InterfaceSpec) -> PortResult<OwnedFd> {
        match self.prepare(interface).await? {
            InterfaceFound::Made(tap) => Ok(tap),
            // The machine it was for is gone, or it would not be asked for: what is there is a left-over.
            InterfaceFound::InUse => {
                self.remove_interface(interface.vpc.id, interface.id)
                    .await?;
                match self.prepare(interface).await? {
                    InterfaceFound::Made(tap) => Ok(tap),
                    InterfaceFound::InUse => Err(PortError::new(
                        PortErrorKind::Failed,
                        format!(
                            "the tap of interface {} is held by another process",
                            interface.id
                        ),
                    )
                    .with_next_step("stop whatever opened it, then start the instance again")),
                }
            }
        }
    }

    async fn resume_interface(&self, interface: &InterfaceSpec) -> PortResult<()> {
        match self.prepare(interface).await? {
            InterfaceFound::InUse => Ok(()),
            // The tap went with its machine: what was made instead is of no use to it.
            InterfaceFound::Made(_) => {
                self.remove_interface(interface.vpc.id, interface.id)
                    .await?;
                Err(PortError::new(
                    PortErrorKind::NotFound,
                    format!("no machine holds the tap of interface {}", interface.id),
                ))
            }
        }
    }

    async fn remove_interface(&self, vpc: VpcId, interface: InterfaceId) -> PortResult<()> {
        self.manager
            .remove_interface(vpc, interface)
            .await
            .map(drop)
            .map_err(failure)
    }

    async fn apply_security(&self, security: &VpcSecurity) -> PortResult<()> {
        let ruleset = policy(security)
            .and_then(|policy| compile(&policy).map_err(|error| invalid(security.vpc, &error)))?;
        self.manager
            .apply_ruleset(security.vpc, &ruleset)
            .await
            .map_err(failure)?;
        for interface in &security.interfaces {
            match self.manager.activate(security.vpc, interface.id).await {
                // Its machine ended meanwhile, and the tap with it; the reconciler will say so in its own words.
                Ok(()) | Err(Error::NotPrepared { .. }) => {}
                Err(error) => return Err(failure(error)),
            }
        }
        Ok(())
    }

    async fn list(&self) -> PortResult<Vec<PresentVpc>> {
        let found = self.manager.list().await.map_err(failure)?;
        Ok(found
            .into_iter()
            .filter_map(|namespace| {
                Some(PresentVpc {
                    id: namespace.vpc?,
                    interfaces: namespace.interfaces,
                })
            })
            .collect())
    }
}

/// What the compiler takes.
fn policy(security: &VpcSecurity) -> PortResult<VpcPolicy> {
    let groups = security
        .groups
        .iter()
        .map(|group| {
            group
                .to_group()
                .map_err(|error| invalid(security.vpc, &error))
        })
        .collect::<PortResult<_>>()?;
    let interfaces = security
        .interfaces
        .iter()
        .map(|interface| Interface {
            id: interface.id,
            device: Some(device_name(interface.id)),
            mac: interface.mac,
            addresses: vec![IpAddr::V4(interface.address)],
            groups: interface.groups.clone(),
            smtp_open: false,
        })
        .collect();
    Ok(VpcPolicy { groups, interfaces })
}

fn invalid(vpc: VpcId, error: &dyn std::error::Error) -> PortError {
    PortError::new(
        PortErrorKind::Invalid,
        format!("the security groups of {vpc} cannot be put into force: {error}"),
    )
}

/// The port's error for one of the adapter's.
fn failure(error: Error) -> PortError {
    let (kind, next_step) = match &error {
        Error::NamespaceGone { .. } | Error::NotPrepared { .. } => (PortErrorKind::NotFound, None),
        Error::NoTun { .. } => (
            PortErrorKind::Unsupported,
            Some("load the kernel module `tun`"),
        ),
        Error::NameTaken { .. } | Error::DeviceTaken { .. } => (
            PortErrorKind::Unsupported,
            Some("remove what has the name, then try again"),
        ),
        Error::Prefix { .. }
        | Error::SubnetTooSmall { .. }
        | Error::Address { .. }
        | Error::Mtu { .. } => (PortErrorKind::Invalid, None),
        _ => (PortErrorKind::Failed, None),
    };
    let mut port = PortError::new(kind, error.to_string());
    if let Some(step) = next_step {
        port = port.with_next_step(step);
    }
    match std::error::Error::source(&error) {
        // The message names what failed; the chain below it says why.
        Some(_) => port.with_source(Cause(error)),
        None => port,
    }
}

/// The cause of an adapter's error, without the error's own message in front of it.
#[derive(Debug)]
struct Cause(Error);

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match std::error::Error::source(&self.0) {
            Some(cause) => write!(f, "{cause}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Cause {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.0)?.source()
    }
}
