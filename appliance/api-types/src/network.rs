//! VPCs and their vswitches.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A VPC: a private network with address space of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Vpc {
    /// `vpc-…`
    pub id: String,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its addresses: `10.0.0.0/16`.
    pub cidr: String,
    /// Whether it is where instances go whose request names no vswitch.
    pub is_default: bool,
    /// When it was made (RFC 3339).
    #[schema(format = DateTime)]
    pub created_at: String,
}

/// Make a VPC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateVpc {
    /// Its addresses: 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 or a part of one.
    pub cidr: String,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 128)]
    pub name: Option<String>,
    /// Makes a repeated request answer what the first answered: up to 64 ASCII characters of your choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 64)]
    pub client_token: Option<String>,
    /// Check everything, change nothing: a request that would succeed answers the problem `DryRunOperation`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// A vswitch: a subnet of a VPC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Vswitch {
    /// `vsw-…`
    pub id: String,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The VPC it is part of.
    pub vpc_id: String,
    /// Its addresses: `10.0.1.0/24`.
    pub cidr: String,
    /// Whether it is where instances go whose request names no vswitch.
    pub is_default: bool,
    /// How many addresses are free.
    pub available_ip_count: u64,
    /// When it was made (RFC 3339).
    #[schema(format = DateTime)]
    pub created_at: String,
}

/// Make a vswitch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateVswitch {
    /// The VPC to make it in.
    pub vpc_id: String,
    /// Its addresses: a /16 to /29 within the VPC, apart from those of its other vswitches.
    pub cidr: String,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 128)]
    pub name: Option<String>,
    /// Makes a repeated request answer what the first answered: up to 64 ASCII characters of your choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 64)]
    pub client_token: Option<String>,
    /// Check everything, change nothing: a request that would succeed answers the problem `DryRunOperation`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}
