//! `ashlard teardown`: takes a host off the machine.

use crate::{
    machines::{HostMachines, VmmGroups},
    options::Teardown,
    serve::{log_to_stderr, network_manager},
    state,
};
use anyhow::{Context, Result};
use control::ports::Machines;

/// Ends the instances and removes the networks of a host whose daemon does not run.
pub fn run(options: Teardown) -> Result<()> {
    log_to_stderr();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(tear_down(options))
}

async fn tear_down(options: Teardown) -> Result<()> {
    let folders = &options.folders;
    if !folders.state.exists() {
        println!(
            "nothing to take away: there is no folder {}",
            folders.state.display()
        );
        return Ok(());
    }
    // Held until the end, so that no daemon starts meanwhile, and refused while one runs.
    let _store = state::open(&folders.state)?;
    let machines = HostMachines::new(
        None,
        folders.machines(),
        VmmGroups::open(&folders.network_prefix()?, 1),
    )?;
    for machine in machines.adopt().await? {
        machines.kill(machine.instance).await?;
        println!("ended {}", machine.instance);
    }
    let networks = network_manager(folders)?;
    for found in networks.list().await? {
        match found.vpc {
            Some(vpc) => {
                networks.remove_vpc(vpc).await?;
                println!("removed the network of {vpc}");
            }
            None => println!("left {} alone: it is not a VPC's", found.namespace),
        }
    }
    Ok(())
}
