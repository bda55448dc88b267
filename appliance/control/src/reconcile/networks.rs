//! The networks: who is on them, and which rules are in force.
//!
//! Rules of a VPC are computed from the whole of it and applied one after the other; requests that come while one is under way
//! share the next. So the last rules applied are always the newest.

use crate::{
    ControlError, Result, addresses,
    core::{Core, lock},
    model::{Instance, NetworkInterface, SecurityGroup, Vpc, Vswitch},
    ports::{
        InterfaceMembership, InterfaceSpec, PortError, PortErrorKind, PortResult, VpcSecurity,
        VpcSpec,
    },
};
use std::{
    collections::{BTreeSet, HashMap},
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};
use types::{InterfaceId, VpcId};

#[derive(Default)]
struct Lane {
    /// Requests so far.
    asked: AtomicU64,
    /// Interfaces that are on the host.
    present: Mutex<BTreeSet<InterfaceId>>,
    turn: tokio::sync::Mutex<Turn>,
}

#[derive(Default)]
struct Turn {
    /// The last request that is in force.
    applied: u64,
    /// Whether rules in force name any interface.
    populated: bool,
}

pub(crate) struct Networks {
    core: Arc<Core>,
    lanes: Mutex<HashMap<VpcId, Arc<Lane>>>,
}

impl Networks {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            lanes: Mutex::default(),
        }
    }

    fn lane(&self, vpc: VpcId) -> Arc<Lane> {
        lock(&self.lanes).entry(vpc).or_default().clone()
    }

    /// Makes a VPC's network ahead of its first interface. Without it the first start takes longer, nothing else.
    pub(crate) async fn prepare_vpc(&self, vpc: &Vpc) {
        let spec = VpcSpec {
            id: vpc.id,
            cidr: vpc.cidr,
        };
        if let Err(error) = self.core.ports.networks.ensure_vpc(&spec).await {
            tracing::warn!(vpc = %vpc.id, "its network is not made yet: {}", error.chain());
        }
    }

    /// Removes the network of a VPC that is no more. If it cannot be now, the sweeper tries again.
    pub(crate) async fn remove_vpc(&self, vpc: VpcId) {
        lock(&self.lanes).remove(&vpc);
        if let Err(error) = self.core.ports.networks.remove_vpc(vpc).await {
            tracing::warn!(%vpc, "its network is not removed yet: {}", error.chain());
        }
    }

    /// Makes the interface of an instance and opens its tap. Its rules come with the next [`apply`](Self::apply).
    pub(crate) async fn attach(&self, instance: &Instance) -> PortResult<OwnedFd> {
        let spec = self.spec(instance).map_err(|error| {
            PortError::new(
                PortErrorKind::Failed,
                format!("interface {}: {error}", instance.interface),
            )
        })?;
        let lane = self.lane(instance.vpc);
        let tap = self.core.ports.networks.ensure_interface(&spec).await?;
        lock(&lane.present).insert(instance.interface);
        Ok(tap)
    }

    /// Takes an interface off the host, and out of the rules.
    pub(crate) async fn detach(&self, vpc: VpcId, interface: InterfaceId) -> Result<()> {
        let lane = self.lane(vpc);
        lock(&lane.present).remove(&interface);
        self.core
            .ports
            .networks
            .remove_interface(vpc, interface)
            .await?;
        Ok(self.apply(vpc).await?)
    }

    /// Takes over the networks a former daemon left: serves the interfaces of machines that went on running, and puts the
    /// rules in force that everything there should be under.
    pub(crate) async fn resume(&self, running: impl Iterator<Item = &Instance>) -> Result<()> {
        for instance in running {
            let resumed = match self.spec(instance) {
                Ok(spec) => self.core.ports.networks.resume_interface(&spec).await,
                Err(error) => Err(PortError::new(PortErrorKind::Failed, error.to_string())),
            };
            match resumed {
                Ok(()) => drop(lock(&self.lane(instance.vpc).present).insert(instance.interface)),
                Err(error) => {
                    tracing::error!(instance = %instance.id, "its network is not served: {}", error.chain());
                }
            }
        }
        let vpcs: BTreeSet<VpcId> = self.core.list::<Vpc>()?.iter().map(|vpc| vpc.id).collect();
        for vpc in self.core.ports.networks.list().await? {
            // Those without a record are the sweeper's.
            if vpcs.contains(&vpc.id) {
                self.lane(vpc.id).turn.lock().await.populated = true;
                if let Err(error) = self.apply(vpc.id).await {
                    tracing::error!(vpc = %vpc.id, "its rules are not in force: {}", error.chain());
                }
            }
        }
        Ok(())
    }

    /// Whether an interface is known to be on the host.
    pub(crate) fn has(&self, vpc: VpcId, interface: InterfaceId) -> bool {
        lock(&self.lanes)
            .get(&vpc)
            .is_some_and(|lane| lock(&lane.present).contains(&interface))
    }

    /// Puts the VPC's rules in force, and answers when they are.
    pub(crate) async fn apply(&self, vpc: VpcId) -> PortResult<()> {
        let lane = self.lane(vpc);
        let ticket = lane.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut turn = lane.turn.lock().await;
        if turn.applied >= ticket {
            return Ok(());
        }
        // Everything asked for up to here is in the store and in `present` already.
        let asked = lane.asked.load(Ordering::SeqCst);
        let present = lock(&lane.present).clone();
        if !present.is_empty() || turn.populated {
            let security = self.security(vpc, &present).map_err(|error| {
                PortError::new(
                    PortErrorKind::Failed,
                    format!("cannot read the rules of VPC {vpc}"),
                )
                .with_source(error)
            })?;
            // Until it is known to have worked, anything may be in force.
            turn.populated = true;
            self.core.ports.networks.apply_security(&security).await?;
            turn.populated = !present.is_empty();
        }
        turn.applied = asked;
        Ok(())
    }

    /// Puts the VPC's rules in force when there is time.
    pub(crate) fn apply_soon(self: &Arc<Self>, vpc: VpcId) {
        let networks = self.clone();
        tokio::spawn(async move {
            if let Err(error) = networks.apply(vpc).await {
                tracing::warn!(%vpc, "its rules are not in force yet: {}", error.chain());
            }
        });
    }

    /// Puts the rules of all VPCs in force anew, in case something outside took them away.
    pub(crate) async fn apply_all(&self) {
        let vpcs: Vec<VpcId> = lock(&self.lanes).keys().copied().collect();
        for vpc in vpcs {
            if let Err(error) = self.apply(vpc).await {
                tracing::warn!(%vpc, "its rules are not in force: {}", error.chain());
            }
        }
    }

    fn security(&self, vpc: VpcId, present: &BTreeSet<InterfaceId>) -> Result<VpcSecurity> {
        let mut groups = self.core.list::<SecurityGroup>()?;
        groups.retain(|group| group.vpc == vpc);
        let membership = |interface: &Arc<NetworkInterface>| InterfaceMembership {
            id: interface.id,
            mac: interface.mac,
            address: interface.private_ip,
            groups: interface.security_groups.clone(),
        };
        let interfaces = self.core.all::<NetworkInterface>();
        let interfaces = interfaces
            .values()
            .filter(|interface| present.contains(&interface.id))
            .map(membership)
            .collect();
        Ok(VpcSecurity {
            vpc,
            groups,
            interfaces,
        })
    }

    fn spec(&self, instance: &Instance) -> Result<InterfaceSpec> {
        let vpc = self.core.get::<Vpc>(&instance.vpc)?;
        let vpc = vpc.ok_or_else(|| ControlError::not_found("VpcId", "VPC", &instance.vpc))?;
        let vswitch = self.core.get::<Vswitch>(&instance.vswitch)?;
        let vswitch = vswitch
            .ok_or_else(|| ControlError::not_found("VSwitchId", "vswitch", &instance.vswitch))?;
        Ok(InterfaceSpec {
            id: instance.interface,
            vpc: VpcSpec {
                id: vpc.id,
                cidr: vpc.cidr,
            },
            instance: instance.id,
            mac: instance.mac,
            address: instance.private_ip,
            subnet: vswitch.cidr,
            gateway: addresses::gateway(vswitch.cidr),
        })
    }
}
