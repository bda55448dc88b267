//! VPCs, vswitches and interfaces.

use crate::{
    Control, ControlError, ErrorKind, Result, addresses,
    commands::{CreateVpc, CreateVswitch},
    core::{Transaction, check_room, sentence},
    model::{EventSubject, NetworkInterface, SecurityGroup, Vpc, Vswitch},
    tokens::Ticket,
    use_cases::{check_names, oldest_first},
};
use ipnet::Ipv4Net;
use std::{net::Ipv4Addr, sync::Arc};
use types::{VpcId, VswitchId};

const MAX_VPCS: u32 = 100;
const MAX_VSWITCHES: u32 = 1000;

/// Where instances go whose request names no place.
const DEFAULT_VPC: (Ipv4Addr, u8) = (Ipv4Addr::new(172, 16, 0, 0), 16);
const DEFAULT_VSWITCH: (Ipv4Addr, u8) = (Ipv4Addr::new(172, 16, 0, 0), 20);

impl Control {
    /// Makes a VPC (CreateVpc).
    pub async fn create_vpc(&self, command: CreateVpc) -> Result<Vpc> {
        check_names(command.name.as_deref(), None)?;
        let ticket = Ticket::new("CreateVpc", &command.request, &command)?;
        let vpc = self
            .core()
            .write(move |transaction| {
                if let Some(ids) = ticket.former::<VpcId>(transaction)? {
                    return first_of(transaction, &ids, "VpcId", "VPC");
                }
                if let Some(fault) = addresses::vpc_fault(command.cidr) {
                    return Err(ControlError::invalid("cidr", sentence(&fault))
                        .with_code("InvalidCidrBlock.Malformed"));
                }
                check_room("VPCs", transaction.list::<Vpc>()?.len(), 1, MAX_VPCS)?;
                ticket.end_dry_run()?;
                let vpc = add_vpc(transaction, command.name, command.cidr, false)?;
                ticket.answered(transaction, &[vpc.id])?;
                Ok(vpc)
            })
            .await?;
        self.inner.networks.prepare_vpc(&vpc).await;
        Ok(vpc)
    }

    /// The VPC of that id (`InvalidVpcId.NotFound`).
    pub async fn vpc(&self, id: VpcId) -> Result<Vpc> {
        self.core()
            .get(&id)?
            .ok_or_else(|| ControlError::not_found("VpcId", "VPC", &id))
    }

    /// All VPCs, oldest first.
    pub async fn vpcs(&self) -> Result<Vec<Vpc>> {
        let mut vpcs = self.core().list::<Vpc>()?;
        oldest_first(&mut vpcs, |vpc| (vpc.created_at, vpc.id));
        Ok(vpcs)
    }

    /// Deletes a VPC without vswitches and without security groups other than its default one
    /// (`DependencyViolation` otherwise).
    pub async fn delete_vpc(&self, id: VpcId) -> Result<()> {
        let delete = move |transaction: &mut Transaction<'_>| {
            if transaction.get::<Vpc>(&id)?.is_none() {
                return Err(ControlError::not_found("VpcId", "VPC", &id));
            }
            if let Some(vswitch) = transaction
                .list::<Vswitch>()?
                .iter()
                .find(|vswitch| vswitch.vpc == id)
            {
                return Err(in_use("VPC", &id, "vswitch", &vswitch.id));
            }
            for group in transaction
                .list::<SecurityGroup>()?
                .iter()
                .filter(|group| group.vpc == id)
            {
                if !group.is_default {
                    return Err(in_use("VPC", &id, "security group", &group.id));
                }
                transaction.delete::<SecurityGroup>(&group.id)?;
                transaction.event(
                    EventSubject::SecurityGroup(group.id),
                    format!("security group {} deleted", group.id),
                );
            }
            transaction.delete::<Vpc>(&id)?;
            transaction.event(EventSubject::Vpc(id), format!("VPC {id} deleted"));
            Ok(())
        };
        self.core().write(delete).await?;
        self.inner.networks.remove_vpc(id).await;
        Ok(())
    }

    /// Makes a vswitch (CreateVSwitch).
    pub async fn create_vswitch(&self, command: CreateVswitch) -> Result<Vswitch> {
        check_names(command.name.as_deref(), None)?;
        let ticket = Ticket::new("CreateVSwitch", &command.request, &command)?;
        let create = move |transaction: &mut Transaction<'_>| {
            if let Some(ids) = ticket.former::<VswitchId>(transaction)? {
                return first_of(transaction, &ids, "VSwitchId", "vswitch");
            }
            let Some(vpc) = transaction.get::<Vpc>(&command.vpc)? else {
                return Err(ControlError::not_found("VpcId", "VPC", &command.vpc));
            };
            let all = transaction.list::<Vswitch>()?;
            check_room("vswitches", all.len(), 1, MAX_VSWITCHES)?;
            let others: Vec<Ipv4Net> = all
                .iter()
                .filter(|vswitch| vswitch.vpc == vpc.id)
                .map(|vswitch| vswitch.cidr)
                .collect();
            if let Some(fault) = addresses::vswitch_fault(command.cidr, vpc.cidr, &others) {
                return Err(ControlError::invalid("cidr", sentence(&fault))
                    .with_code("InvalidCidrBlock.Malformed"));
            }
            ticket.end_dry_run()?;
            let vswitch = add_vswitch(transaction, vpc.id, command.name, command.cidr, false)?;
            ticket.answered(transaction, &[vswitch.id])?;
            Ok(vswitch)
        };
        let vswitch = self.core().write(create).await?;
        self.vswitch(vswitch.id).await
    }

    /// The vswitch of that id (`InvalidVSwitchId.NotFound`).
    pub async fn vswitch(&self, id: VswitchId) -> Result<Vswitch> {
        let found = self
            .vswitches(None)
            .await?
            .into_iter()
            .find(|vswitch| vswitch.id == id);
        found.ok_or_else(|| ControlError::not_found("VSwitchId", "vswitch", &id))
    }

    /// The vswitches, of one VPC if that is given, oldest first.
    pub async fn vswitches(&self, vpc: Option<VpcId>) -> Result<Vec<Vswitch>> {
        let interfaces = self.core().all::<NetworkInterface>();
        let mut vswitches = self.core().list::<Vswitch>()?;
        vswitches.retain(|vswitch| vpc.is_none_or(|vpc| vswitch.vpc == vpc));
        for vswitch in &mut vswitches {
            let taken = interfaces
                .values()
                .filter(|interface| interface.vswitch == vswitch.id)
                .count();
            let taken = u64::try_from(taken).unwrap_or(u64::MAX);
            vswitch.available_addresses = addresses::capacity(vswitch.cidr).saturating_sub(taken);
        }
        oldest_first(&mut vswitches, |vswitch| (vswitch.created_at, vswitch.id));
        Ok(vswitches)
    }

    /// Deletes a vswitch without interfaces (`DependencyViolation` otherwise).
    pub async fn delete_vswitch(&self, id: VswitchId) -> Result<()> {
        let delete = move |transaction: &mut Transaction<'_>| {
            if transaction.get::<Vswitch>(&id)?.is_none() {
                return Err(ControlError::not_found("VSwitchId", "vswitch", &id));
            }
            let interfaces = transaction.all::<NetworkInterface>();
            let on_it = |interface: &&Arc<NetworkInterface>| interface.vswitch == id;
            if let Some(interface) = interfaces.values().find(on_it) {
                return Err(match &interface.instance {
                    Some(instance) => in_use("vswitch", &id, "instance", instance),
                    None => in_use("vswitch", &id, "network interface", &interface.id),
                });
            }
            transaction.delete::<Vswitch>(&id)?;
            transaction.event(EventSubject::Vswitch(id), format!("vswitch {id} deleted"));
            Ok(())
        };
        self.core().write(delete).await
    }

    /// All network interfaces, oldest first.
    pub async fn interfaces(&self) -> Result<Vec<NetworkInterface>> {
        let all = self.core().all::<NetworkInterface>();
        let all = all.values().map(|interface| (**interface).clone());
        let mut interfaces: Vec<NetworkInterface> = all.collect();
        oldest_first(&mut interfaces, |interface| {
            (interface.created_at, interface.id)
        });
        Ok(interfaces)
    }
}

/// The record that was made for a token the first time.
pub(crate) fn first_of<R: store::Record>(
    transaction: &Transaction<'_>,
    ids: &[R::Key],
    resource: &str,
    what: &str,
) -> Result<R>
where
    R::Key: Sized,
{
    let Some(id) = ids.first() else {
        return Err(ControlError::new(
            ErrorKind::Internal,
            "InternalError",
            "A client token's answer is empty.",
        ));
    };
    transaction
        .get::<R>(id)?
        .ok_or_else(|| ControlError::not_found(resource, what, id))
}

pub(crate) fn in_use(
    what: &str,
    id: &dyn std::fmt::Display,
    user: &str,
    user_id: &dyn std::fmt::Display,
) -> ControlError {
    let message = format!("The {what} {id} cannot be deleted: {user} {user_id} depends on it.");
    ControlError::new(ErrorKind::Denied, "DependencyViolation", message)
        .with_next_step(format!("Delete {user} {user_id} first."))
}

fn add_vpc(
    transaction: &mut Transaction<'_>,
    name: Option<String>,
    cidr: Ipv4Net,
    is_default: bool,
) -> Result<Vpc> {
    let id = VpcId::generate(transaction.random());
    let vpc = Vpc {
        id,
        name,
        cidr,
        is_default,
        created_at: transaction.core().now(),
    };
    transaction.put(&vpc)?;
    transaction.event(EventSubject::Vpc(id), format!("VPC {id} made ({cidr})"));
    Ok(vpc)
}

fn add_vswitch(
    transaction: &mut Transaction<'_>,
    vpc: VpcId,
    name: Option<String>,
    cidr: Ipv4Net,
    is_default: bool,
) -> Result<Vswitch> {
    let id = VswitchId::generate(transaction.random());
    let created_at = transaction.core().now();
    let vswitch = Vswitch {
        id,
        vpc,
        name,
        cidr,
        is_default,
        available_addresses: 0,
        created_at,
    };
    transaction.put(&vswitch)?;
    transaction.event(
        EventSubject::Vswitch(id),
        format!("vswitch {id} made ({cidr})"),
    );
    Ok(vswitch)
}

/// The default VPC, made when it is first needed.
pub(crate) fn default_vpc(transaction: &mut Transaction<'_>) -> Result<Vpc> {
    if let Some(vpc) = transaction
        .list::<Vpc>()?
        .into_iter()
        .find(|vpc| vpc.is_default)
    {
        return Ok(vpc);
    }
    let cidr = Ipv4Net::new_assert(DEFAULT_VPC.0, DEFAULT_VPC.1);
    add_vpc(transaction, Some("default".to_owned()), cidr, true)
}

/// The default vswitch of the default VPC, made when it is first needed.
pub(crate) fn default_vswitch(transaction: &mut Transaction<'_>) -> Result<(Vpc, Vswitch)> {
    let vpc = default_vpc(transaction)?;
    let all = transaction.list::<Vswitch>()?;
    let of_vpc: Vec<Vswitch> = all
        .into_iter()
        .filter(|vswitch| vswitch.vpc == vpc.id)
        .collect();
    if let Some(vswitch) = of_vpc.iter().find(|vswitch| vswitch.is_default) {
        return Ok((vpc, vswitch.clone()));
    }
    let cidr = Ipv4Net::new_assert(DEFAULT_VSWITCH.0, DEFAULT_VSWITCH.1);
    let others: Vec<Ipv4Net> = of_vpc.iter().map(|vswitch| vswitch.cidr).collect();
    if let Some(fault) = addresses::vswitch_fault(cidr, vpc.cidr, &others) {
        return Err(ControlError::invalid(
            "vswitch",
            format!("The default VPC has no default vswitch: {fault}."),
        )
        .with_next_step("Name the vswitch to be on."));
    }
    let vswitch = add_vswitch(transaction, vpc.id, Some("default".to_owned()), cidr, true)?;
    Ok((vpc, vswitch))
}
