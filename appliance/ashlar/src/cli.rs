//! The command line: what may be typed, and the help that teaches it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::{commands, output::Format};

/// Where the host's interface is, when nobody says otherwise.
pub const DEFAULT_HOST: &str = "unix:/run/ashlar/api.sock";

const EXAMPLES: &str = "\
Examples:
  ashlar images import --name probe --kernel probe.elf    bring an image
  ashlar run probe --vcpus 2 --memory 512M --wait         run an instance of it
  ashlar ps                                               see what runs
  ashlar console i-0123456789abcdefg                      sit at its console (leave with ctrl-])
  ashlar stop i-0123456789abcdefg --wait && ashlar rm i-0123456789abcdefg

Exit status:
  0  done
  1  the host refused, a local file failed, or `bill verify` or `bill replay` found something
  2  the command line makes no sense
  3  the host cannot be reached
  4  what was waited for did not come in time";

/// Run instances on an Ashlar host.
#[derive(Debug, Parser)]
#[command(name = "ashlar", version, after_help = EXAMPLES, propagate_version = true, disable_help_subcommand = true)]
pub struct Cli {
    /// What applies to every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
pub struct Global {
    /// The host: unix:PATH, http://HOST:PORT, https://HOST:PORT, or the name of one enrolled with [default: the one that `ashlar
    /// hosts use` chose, else unix:/run/ashlar/api.sock]
    #[arg(
        long,
        global = true,
        env = "ASHLAR_HOST",
        value_name = "ADDRESS",
        help_heading = "Global options"
    )]
    pub host: Option<String>,
    /// Digest of the certificate of an https:// host, sha256:…, as its screen shows it
    #[arg(
        long,
        global = true,
        env = "ASHLAR_FINGERPRINT",
        value_name = "DIGEST",
        help_heading = "Global options"
    )]
    pub fingerprint: Option<String>,
    /// File with the bearer token for an http:// host; else ASHLAR_TOKEN
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        help_heading = "Global options"
    )]
    pub token_file: Option<PathBuf>,
    /// The bearer token itself; only from the environment, so that it is not seen in the list of processes.
    #[arg(
        long,
        hide = true,
        global = true,
        env = "ASHLAR_TOKEN",
        hide_env_values = true
    )]
    pub token: Option<String>,
    /// How to print: tables for people, json exactly as the host answers
    #[arg(
        long,
        short,
        global = true,
        value_enum,
        default_value_t,
        help_heading = "Global options"
    )]
    pub output: Format,
    /// Print ids only; no progress and no remarks
    #[arg(long, short, global = true, help_heading = "Global options")]
    pub quiet: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run new instances of an image
    Run(Box<commands::run::Run>),
    /// List instances: those that run, or all with -a
    #[command(visible_alias = "ls")]
    Ps(commands::instances::Ps),
    /// Show everything about one instance
    Show(commands::instances::Show),
    /// Start stopped instances
    Start(commands::instances::Start),
    /// Stop instances: by their power button, or by --force
    Stop(commands::instances::Stop),
    /// Reboot instances
    Reboot(commands::instances::Reboot),
    /// Change an instance's name, description, labels or protection
    Modify(commands::instances::Modify),
    /// Delete stopped instances and the disks that go with them
    Rm(commands::instances::Rm),
    /// Sit at an instance's serial console, or read it from a script
    Console(commands::console::Console),
    /// Images: what instances boot
    #[command(subcommand, visible_alias = "image")]
    Images(commands::images::Images),
    /// Disks
    #[command(subcommand, visible_alias = "disk")]
    Disks(commands::disks::Disks),
    /// VPCs: private networks
    #[command(subcommand, visible_alias = "vpc")]
    Vpcs(commands::networks::Vpcs),
    /// Vswitches: subnets of VPCs
    #[command(subcommand, visible_alias = "vswitch")]
    Vswitches(commands::networks::Vswitches),
    /// Security groups: who may talk to whom
    #[command(subcommand, visible_alias = "sg")]
    SecurityGroups(commands::security_groups::SecurityGroups),
    /// Deployment sets: which instances are on different hosts, or together
    #[command(subcommand, visible_alias = "deployment-set")]
    DeploymentSets(commands::deployment_sets::DeploymentSets),
    /// Decisions: why an instance is where it is
    #[command(subcommand, visible_alias = "decision")]
    Decisions(commands::decisions::Decisions),
    /// What was used and what it costs
    Usage(commands::usage::Usage),
    /// Bills: what is to be paid for each month, and whether it is right
    #[command(subcommand, visible_alias = "bills")]
    Bill(commands::bills::Bills),
    /// Budgets: what is meant to be spent in a month, and when to be told
    #[command(subcommand, visible_alias = "budgets")]
    Budget(commands::budgets::Budgets),
    /// Meters: what is counted beside instances, disks and images
    #[command(subcommand, visible_alias = "meters")]
    Meter(commands::meters::Meters),
    /// What instances would cost
    #[command(visible_alias = "quote")]
    Price(commands::price::Price),
    /// Subscriptions: instances that are paid for in advance
    #[command(subcommand, visible_alias = "subscriptions")]
    Subscription(commands::subscriptions::Subscriptions),
    /// Accounts: how they pay, what they paid, what they owe
    #[command(subcommand, visible_alias = "accounts")]
    Account(commands::accounts::Accounts),
    /// The market: what preemptible instances cost
    #[command(subcommand)]
    Spot(commands::spot::Spot),
    /// Policies: what decides where instances go and what their use costs; alone, lists them
    #[command(visible_alias = "plugin")]
    Plugins {
        /// What to do with them
        #[command(subcommand)]
        command: Option<commands::plugins::Plugins>,
    },
    /// The host: its capacity and what is in use; or the machine under it
    #[command(args_conflicts_with_subcommands = true)]
    Host {
        /// What about the machine under it
        #[command(subcommand)]
        system: Option<commands::host_system::Machine>,
    },
    /// Write a host image onto a disk, or into a file for a virtual machine
    Flash(commands::flash::Flash),
    /// Enrol with a host, by the one-time token on its screen
    Enroll(commands::enroll::Enroll),
    /// The hosts enrolled with
    #[command(subcommand)]
    Hosts(commands::enroll::Known),
    /// Watch what happens, as it happens
    Events(commands::events::Events),
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  ashlar completion bash > /etc/bash_completion.d/ashlar")]
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write one page per command to a folder
    Man {
        /// Write a page per command to this folder
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

/// A request that can be repeated or only tried.
#[derive(Debug, Default, Args)]
pub struct Admission {
    /// Check everything, change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Makes a repeated request answer what the first answered: up to 64 characters
    #[arg(long, value_name = "TOKEN")]
    pub client_token: Option<String>,
}

/// How long to wait.
#[derive(Clone, Copy, Debug, Args)]
pub struct Patience {
    /// Give up waiting after this many seconds (exit status 4)
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    pub timeout: u64,
}

impl Patience {
    /// As a duration.
    #[must_use]
    pub fn limit(self) -> std::time::Duration {
        std::time::Duration::from_secs(self.timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_help() {
        fn check(command: &clap::Command, path: &str) {
            assert!(command.get_about().is_some(), "{path} has no help");
            for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
                assert!(
                    arg.get_help().is_some(),
                    "{path} {} has no help",
                    arg.get_id()
                );
            }
            for sub in command.get_subcommands() {
                check(sub, &format!("{path} {}", sub.get_name()));
            }
        }
        let mut command = Cli::command();
        command.build();
        check(&command, "ashlar");
    }
}
