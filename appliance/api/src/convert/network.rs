//! VPCs and vswitches.

use api_types::{Vpc, Vswitch};
use control::model;

/// A VPC as it goes over the wire.
pub fn vpc_to_wire(vpc: &model::Vpc) -> Vpc {
    Vpc {
        id: vpc.id.to_string(),
        name: vpc.name.clone(),
        cidr: vpc.cidr.to_string(),
        is_default: vpc.is_default,
        created_at: vpc.created_at.to_string(),
    }
}

/// A vswitch as it goes over the wire.
pub fn vswitch_to_wire(vswitch: &model::Vswitch) -> Vswitch {
    Vswitch {
        id: vswitch.id.to_string(),
        name: vswitch.name.clone(),
        vpc_id: vswitch.vpc.to_string(),
        cidr: vswitch.cidr.to_string(),
        is_default: vswitch.is_default,
        available_ip_count: vswitch.available_addresses,
        created_at: vswitch.created_at.to_string(),
    }
}
