//! Networks that are entries in a map, and a file for a tap.

use super::World;
use async_trait::async_trait;
use control::ports::{
    InterfaceSpec, Networks, PortError, PortErrorKind, PortResult, PresentVpc, VpcSecurity, VpcSpec,
};
use std::{fs::File, os::fd::OwnedFd};
use types::{InterfaceId, VpcId};

#[async_trait]
impl Networks for World {
    async fn ensure_vpc(&self, vpc: &VpcSpec) -> PortResult<()> {
        self.call("ensure_vpc")?.vpcs.entry(vpc.id).or_default();
        Ok(())
    }

    async fn remove_vpc(&self, vpc: VpcId) -> PortResult<()> {
        let mut things = self.call("remove_vpc")?;
        things.vpcs.remove(&vpc);
        things.security.remove(&vpc);
        Ok(())
    }

    async fn ensure_interface(&self, interface: &InterfaceSpec) -> PortResult<OwnedFd> {
        self.may_hang("ensure_interface").await;
        assert!(
            interface.subnet.contains(&interface.address)
                && interface.subnet.contains(&interface.gateway)
        );
        self.call("ensure_interface")?
            .vpcs
            .entry(interface.vpc.id)
            .or_default()
            .insert(interface.id);
        Ok(File::open("/dev/null").unwrap().into())
    }

    async fn resume_interface(&self, interface: &InterfaceSpec) -> PortResult<()> {
        let mut things = self.call("resume_interface")?;
        if !things
            .vpcs
            .get(&interface.vpc.id)
            .is_some_and(|vpc| vpc.contains(&interface.id))
        {
            return Err(PortError::new(
                PortErrorKind::NotFound,
                "the interface is gone",
            ));
        }
        things.resumed.insert(interface.id);
        Ok(())
    }

    async fn remove_interface(&self, vpc: VpcId, interface: InterfaceId) -> PortResult<()> {
        if let Some(vpc) = self.call("remove_interface")?.vpcs.get_mut(&vpc) {
            vpc.remove(&interface);
        }
        Ok(())
    }

    async fn apply_security(&self, security: &VpcSecurity) -> PortResult<()> {
        let mut things = self.call("apply_security")?;
        for interface in &security.interfaces {
            let there = things
                .vpcs
                .get(&security.vpc)
                .is_some_and(|vpc| vpc.contains(&interface.id));
            assert!(there, "rules about {}, which is not there", interface.id);
        }
        things.applied += 1;
        things.security.insert(security.vpc, security.clone());
        Ok(())
    }

    async fn list(&self) -> PortResult<Vec<PresentVpc>> {
        let things = self.call("list_networks")?;
        let present =
            |(id, interfaces): (&VpcId, &std::collections::BTreeSet<InterfaceId>)| PresentVpc {
                id: *id,
                interfaces: interfaces.iter().copied().collect(),
            };
        Ok(things.vpcs.iter().map(present).collect())
    }
}
