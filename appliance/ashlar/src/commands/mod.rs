//! One file per group of commands.

pub mod accounts;
pub mod bills;
pub mod budgets;
pub mod charge;
pub mod console;
pub mod decisions;
pub mod deployment_sets;
pub mod disks;
pub mod enroll;
pub mod events;
pub mod flash;
pub mod host;
pub mod host_system;
pub mod images;
pub mod inspect;
pub mod instances;
pub mod manual;
pub mod meters;
pub mod networks;
pub mod plugins;
pub mod price;
pub mod run;
pub mod security_groups;
pub mod spot;
pub mod subscriptions;
mod terminal;
mod upload;
pub mod usage;

use crate::{
    cli::Command,
    client::{Client, Error, encode},
    output::{Column, Format, Output, print},
};

/// Does what was asked for. `fingerprint` is that of a host to enrol with.
pub async fn execute(
    command: Command,
    client: &Client,
    fingerprint: Option<&str>,
    output: &Output,
) -> Result<(), Error> {
    match command {
        Command::Run(run) => run.execute(client, output).await,
        Command::Ps(ps) => ps.execute(client, output).await,
        Command::Show(show) => show.execute(client, output).await,
        Command::Start(start) => start.execute(client, output).await,
        Command::Stop(stop) => stop.execute(client, output).await,
        Command::Reboot(reboot) => reboot.execute(client, output).await,
        Command::Modify(modify) => modify.execute(client, output).await,
        Command::Rm(rm) => rm.execute(client, output).await,
        Command::Console(console) => console.execute(client, output).await,
        Command::Images(images) => images.execute(client, output).await,
        Command::Disks(disks) => disks.execute(client, output).await,
        Command::Vpcs(vpcs) => vpcs.execute(client, output).await,
        Command::Vswitches(vswitches) => vswitches.execute(client, output).await,
        Command::SecurityGroups(groups) => groups.execute(client, output).await,
        Command::DeploymentSets(sets) => sets.execute(client, output).await,
        Command::Decisions(decisions) => decisions.execute(client, output).await,
        Command::Usage(usage) => usage.execute(client, output).await,
        Command::Plugins { command: None } => plugins::list(client, output).await,
        Command::Plugins {
            command: Some(command),
        } => command.execute(client, output).await,
        Command::Bill(bills) => bills.execute(client, output).await,
        Command::Price(price) => price.execute(client, output).await,
        Command::Subscription(subscriptions) => subscriptions.execute(client, output).await,
        Command::Account(accounts) => accounts.execute(client, output).await,
        Command::Spot(spot) => spot.execute(client, output).await,
        Command::Budget(budgets) => budgets.execute(client, output).await,
        Command::Meter(meters) => meters.execute(client, output).await,
        Command::Host { system: None } => host::host(client, output).await,
        Command::Host {
            system: Some(command),
        } => host_system::execute(command, client, output).await,
        Command::Flash(flash) => flash.execute(output),
        Command::Enroll(enroll) => enroll::enroll(enroll, fingerprint, output).await,
        Command::Hosts(known) => enroll::known(known, output),
        Command::Events(events) => events.execute(client, output).await,
        Command::Completion { shell } => manual::completion(shell),
        Command::Man { dir } => manual::man(dir.as_deref()),
    }
}

/// The path of one item.
fn item(collection: &str, id: &str) -> String {
    format!("/v1/{collection}/{}", encode(id))
}

/// Prints what was just made.
fn created<T: serde::Serialize>(
    output: &Output,
    made: &T,
    id: &str,
    columns: &[Column<T>],
) -> Result<(), Error> {
    output.list(made, std::slice::from_ref(made), |_| id.to_owned(), columns)
}

/// What the host refused of several requests: one refusal does not end the others.
#[derive(Default)]
struct Refusals {
    last: Option<Error>,
}

impl Refusals {
    /// The answer, or nothing when the host refused. Every refusal but the last is told as soon as the next one comes.
    ///
    /// # Errors
    /// Whatever else went wrong: it would go wrong with the next request too.
    fn or_answer<T>(&mut self, result: Result<T, Error>) -> Result<Option<T>, Error> {
        match result {
            Ok(answer) => Ok(Some(answer)),
            Err(refusal @ Error::Refused(_)) => {
                if let Some(earlier) = self.last.replace(refusal) {
                    crate::tell(&earlier);
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The last refusal as the command's outcome.
    fn outcome(self) -> Result<(), Error> {
        self.last.map_or(Ok(()), Err)
    }
}

/// Deletes items one after the other; prints the ids of those that are gone.
async fn remove(
    client: &Client,
    output: &Output,
    collection: &str,
    ids: &[String],
) -> Result<(), Error> {
    let mut refusals = Refusals::default();
    for id in ids {
        let deleted = client.delete(&item(collection, id)).await;
        if refusals.or_answer(deleted)?.is_some() && output.format == Format::Table {
            print(id)?;
        }
    }
    refusals.outcome()
}

/// Reads a label `KEY=VALUE`.
fn tag(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err(format!("`{text}` is not KEY=VALUE")),
    }
}
