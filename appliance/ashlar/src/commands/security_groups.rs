//! `ashlar security-groups`.

use api_types::{
    AuthorizeRules, CreateSecurityGroup, Direction, InnerAccessPolicy, NewRule, RevokeRules,
    SecurityGroup,
};
use clap::{Args, Subcommand};

use crate::{
    cli::Admission,
    client::{Client, Error, Query},
    output::{Column, Output, age_now, facts, or_dash},
    rule,
};

const COLUMNS: &[Column<SecurityGroup>] = &[
    Column("ID", |g| g.id.clone()),
    Column("NAME", |g| or_dash(g.name.as_ref())),
    Column("VPC", |g| g.vpc_id.clone()),
    Column("RULES", |g| g.rules.len().to_string()),
    Column("DEFAULT", |g| if g.is_default { "yes" } else { "-" }.into()),
    Column("AGE", |g| age_now(&g.created_at)),
];

const RULES: &str = "\
A rule is
  PROTOCOL[:FIRST[/LAST]] from|to CIDR|sg-ID|anywhere [accept|drop] [priority N]
with the protocols tcp, udp, icmp, icmpv6, gre and all; priority 1 comes first, and at equal priority drop wins.

Examples:
  ashlar sg authorize sg-… --ingress tcp:22 from 10.0.0.0/24
  ashlar sg authorize sg-… --ingress 'tcp:8000/8080 from sg-…' --ingress 'icmp from anywhere'
  ashlar sg authorize sg-… --egress all to 192.0.2.0/24 drop priority 5
  ashlar sg revoke sg-… --ingress tcp:22 from 10.0.0.0/24
  ashlar sg revoke sg-… --rule sgr-…";

/// Security groups: who may talk to whom.
#[derive(Debug, Subcommand)]
pub enum SecurityGroups {
    /// List security groups
    Ls {
        /// Only those of this VPC
        #[arg(long, value_name = "ID")]
        vpc: Option<String>,
    },
    /// Make a security group: nothing comes in but from its members, everything goes out
    Create {
        /// A name for people
        #[arg(long)]
        name: Option<String>,
        /// For people: what it is for
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
        /// The VPC it is of; without it the default one
        #[arg(long, value_name = "ID")]
        vpc: Option<String>,
        /// Members reach each other only as the rules say
        #[arg(long)]
        isolated: bool,
        #[command(flatten)]
        admission: Admission,
    },
    /// Show one security group with its rules
    Show {
        /// The security group
        id: String,
    },
    /// Add rules
    #[command(after_help = RULES)]
    Authorize {
        /// The security group
        id: String,
        #[command(flatten)]
        rules: Rules,
        /// Why: kept with each of the rules
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
    },
    /// Take rules away
    #[command(after_help = RULES)]
    Revoke {
        /// The security group
        id: String,
        #[command(flatten)]
        rules: Rules,
        /// A rule by its id; may be repeated
        #[arg(long = "rule", value_name = "ID")]
        rule_ids: Vec<String>,
    },
    /// Delete security groups that nobody is in
    Rm {
        /// The security groups
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
}

/// Rules on the command line.
#[derive(Debug, Args)]
pub struct Rules {
    /// A rule about what comes in; may be repeated
    #[arg(long, value_name = "RULE", num_args = 1..)]
    ingress: Vec<String>,
    /// A rule about what goes out; may be repeated
    #[arg(long, value_name = "RULE", num_args = 1..)]
    egress: Vec<String>,
}

impl Rules {
    fn parse(&self) -> Result<Vec<NewRule>, Error> {
        let mut rules = rule::parse(Direction::Ingress, &self.ingress).map_err(Error::Usage)?;
        rules.extend(rule::parse(Direction::Egress, &self.egress).map_err(Error::Usage)?);
        Ok(rules)
    }
}

impl SecurityGroups {
    /// Does it.
    pub async fn execute(self, client: &Client, output: &Output) -> Result<(), Error> {
        match self {
            Self::Ls { vpc } => {
                let path = Query::of("/v1/security-groups").add("vpc_id", vpc).finish();
                let page = client.list::<SecurityGroup>(&path).await?;
                output.list(&page, &page.items, |g| g.id.clone(), COLUMNS)
            }
            Self::Create {
                name,
                description,
                vpc,
                isolated,
                admission,
            } => {
                let request = CreateSecurityGroup {
                    vpc_id: vpc,
                    name,
                    description,
                    inner_access_policy: if isolated {
                        InnerAccessPolicy::Drop
                    } else {
                        InnerAccessPolicy::Accept
                    },
                    client_token: admission.client_token,
                    dry_run: admission.dry_run,
                };
                let group: SecurityGroup = client.post("/v1/security-groups", &request).await?;
                super::created(output, &group, &group.id, COLUMNS)
            }
            Self::Show { id } => {
                let group: SecurityGroup = client.get(&super::item("security-groups", &id)).await?;
                output.answer(&group, describe)
            }
            Self::Authorize {
                id,
                rules,
                description,
            } => {
                let mut rules = rules.parse()?;
                if rules.is_empty() {
                    return Err(Error::Usage(
                        "no rule given: use --ingress or --egress".into(),
                    ));
                }
                for rule in &mut rules {
                    rule.description.clone_from(&description);
                }
                change(client, output, &id, "authorize", &AuthorizeRules { rules }).await
            }
            Self::Revoke {
                id,
                rules,
                rule_ids,
            } => {
                let rules = rules.parse()?;
                if rules.is_empty() && rule_ids.is_empty() {
                    return Err(Error::Usage(
                        "no rule given: use --ingress, --egress or --rule".into(),
                    ));
                }
                change(
                    client,
                    output,
                    &id,
                    "revoke",
                    &RevokeRules { rules, rule_ids },
                )
                .await
            }
            Self::Rm { ids } => super::remove(client, output, "security-groups", &ids).await,
        }
    }
}

async fn change(
    client: &Client,
    output: &Output,
    id: &str,
    action: &str,
    body: &(impl serde::Serialize + Sync),
) -> Result<(), Error> {
    let path = format!("{}/{action}", super::item("security-groups", id));
    let group: SecurityGroup = client.post(&path, body).await?;
    if output.quiet && output.format == crate::output::Format::Table {
        return crate::output::print(&group.id);
    }
    output.answer(&group, describe)
}

fn describe(g: &SecurityGroup) -> String {
    let rules: Vec<String> = g
        .rules
        .iter()
        .map(|r| {
            let why = r
                .description
                .as_ref()
                .map_or_else(String::new, |why| format!("  # {why}"));
            let direction = match r.direction {
                Direction::Ingress => "ingress",
                Direction::Egress => "egress",
            };
            format!("{}  {direction} {}{why}", r.id, rule::show(r))
        })
        .collect();
    facts(&[
        ("id", g.id.clone()),
        ("name", g.name.clone().unwrap_or_default()),
        ("description", g.description.clone().unwrap_or_default()),
        ("vpc", g.vpc_id.clone()),
        ("default", if g.is_default { "yes" } else { "" }.into()),
        (
            "members",
            match g.inner_access_policy {
                InnerAccessPolicy::Accept => "reach each other".into(),
                InnerAccessPolicy::Drop => "reach each other only as the rules say".into(),
            },
        ),
        ("created", g.created_at.clone()),
        (
            "rules",
            if rules.is_empty() {
                "none: nothing comes in from outside the group, everything goes out".into()
            } else {
                rules.join("\n")
            },
        ),
    ])
}
