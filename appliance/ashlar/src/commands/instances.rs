//! `ashlar ps`, `show`, `start`, `stop`, `reboot`, `modify` and `rm`.

use api_types::{
    Affinity, CpuCredits, Instance, InstanceState, KeepWhenStopped, ModifyInstance, Page,
    RebootInstance, StopInstance, StoppedMode,
};
use clap::Args;

use super::{Refusals, charge};
use crate::{
    cli::Patience,
    client::{Client, Error, Query, encode},
    output::{Column, Output, age_now, facts, mib, or_dash, print},
    wait::{Wanted, Watch},
};

/// An instance in a table.
pub const COLUMNS: &[Column<Instance>] = &[
    Column("ID", |i| i.id.clone()),
    Column("NAME", |i| or_dash(i.name.as_ref())),
    Column("STATE", |i| i.state.as_str().into()),
    Column("VCPUS", |i| i.vcpus.to_string()),
    Column("MEMORY", |i| mib(i.memory_mib)),
    Column("ADDRESS", |i| {
        or_dash(i.network_interfaces.first().map(|n| &n.private_ip))
    }),
    Column("IMAGE", |i| i.image_id.clone()),
    Column("AGE", |i| age_now(&i.created_at)),
];

/// List instances.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ashlar ps -a\n  ashlar ps --state Stopped -q | xargs -r ashlar rm\n  ashlar ps --tag role=web -o json"
)]
pub struct Ps {
    /// Also those that are stopped
    #[arg(long, short, conflicts_with = "state")]
    all: bool,
    /// Only those in this state (Pending, Starting, Running, Stopping, Stopped); may be repeated
    #[arg(long, value_name = "STATE", value_parser = state)]
    state: Vec<InstanceState>,
    /// Only those of this name
    #[arg(long)]
    name: Option<String>,
    /// Only those made from this image
    #[arg(long, value_name = "ID")]
    image: Option<String>,
    /// Only those in this VPC
    #[arg(long, value_name = "ID")]
    vpc: Option<String>,
    /// Only those on this vswitch
    #[arg(long, value_name = "ID")]
    vswitch: Option<String>,
    /// Only those in this security group
    #[arg(long = "security-group", visible_alias = "sg", value_name = "ID")]
    security_group: Option<String>,
    /// Only those in this deployment set
    #[arg(long, value_name = "ID")]
    deployment_set: Option<String>,
    /// Only those with this label KEY=VALUE; may be repeated
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = super::tag)]
    tags: Vec<(String, String)>,
}

impl Ps {
    /// Does it.
    pub async fn execute(self, client: &Client, output: &Output) -> Result<(), Error> {
        let states: Vec<&str> = if self.state.is_empty() {
            InstanceState::ALL
                .into_iter()
                .filter(|state| *state != InstanceState::Stopped)
                .map(InstanceState::as_str)
                .collect()
        } else {
            self.state.iter().map(|state| state.as_str()).collect()
        };
        let tags: Vec<String> = self
            .tags
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let path = Query::of("/v1/instances")
            .add("state", (!self.all).then(|| states.join(",")))
            .add("name", self.name)
            .add("image_id", self.image)
            .add("vpc_id", self.vpc)
            .add("vswitch_id", self.vswitch)
            .add("security_group_id", self.security_group)
            .add("deployment_set_id", self.deployment_set)
            .add("tags", (!tags.is_empty()).then(|| tags.join(",")))
            .finish();
        let page = client.list::<Instance>(&path).await?;
        output.list(&page, &page.items, |i| i.id.clone(), COLUMNS)
    }
}

fn state(text: &str) -> Result<InstanceState, String> {
    InstanceState::ALL
        .into_iter()
        .find(|state| state.as_str().eq_ignore_ascii_case(text))
        .ok_or_else(|| {
            format!("`{text}` is no state: Pending, Starting, Running, Stopping or Stopped")
        })
}

/// Show everything about one instance.
#[derive(Debug, Args)]
pub struct Show {
    /// The instance
    id: String,
}

impl Show {
    /// Does it.
    pub async fn execute(self, client: &Client, output: &Output) -> Result<(), Error> {
        let instance: Instance = client.get(&path(&self.id)).await?;
        output.answer(&instance, describe)
    }
}

fn describe(i: &Instance) -> String {
    let milliseconds =
        |value: Option<f64>| value.map_or_else(String::new, |ms| format!("{ms:.2} ms"));
    let disks: Vec<String> = i
        .disks
        .iter()
        .map(|disk| {
            let role = match disk.role {
                api_types::DiskRole::System => "system",
                api_types::DiskRole::Data => "data",
            };
            format!("{} {} {role}", disk.disk_id, or_dash(disk.device.as_ref()))
        })
        .collect();
    let networks: Vec<String> = i
        .network_interfaces
        .iter()
        .map(|n| {
            format!(
                "{} {} {} on {} in {}, groups {}",
                n.id,
                n.private_ip,
                n.mac,
                n.vswitch_id,
                n.vpc_id,
                n.security_group_ids.join(" ")
            )
        })
        .collect();
    let tags: Vec<String> = i
        .tags
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let others = |list: fn(&Affinity) -> &Vec<String>| {
        let affinity = i.affinity.as_ref();
        affinity.map_or_else(String::new, |affinity| list(affinity).join("\n"))
    };
    let optional = |text: &Option<String>| text.clone().unwrap_or_default();
    facts(&[
        ("id", i.id.clone()),
        ("name", optional(&i.name)),
        ("description", optional(&i.description)),
        ("state", i.state.as_str().into()),
        (
            "reason",
            i.state_reason
                .as_ref()
                .map_or_else(String::new, |r| format!("{} ({})", r.message, r.code)),
        ),
        ("keeps", i.stopped_mode.map_or("", |mode| kept(mode)).into()),
        ("type", optional(&i.instance_type)),
        ("vcpus", i.vcpus.to_string()),
        ("own cpus", optional(&i.cpus)),
        ("memory", mib(i.memory_mib)),
        (
            "cpu credits",
            i.cpu_credits.as_ref().map_or_else(String::new, credits),
        ),
        ("image", i.image_id.clone()),
        ("cmdline", optional(&i.cmdline)),
        ("disks", disks.join("\n")),
        ("network", networks.join("\n")),
        ("tags", tags.join("\n")),
        (
            "protected",
            if i.deletion_protection {
                "from being deleted".into()
            } else {
                String::new()
            },
        ),
        ("charge", charge::words(&i.charge)),
        (
            "locked",
            i.lock.map(charge::lock_words).unwrap_or_default().into(),
        ),
        ("deployment set", optional(&i.deployment_set_id)),
        ("with", others(|affinity| &affinity.with)),
        ("apart from", others(|affinity| &affinity.apart_from)),
        ("host", i.host_id.clone()),
        ("decision", i.decision_id.clone()),
        ("created", i.created_at.clone()),
        ("started", optional(&i.started_at)),
        ("stopped", optional(&i.stopped_at)),
        (
            "ready after",
            milliseconds(i.last_start.and_then(|s| s.running_ms)),
        ),
        (
            "first output after",
            milliseconds(i.api_to_first_guest_output_ms),
        ),
        (
            "vmm process",
            i.vmm_pid.map_or_else(String::new, |pid| pid.to_string()),
        ),
    ])
}

/// What a stopped instance keeps.
const fn kept(mode: StoppedMode) -> &'static str {
    match mode {
        StoppedMode::KeepCharging => "vCPUs and memory, charged on (KeepCharging)",
        StoppedMode::StopCharging => "disks and addresses only (StopCharging)",
        StoppedMode::NotApplicable => "vCPUs and memory, paid in advance (Not-applicable)",
    }
}

/// The CPU credits of a burstable instance in one line.
fn credits(credits: &CpuCredits) -> String {
    let CpuCredits {
        balance,
        max,
        per_hour,
        baseline_percent,
        throttled,
    } = credits;
    let state = if *throttled {
        "used up, held to its baseline"
    } else {
        "full speed"
    };
    format!(
        "{balance:.2} of at most {max}, {per_hour} an hour, baseline {baseline_percent} %: {state}"
    )
}

/// Start stopped instances.
#[derive(Debug, Args)]
pub struct Start {
    /// The instances
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// Wait until they run
    #[arg(long, short)]
    wait: bool,
    #[command(flatten)]
    patience: Patience,
}

impl Start {
    /// Does it.
    pub async fn execute(self, client: &Client, output: &Output) -> Result<(), Error> {
        let wanted = self.wait.then_some((InstanceState::Running, self.patience));
        act(
            client,
            output,
            &self.ids,
            "start",
            &serde_json::json!({}),
            wanted,
        )
        .await
    }
}

/// Stop instances.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ashlar stop i-… --wait             press the power button, wait for the guest to go\n  ashlar stop i-… --force            take the power away\n  ashlar stop i-… --stopped-mode stop-charging\n                                     pay for its disks only; starting it again may find no room\n\nStopped, an instance keeps its vCPUs and memory and is charged for them as before, unless it is stopped with\nstop-charging. That can be said of one that is stopped already, too."
)]
pub struct Stop {
    /// The instances
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// Take the power away instead of asking the guest
    #[arg(long, short)]
    force: bool,
    /// What they keep beside their disks and addresses
    #[arg(long, value_name = "MODE")]
    stopped_mode: Option<Mode>,
    /// Wait until they are stopped
    #[arg(long, short)]
    wait: bool,
    #[command(flatten)]
    patience: Patience,
}

/// What stopped instances keep.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Mode {
    /// vCPUs and memory, which are charged on; the default
    KeepCharging,
    /// Nothing: starting them again may find no room
    StopCharging,
}

impl Stop {
    /// Does it.
    pub async fn execute(self, client: &Client, output: &Output) -> Result<(), Error> {
        let wanted = self.wait.then_some((InstanceState::Stopped, self.patience));
        let body = StopInstance {
            force: self.force,
            stopped_mode: self.stopped_mode.map(|mode| match mode {
                Mode::KeepCharging => KeepWhenStopped::KeepCharging,
                Mode::StopCharging => KeepWhenStopped::StopCharging,
            }),
        };
        act(client, output, &self.ids, "stop", &body, wanted).await
    }
}

/// Reboot instances.
#[derive(Debug, Args)]
pub struct Reboot {
    /// The instances
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// Reset instead of asking the guest
    #[arg(long, short)]
    force: bool,
}

impl Reboot {
    /// Does it.
    pub async fn execute(self, client: &Client, output: &Output) -> Result<(), Error> {
        let body = RebootInstance { force: self.force };
        act(client, output, &self.ids, "reboot", &body, None).await
    }
}

/// Asks for an action on each instance, then waits for all of them if that is wanted.
async fn act(
    client: &Client,
    output: &Output,
    ids: &[String],
    action: &str,
    body: &(impl serde::Serialize + Sync),
    wanted: Option<(InstanceState, Patience)>,
) -> Result<(), Error> {
    let watch = match wanted {
        Some(_) => Some(Watch::open(client).await?),
        None => None,
    };
    let mut refusals = Refusals::default();
    let mut items: Vec<Instance> = Vec::with_capacity(ids.len());
    for id in ids {
        let answer = client.post(&format!("{}/{action}", path(id)), body).await;
        items.extend(refusals.or_answer(answer)?);
    }
    if items.is_empty() {
        return refusals.outcome();
    }
    if let (Some((state, patience)), Some(watch)) = (wanted, watch) {
        let ids: Vec<String> = items.iter().map(|i| i.id.clone()).collect();
        items = watch
            .until(&ids, Wanted::State(state), patience.limit())
            .await?;
    }
    let page = Page {
        items,
        next_token: None,
    };
    output.list(&page, &page.items, |i| i.id.clone(), COLUMNS)?;
    refusals.outcome()
}

/// Change an instance's name, description, labels or protection.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ashlar modify i-… --name shop --tag role=shop\n  ashlar modify i-… --protect false"
)]
pub struct Modify {
    /// The instance
    id: String,
    /// The name for people
    #[arg(long)]
    name: Option<String>,
    /// For people: what it is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Whether it is protected from being deleted
    #[arg(long, value_name = "true|false")]
    protect: Option<bool>,
    /// A label KEY=VALUE; may be repeated; replaces all there are
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = super::tag)]
    tags: Vec<(String, String)>,
}

impl Modify {
    /// Does it.
    pub async fn execute(self, client: &Client, output: &Output) -> Result<(), Error> {
        let change = ModifyInstance {
            name: self.name,
            description: self.description,
            deletion_protection: self.protect,
            tags: (!self.tags.is_empty()).then(|| self.tags.into_iter().collect()),
        };
        if change == ModifyInstance::default() {
            return Err(Error::Usage("say what is to be changed".into()));
        }
        let instance: Instance = client.patch(&path(&self.id), &change).await?;
        super::created(output, &instance, &instance.id, COLUMNS)
    }
}

/// Delete instances.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  ashlar rm --force --wait i-…       stop it if it runs, delete it, wait until it is gone"
)]
pub struct Rm {
    /// The instances
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// Also if it runs: take the power away first
    #[arg(long, short)]
    force: bool,
    /// Wait until they are gone
    #[arg(long, short)]
    wait: bool,
    #[command(flatten)]
    patience: Patience,
}

impl Rm {
    /// Does it.
    pub async fn execute(self, client: &Client, output: &Output) -> Result<(), Error> {
        let watch = if self.wait {
            Some(Watch::open(client).await?)
        } else {
            None
        };
        let mut refusals = Refusals::default();
        let mut accepted = Vec::with_capacity(self.ids.len());
        for id in self.ids {
            let path = Query::of(&path(&id))
                .add("force", self.force.then_some(true))
                .finish();
            if refusals.or_answer(client.delete(&path).await)?.is_none() {
                continue;
            }
            if output.format == crate::output::Format::Table {
                print(&id)?;
            }
            accepted.push(id);
        }
        if let Some(watch) = watch {
            watch.until_gone(&accepted, self.patience.limit()).await?;
        }
        refusals.outcome()
    }
}

fn path(id: &str) -> String {
    format!("/v1/instances/{}", encode(id))
}
