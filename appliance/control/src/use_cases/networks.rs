//! VPCs, vswitches and interfaces.

use crate::{
    Control, Result,
    commands::{CreateVpc, CreateVswitch},
    model::{NetworkInterface, Vpc, Vswitch},
    use_cases::unwired,
};
use types::{VpcId, VswitchId};

impl Control {
    /// Makes a VPC (CreateVpc).
    pub async fn create_vpc(&self, _command: CreateVpc) -> Result<Vpc> {
        unwired()
    }

    /// The VPC of that id (`InvalidVpcId.NotFound`).
    pub async fn vpc(&self, _id: VpcId) -> Result<Vpc> {
        unwired()
    }

    /// All VPCs, oldest first.
    pub async fn vpcs(&self) -> Result<Vec<Vpc>> {
        unwired()
    }

    /// Deletes a VPC without vswitches and without security groups other than its default one
    /// (`DependencyViolation` otherwise).
    pub async fn delete_vpc(&self, _id: VpcId) -> Result<()> {
        unwired()
    }

    /// Makes a vswitch (CreateVSwitch).
    pub async fn create_vswitch(&self, _command: CreateVswitch) -> Result<Vswitch> {
        unwired()
    }

    /// The vswitch of that id (`InvalidVSwitchId.NotFound`).
    pub async fn vswitch(&self, _id: VswitchId) -> Result<Vswitch> {
        unwired()
    }

    /// The vswitches, of one VPC if that is given, oldest first.
    pub async fn vswitches(&self, _vpc: Option<VpcId>) -> Result<Vec<Vswitch>> {
        unwired()
    }

    /// Deletes a vswitch without interfaces (`DependencyViolation` otherwise).
    pub async fn delete_vswitch(&self, _id: VswitchId) -> Result<()> {
        unwired()
    }

    /// All network interfaces, oldest first.
    pub async fn interfaces(&self) -> Result<Vec<NetworkInterface>> {
        unwired()
    }
}
