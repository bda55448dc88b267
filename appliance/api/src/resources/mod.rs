//! One file per resource: requests become commands, records become wire types.

pub mod accounts;
pub mod bills;
pub mod budgets;
pub mod console;
pub mod decisions;
pub mod deployment_sets;
pub mod disks;
pub mod events;
pub mod host;
pub mod host_system;
pub mod images;
pub mod instances;
pub mod meters;
pub mod plugins;
pub mod quotes;
pub mod security_groups;
pub mod spot_prices;
pub mod subscriptions;
pub mod uploads;
pub mod usage;
pub mod vpcs;
pub mod vswitches;

use control::commands::Request;

use crate::envelope::Received;

/// What every command that makes something carries.
fn request(client_token: Option<String>, dry_run: bool, received: Received) -> Request {
    Request {
        client_token,
        dry_run,
        received_ns: Some(received.0),
    }
}
