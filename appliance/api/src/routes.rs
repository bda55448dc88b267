//! All routes, and what every request passes through.

use std::time::Duration;

use axum::{Router, middleware};
use control::Control;
use tokio::sync::watch;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    access::{self, Access},
    envelope, openapi,
    resources::{
        console, decisions, disks, events, host, images, instances, plugins, security_groups,
        uploads, usage, vpcs, vswitches,
    },
};

/// What handlers share.
#[derive(Clone)]
pub(crate) struct Shared {
    /// The use cases.
    pub control: Control,
    /// Becomes true when the interface is to stop: streams end.
    pub stopping: watch::Receiver<bool>,
    /// How long an upload may stall.
    pub upload_stall_timeout: Duration,
}

impl Shared {
    /// Is over when the interface is to stop.
    pub fn stopped(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stopping = self.stopping.clone();
        async move {
            // The sender going away is a stop, too.
            let _ = stopping.wait_for(|stop| *stop).await;
        }
    }
}

/// Every route with its description.
pub(crate) fn described() -> OpenApiRouter<Shared> {
    OpenApiRouter::with_openapi(openapi::preamble())
        .routes(routes!(instances::list_instances, instances::run_instances))
        .routes(routes!(
            instances::get_instance,
            instances::modify_instance,
            instances::delete_instance
        ))
        .routes(routes!(instances::start_instance))
        .routes(routes!(instances::stop_instance))
        .routes(routes!(instances::reboot_instance))
        .routes(routes!(console::read_console, console::write_console))
        .routes(routes!(disks::list_disks, disks::create_disk))
        .routes(routes!(disks::get_disk, disks::delete_disk))
        .routes(routes!(images::list_images, images::create_image))
        .routes(routes!(images::get_image, images::delete_image))
        .routes(routes!(uploads::upload_kernel))
        .routes(routes!(uploads::upload_initrd))
        .routes(routes!(uploads::upload_disk))
        .routes(routes!(images::complete_image))
        .routes(routes!(
            security_groups::list_security_groups,
            security_groups::create_security_group
        ))
        .routes(routes!(
            security_groups::get_security_group,
            security_groups::delete_security_group
        ))
        .routes(routes!(security_groups::authorize_rules))
        .routes(routes!(security_groups::revoke_rules))
        .routes(routes!(vpcs::list_vpcs, vpcs::create_vpc))
        .routes(routes!(vpcs::get_vpc, vpcs::delete_vpc))
        .routes(routes!(
            vswitches::list_vswitches,
            vswitches::create_vswitch
        ))
        .routes(routes!(vswitches::get_vswitch, vswitches::delete_vswitch))
        .routes(routes!(decisions::list_decisions))
        .routes(routes!(decisions::get_decision))
        .routes(routes!(usage::get_usage))
        .routes(routes!(plugins::list_plugins))
        .routes(routes!(host::get_host))
        .routes(routes!(host::get_health))
        .routes(routes!(events::watch_events))
        .routes(routes!(openapi::get_openapi))
}

/// The whole interface for one listener. From the outside in: the envelope, then access, then the route.
pub(crate) fn router(shared: Shared, access: Access) -> Router {
    let (router, _) = described().split_for_parts();
    router
        .with_state(shared.clone())
        .layer(middleware::from_fn_with_state(access, access::check))
        .layer(middleware::from_fn_with_state(shared, envelope::wrap))
}
