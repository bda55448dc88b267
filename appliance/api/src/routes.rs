//! All routes, and what every request passes through.

use std::time::Duration;

use api_types::{Health, HealthCheck};
use axum::{Router, extract::FromRef, http::StatusCode, middleware, routing::get};
use control::{Control, HostSystem, model::State as InstanceState};
use std::sync::Arc;
use tokio::sync::watch;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    access::{self, Access},
    envelope, openapi,
    problem::{ApiProblem, ApiResult},
    resources::{
        accounts, bills, budgets, console, decisions, deployment_sets, disks, events, host,
        host_system, images, instances, meters, plugins, quotes, security_groups, spot_prices,
        subscriptions, uploads, usage, vpcs, vswitches,
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
    /// The machine under the daemon.
    pub host: HostShared,
}

/// What the handlers of the machine under the daemon need: no store, no pool.
#[derive(Clone, Default)]
pub(crate) struct HostShared {
    system: Option<HostSystem>,
    /// What those who enrol are given.
    pub api_token: Option<Arc<str>>,
    control: Option<Control>,
}

impl HostShared {
    pub fn new(
        system: Option<HostSystem>,
        api_token: Option<Arc<str>>,
        control: Option<Control>,
    ) -> Self {
        Self {
            system,
            api_token,
            control,
        }
    }

    /// The machine, where its first process is ours.
    pub fn system(&self) -> ApiResult<&HostSystem> {
        self.system.as_ref().ok_or_else(|| {
            ApiProblem::new(
                StatusCode::NOT_FOUND,
                "NotAnAppliance",
                "this daemon runs on a system of somebody else's, which it does not update or configure",
            )
            .next_step("update the system and the daemon by the system's own means")
        })
    }

    /// The instances that run.
    pub fn running_instances(
        &self,
    ) -> impl Future<Output = control::Result<Vec<String>>> + Send + 'static {
        let control = self.control.clone();
        async move {
            let Some(control) = control else {
                return Ok(Vec::new());
            };
            let all = control.instances(&Default::default()).await?;
            let running = all
                .iter()
                .filter(|instance| instance.state == InstanceState::Running);
            Ok(running.map(|instance| instance.id.to_string()).collect())
        }
    }
}

impl FromRef<Shared> for HostShared {
    fn from_ref(shared: &Shared) -> Self {
        shared.host.clone()
    }
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
        .routes(routes!(
            deployment_sets::list_deployment_sets,
            deployment_sets::create_deployment_set
        ))
        .routes(routes!(
            deployment_sets::get_deployment_set,
            deployment_sets::modify_deployment_set,
            deployment_sets::delete_deployment_set
        ))
        .routes(routes!(decisions::list_decisions))
        .routes(routes!(decisions::get_decision))
        .routes(routes!(decisions::list_decision_inputs))
        .routes(routes!(decisions::rerun_decision))
        .routes(routes!(usage::get_usage))
        .routes(routes!(plugins::list_plugins, plugins::install_plugin))
        .routes(routes!(plugins::inspect_plugin))
        .routes(routes!(plugins::roll_back_plugin))
        .routes(routes!(plugins::get_plugin, plugins::remove_plugin))
        .routes(routes!(plugins::activate_plugin))
        .routes(routes!(plugins::get_plugin_shadow, plugins::shadow_plugin))
        .routes(routes!(plugins::retire_plugin))
        .routes(routes!(plugins::replay_plugin))
        .routes(routes!(bills::list_bills))
        .routes(routes!(bills::verify_bills))
        .routes(routes!(bills::get_bill))
        .routes(routes!(bills::replay_bill))
        .routes(routes!(meters::list_meters))
        .routes(routes!(meters::set_meter, meters::delete_meter))
        .routes(routes!(budgets::list_budgets))
        .routes(routes!(budgets::set_budget, budgets::delete_budget))
        .routes(routes!(quotes::quote_instances))
        .routes(routes!(subscriptions::list_subscriptions))
        .routes(routes!(
            subscriptions::get_subscription,
            subscriptions::modify_subscription
        ))
        .routes(routes!(subscriptions::renew_subscription))
        .routes(routes!(subscriptions::change_subscription))
        .routes(routes!(accounts::list_accounts))
        .routes(routes!(accounts::set_account))
        .routes(routes!(accounts::list_payments, accounts::pay_in))
        .routes(routes!(spot_prices::list_spot_prices))
        .routes(routes!(
            spot_prices::get_spot_price,
            spot_prices::set_spot_price
        ))
        .routes(routes!(host::get_host))
        .routes(routes!(host::get_health))
        .routes(routes!(events::watch_events))
        .merge(host_routes())
}

/// Those of the machine under the daemon, which work without a store and a pool.
fn host_routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    HostShared: FromRef<S>,
{
    OpenApiRouter::new()
        .routes(routes!(host_system::get_host_system))
        .routes(routes!(
            host_system::list_host_updates,
            host_system::begin_host_update
        ))
        .routes(routes!(host_system::send_host_update))
        .routes(routes!(host_system::apply_host_update))
        .routes(routes!(host_system::reboot_host))
        .routes(routes!(host_system::shut_down_host))
        .routes(routes!(host_system::roll_back_host))
        .routes(routes!(host_system::unlock_host))
        .routes(routes!(
            host_system::get_host_configuration,
            host_system::push_host_configuration,
            host_system::reset_host_configuration
        ))
        .routes(routes!(host_system::enroll))
        .routes(routes!(openapi::get_openapi))
}

/// What is served while the host lacks what instances need: its own machine, and why nothing else.
pub(crate) fn maintenance(host: HostShared, faults: Vec<HealthCheck>, access: Access) -> Router {
    let why: Vec<String> = faults
        .iter()
        .map(|fault| {
            format!(
                "{}: {}",
                fault.name,
                fault.message.as_deref().unwrap_or_default()
            )
        })
        .collect();
    let refused = ApiProblem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "HostNotReady",
        format!("this host cannot run instances now: {}", why.join("; ")),
    )
    .next_step("`ashlar host system` shows what is wrong and what to do about it");
    let health = Health {
        ok: false,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        checks: faults,
    };
    let (router, _) = host_routes::<HostShared>().split_for_parts();
    router
        .route(
            "/v1/health",
            get(move || async move { host::health_answer(health) }),
        )
        .fallback(move || async move { refused })
        .with_state(host)
        .layer(middleware::from_fn_with_state(access, access::check))
        .layer(middleware::from_fn_with_state(
            envelope::no_clock(),
            envelope::wrap,
        ))
}

/// The whole interface for one listener. From the outside in: the envelope, then access, then the route.
pub(crate) fn router(shared: Shared, access: Access) -> Router {
    let (router, _) = described().split_for_parts();
    router
        .with_state(shared.clone())
        .layer(middleware::from_fn_with_state(access, access::check))
        .layer(middleware::from_fn_with_state(
            envelope::clock(shared.control),
            envelope::wrap,
        ))
}
