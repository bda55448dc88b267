//! `ashlar plugins`: policies, and who of them decides.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use api_types::{
    ActivatePlugin, InspectPlugin, InstallPlugin, Page, Plugin, PluginComparison, PluginDifference,
    PluginKind, PluginModule, PluginRole, ReplayPlugin, RollBackPlugin,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::{Args, Subcommand};

use crate::{
    client::{Client, Error},
    output::{Column, Output, age_now, facts, or_dash},
    project,
};

/// What a file of a policy's parameters is refused for.
const PARAMETERS_STEP: &str =
    "write one JSON object of strings, such as {\"strategy\": \"bin-pack\"}";

/// Policies: what decides where instances go and what their use costs.
#[derive(Debug, Subcommand)]
pub enum Plugins {
    /// Begin a policy: a folder with sources that build and test at once
    #[command(
        after_help = "Examples:\n  ashlar plugins new tiered --kind billing && cd tiered && ashlar plugins test\n  ashlar plugins new snug --kind scheduler --lang c     with clang and lld"
    )]
    New {
        /// What it is to be called: lower-case letters, digits and hyphens
        #[arg(value_name = "NAME", value_parser = policy_name)]
        name: String,
        /// What it decides about
        #[arg(long)]
        kind: Kind,
        /// The language it is written in
        #[arg(long, default_value = "rust")]
        lang: Language,
        /// The folder to make [default: its name]
        #[arg(long, value_name = "DIR")]
        path: Option<PathBuf>,
    },
    /// Build the component of the policy in a folder
    Build {
        /// The folder
        #[arg(value_name = "DIR", default_value = ".")]
        path: PathBuf,
    },
    /// Run the tests of the policy in a folder, among them what every policy must hold, and build its component
    Test {
        /// The folder
        #[arg(value_name = "DIR", default_value = ".")]
        path: PathBuf,
    },
    /// List the policies: those in force, and those that are installed and wait
    #[command(visible_alias = "list")]
    Ls,
    /// Show an installed policy: `tiered@3`, or `tiered` for its latest revision
    Show {
        /// The policy
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Look at a module without installing it: its kind, what it imports and exports
    Inspect {
        /// The module: a WebAssembly component
        file: PathBuf,
    },
    /// Install a policy; it decides nothing until it is activated
    #[command(
        after_help = "Examples:\n  ashlar plugins install tiered tiered.wasm --set free-hours=100\n  ashlar plugins activate tiered\n\nThe signature is read from FILE.minisig if there is one; hosts started with --policy-keys ask for it."
    )]
    Install(Install),
    /// Have a policy decide, at once, or for a share of the instances
    #[command(
        after_help = "Examples:\n  ashlar plugins activate tiered@3             from now on; `ashlar plugins rollback billing` takes it back\n  ashlar plugins activate spread --canary 10   for 10 % of the instances, chosen by their ids"
    )]
    Activate {
        /// The policy: `tiered@3`, or `tiered` for its latest revision
        #[arg(value_name = "NAME")]
        name: String,
        /// Only for this share of the instances, or of what is used: 1 to 99 percent
        #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=99))]
        canary: Option<u8>,
    },
    /// Have a policy asked, too, what the active one is asked, and note where it differs; with --report, show where
    #[command(
        after_help = "Examples:\n  ashlar plugins shadow tiered             from now on, without any effect\n  ashlar plugins shadow tiered --report    what it would have done since"
    )]
    Shadow {
        /// The policy: `tiered@3`, or `tiered` for its latest revision
        #[arg(value_name = "NAME")]
        name: String,
        /// Show what the shadow would have done
        #[arg(long)]
        report: bool,
    },
    /// Ask a policy about the past: what it would have placed elsewhere, or charged otherwise
    #[command(
        after_help = "Examples:\n  ashlar plugins replay tiered --from 2026-01-01T00:00:00Z --to 2026-02-01T00:00:00Z\n  ashlar plugins replay spread-domains -o json"
    )]
    Replay {
        /// The policy: `tiered@3`, or `tiered` for its latest revision
        #[arg(value_name = "NAME")]
        name: String,
        /// From when (RFC 3339) [default: from the beginning]
        #[arg(long, value_name = "TIME")]
        from: Option<String>,
        /// Until when (RFC 3339) [default: until now]
        #[arg(long, value_name = "TIME")]
        to: Option<String>,
    },
    /// Go back to the policy of a kind that was active before
    Rollback {
        /// Of which kind
        kind: Kind,
    },
    /// Take every role from a policy; in an active one's place decides what the daemon was started with
    Retire {
        /// The policy: `tiered@3`, or `tiered` for its latest revision
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Remove installed policies that have no role
    Rm {
        /// The policies: `tiered@3`, or `tiered` for its latest revision
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
    },
}

/// What to install.
#[derive(Debug, Args)]
pub struct Install {
    /// What it is to be called; a name that is there gets another revision
    name: String,
    /// The module: a WebAssembly component
    file: PathBuf,
    /// A parameter, KEY=VALUE; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = super::tag)]
    parameters: Vec<(String, String)>,
    /// Parameters as one JSON object of strings; --set counts more
    #[arg(long, value_name = "FILE")]
    parameters_file: Option<PathBuf>,
    /// The module's minisign signature [default: FILE.minisig, if it is there]
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
    /// Activate it at once
    #[arg(long)]
    activate: bool,
    /// Check everything, change nothing
    #[arg(long, conflicts_with = "activate")]
    dry_run: bool,
}

/// A language that policies are written in.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Language {
    /// With the SDK, by the Rust compiler
    Rust,
    /// With the SDK for C, by clang and lld
    C,
}

impl From<Language> for project::Language {
    fn from(language: Language) -> Self {
        match language {
            Language::Rust => Self::Rust,
            Language::C => Self::C,
        }
    }
}

/// A kind of policy.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Kind {
    /// Where instances go
    Scheduler,
    /// What their use costs
    Billing,
    /// Which requests are let in
    Admission,
}

impl From<Kind> for PluginKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Scheduler => Self::Scheduler,
            Kind::Billing => Self::Billing,
            Kind::Admission => Self::Admission,
        }
    }
}

const COLUMNS: &[Column<Plugin>] = &[
    Column("KIND", |p| kind(p.kind).into()),
    Column("NAME", |p| p.name.clone()),
    Column("ROLE", roles),
    Column("STATUS", |p| {
        match (p.healthy, p.roles.is_empty()) {
            (false, _) => "failing",
            (true, false) => "fine",
            (true, true) => "waiting",
        }
        .into()
    }),
    Column("CALLS", |p| p.calls.to_string()),
    Column("FALLBACKS", |p| p.fallbacks.to_string()),
    Column("MODULE", |p| {
        or_dash(
            p.module_sha256
                .as_ref()
                .map(|hex| hex.get(..12).unwrap_or(hex).to_owned())
                .as_ref(),
        )
    }),
    Column("LAST ERROR", |p| or_dash(p.last_error.as_ref())),
];

const DIFFERENCES: &[Column<PluginDifference>] = &[
    Column("RESOURCE", |d| d.resource_id.clone()),
    Column("DECISION", |d| or_dash(d.decision_id.as_ref())),
    Column("ACTIVE", |d| or_dash(d.active.as_ref())),
    Column("THIS ONE", |d| or_dash(d.other.as_ref())),
];

impl Plugins {
    /// Does it.
    pub async fn execute(self, client: &Client, output: &Output) -> Result<(), Error> {
        match self {
            Self::New {
                name,
                kind,
                lang,
                path,
            } => begin(output, &name, kind, lang.into(), path),
            Self::Build { path } => built(output, &path),
            Self::Test { path } => {
                project::test(&path)?;
                built(output, &path)
            }
            Self::Ls => list(client, output).await,
            Self::Show { name } => {
                let plugin: Plugin = client.get(&item(&name)).await?;
                output.answer(&plugin, describe)
            }
            Self::Inspect { file } => {
                let component = STANDARD.encode(read(&file)?);
                let module: PluginModule = client
                    .post("/v1/plugins/inspect", &InspectPlugin { component })
                    .await?;
                output.answer(&module, describe_module)
            }
            Self::Install(install) => install.execute(client, output).await,
            Self::Activate { name, canary } => activate(client, output, &name, canary).await,
            Self::Shadow { name, report: true } => {
                let path = format!("{}/shadow", item(&name));
                let comparison: PluginComparison = client.get(&path).await?;
                output.answer(&comparison, |c| describe_comparison(c, output))
            }
            Self::Shadow { name, .. } => {
                let path = format!("{}/shadow", item(&name));
                let plugin: Plugin = client.post(&path, &serde_json::json!({})).await?;
                changed(output, &plugin)
            }
            Self::Replay { name, from, to } => {
                replay(client, output, &name, &ReplayPlugin { from, to }).await
            }
            Self::Rollback { kind } => {
                let which = RollBackPlugin { kind: kind.into() };
                let plugin: Plugin = client.post("/v1/plugins/rollback", &which).await?;
                changed(output, &plugin)
            }
            Self::Retire { name } => {
                let path = format!("{}/retire", item(&name));
                let plugin: Plugin = client.post(&path, &serde_json::json!({})).await?;
                changed(output, &plugin)
            }
            Self::Rm { names } => super::remove(client, output, "plugins", &names).await,
        }
    }
}

fn policy_name(text: &str) -> Result<String, String> {
    project::check_name(text)?;
    Ok(text.to_owned())
}

fn begin(
    output: &Output,
    name: &str,
    kind: Kind,
    language: project::Language,
    path: Option<PathBuf>,
) -> Result<(), Error> {
    let folder = path.unwrap_or_else(|| PathBuf::from(name));
    project::create(&folder, name, kind.into(), language)?;
    let made = serde_json::json!({ "name": name, "path": folder });
    output.answer(&made, |_| {
        format!(
            "{} is a policy now: {} decides, `ashlar plugins test {}` tests and builds it",
            folder.display(),
            language.source(),
            folder.display()
        )
    })
}

fn built(output: &Output, folder: &Path) -> Result<(), Error> {
    let component = project::build(folder)?;
    output.answer(&component, |component| {
        facts(&[
            ("component", component.file.display().to_string()),
            ("size", format!("{} bytes", component.size_bytes)),
            ("sha256", component.module_sha256.clone()),
        ])
    })
}

/// Lists the policies.
pub async fn list(client: &Client, output: &Output) -> Result<(), Error> {
    let page: Page<Plugin> = client.get("/v1/plugins").await?;
    output.list(&page, &page.items, |p| p.name.clone(), COLUMNS)
}

/// Asks a policy about a period of the past.
pub async fn replay(
    client: &Client,
    output: &Output,
    name: &str,
    period: &ReplayPlugin,
) -> Result<(), Error> {
    let path = format!("{}/replay", item(name));
    let comparison: PluginComparison = client.post(&path, period).await?;
    output.answer(&comparison, |c| describe_comparison(c, output))
}

impl Install {
    async fn execute(self, client: &Client, output: &Output) -> Result<(), Error> {
        let mut parameters = match &self.parameters_file {
            Some(file) => read_parameters(file)?,
            None => BTreeMap::new(),
        };
        parameters.extend(self.parameters);
        let new = InstallPlugin {
            name: self.name,
            component: STANDARD.encode(read(&self.file)?),
            parameters,
            signature: signature(&self.file, self.signature)?,
            dry_run: self.dry_run,
        };
        let plugin: Plugin = client.post("/v1/plugins", &new).await?;
        if self.activate {
            return activate(client, output, &plugin.name, None).await;
        }
        changed(output, &plugin)
    }
}

async fn activate(
    client: &Client,
    output: &Output,
    name: &str,
    canary_percent: Option<u8>,
) -> Result<(), Error> {
    let path = format!("{}/activate", item(name));
    let how = ActivatePlugin { canary_percent };
    let plugin: Plugin = client.post(&path, &how).await?;
    changed(output, &plugin)
}

fn changed(output: &Output, plugin: &Plugin) -> Result<(), Error> {
    super::created(output, plugin, &plugin.name, COLUMNS)
}

fn item(name: &str) -> String {
    super::item("plugins", name)
}

fn read(file: &Path) -> Result<Vec<u8>, Error> {
    fs::read(file).map_err(Error::local(format!("cannot read {}", file.display())))
}

fn read_parameters(file: &Path) -> Result<BTreeMap<String, String>, Error> {
    serde_json::from_slice(&read(file)?).map_err(|error| {
        Error::Usage(format!(
            "{} holds no parameters: {error}; {PARAMETERS_STEP}",
            file.display()
        ))
    })
}

fn signature(module: &Path, given: Option<PathBuf>) -> Result<Option<String>, Error> {
    let beside = || {
        let mut path = module.as_os_str().to_owned();
        path.push(".minisig");
        PathBuf::from(path)
    };
    let file = match given {
        Some(file) => file,
        None if beside().exists() => beside(),
        None => return Ok(None),
    };
    let doing = format!("cannot read {}", file.display());
    fs::read_to_string(&file)
        .map(Some)
        .map_err(Error::local(doing))
}

fn kind(kind: PluginKind) -> &'static str {
    match kind {
        PluginKind::Scheduler => "scheduler",
        PluginKind::Billing => "billing",
        PluginKind::Admission => "admission",
    }
}

fn roles(plugin: &Plugin) -> String {
    let role = |role: &PluginRole| match (role, plugin.canary_percent) {
        (PluginRole::Active, _) => "active".to_owned(),
        (PluginRole::Canary, Some(percent)) => format!("canary {percent} %"),
        (PluginRole::Canary, None) => "canary".to_owned(),
        (PluginRole::Shadow, _) => "shadow".to_owned(),
    };
    let roles: Vec<String> = plugin.roles.iter().map(role).collect();
    if roles.is_empty() {
        "-".into()
    } else {
        roles.join(", ")
    }
}

fn describe(plugin: &Plugin) -> String {
    let parameters = plugin.parameters.iter();
    let parameters: Vec<String> = parameters
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    facts(&[
        ("name", plugin.name.clone()),
        ("kind", kind(plugin.kind).into()),
        ("role", roles(plugin)),
        ("parameters", parameters.join(" ")),
        ("module", plugin.module_sha256.clone().unwrap_or_default()),
        (
            "size",
            plugin
                .size_bytes
                .map_or_else(String::new, |size| format!("{size} bytes")),
        ),
        ("signed", plugin.author.clone().unwrap_or_default()),
        (
            "installed",
            plugin
                .installed_at
                .as_ref()
                .map_or_else(String::new, |at| format!("{} ago", age_now(at))),
        ),
        ("calls", plugin.calls.to_string()),
        ("fallbacks", plugin.fallbacks.to_string()),
        (
            "time of a call",
            format!("{:.1} µs, at most {:.1} µs", plugin.mean_us, plugin.max_us),
        ),
        ("last error", plugin.last_error.clone().unwrap_or_default()),
    ])
}

fn describe_module(module: &PluginModule) -> String {
    facts(&[
        ("kind", kind(module.kind).into()),
        ("sha256", module.module_sha256.clone()),
        ("size", format!("{} bytes", module.size_bytes)),
        ("imports", module.imports.join(", ")),
        ("exports", module.exports.join(", ")),
    ])
}

fn describe_comparison(comparison: &PluginComparison, output: &Output) -> String {
    let differ = comparison.compared - comparison.same.min(comparison.compared);
    let mut lines = vec![
        ("policy", comparison.plugin.clone()),
        ("since", comparison.since.clone()),
        (
            "compared",
            format!(
                "{}: {} alike, {differ} not",
                comparison.compared, comparison.same
            ),
        ),
        ("failed", comparison.failures.to_string()),
        ("not asked", comparison.skipped.to_string()),
        (
            "time of a question",
            format!(
                "{:.1} µs, at most {:.1} µs",
                comparison.mean_us, comparison.max_us
            ),
        ),
        (
            "last error",
            comparison.last_error.clone().unwrap_or_default(),
        ),
    ];
    for total in &comparison.totals {
        let said = format!(
            "{} {} charged, {} by this one",
            total.active, total.currency, total.other
        );
        lines.push(("prices", said));
    }
    let mut text = facts(&lines);
    if !comparison.differences.is_empty() {
        text.push_str("\n\n");
        text.push_str(&output.table(&comparison.differences, DIFFERENCES));
    }
    text
}
