//! The command line of an Ashlar host, and the HTTP client it is made of.
//!
//! It knows the interface's wire types and nothing of the host's insides. [`run`] is the whole program; tools that
//! drive a host from Rust use [`client::Client`].
#![forbid(unsafe_code)]

pub mod cli;
pub mod client;
mod commands;
mod flash;
mod hosts;
mod output;
mod period;
mod project;
mod rule;
mod size;
mod wait;

use std::process::ExitCode;

use clap::Parser as _;

use client::{Address, Client, Error};
use hosts::Hosts;
use output::Output;

/// Runs the command that `args` (with the program's name first) ask for.
pub fn run(args: impl IntoIterator<Item = std::ffi::OsString>) -> ExitCode {
    let cli = match cli::Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to standard output with status 0, mistakes to standard error with status 2.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            return fail(&Error::Local {
                what: "starting the input/output loop".into(),
                source: error,
            });
        }
    };
    let result = runtime.block_on(execute(cli));
    // A read of the terminal may still be pending in a thread of the runtime: don't wait for it.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

async fn execute(cli: cli::Cli) -> Result<(), Error> {
    let output = Output::of_process(cli.global.output, cli.global.quiet);
    let client = client(&cli.global)?;
    let fingerprint = cli.global.fingerprint.as_deref();
    match commands::execute(cli.command, &client, fingerprint, &output).await {
        // A dry run that would have succeeded is answered by this code (ECS rules).
        Err(Error::Refused(problem)) if problem.code == "DryRunOperation" => {
            if output.talks() {
                eprintln!("dry run: the request would succeed; nothing was changed");
            }
            Ok(())
        }
        other => other,
    }
}

/// A client of the host that is meant: by address, by the name it was enrolled under, or the one in use.
fn client(global: &cli::Global) -> Result<Client, Error> {
    let path = Hosts::path();
    let known = match &path {
        Some(path) => Hosts::load(path)?,
        None => Hosts::default(),
    };
    let name = global.host.as_ref().or(known.current.as_ref());
    let found = name.and_then(|name| known.hosts.get(name));
    let text = match (found, &global.host) {
        (Some(host), _) => &host.address,
        (None, Some(text)) => text,
        (None, None) => cli::DEFAULT_HOST,
    };
    let address: Address = text.parse().map_err(|error: client::AddressError| {
        Error::Usage(format!("{error}, or the name of a host enrolled with"))
    })?;
    let token = token(global)?.or_else(|| found.map(|host| host.token.clone()));
    let pinned = global
        .fingerprint
        .as_deref()
        .or_else(|| found.map(|host| host.fingerprint.as_str()));
    Ok(Client::new(address, token).pinned(pinned))
}

/// The bearer token: `--token-file` before `ASHLAR_TOKEN`.
fn token(global: &cli::Global) -> Result<Option<String>, Error> {
    let Some(path) = &global.token_file else {
        return Ok(global.token.clone());
    };
    let token = std::fs::read_to_string(path).map_err(Error::local(format!(
        "cannot read the token file {}",
        path.display()
    )))?;
    Ok(Some(token.trim().to_owned()))
}

/// Tells of a failure; the status says what kind it was.
fn fail(error: &Error) -> ExitCode {
    tell(error);
    ExitCode::from(error.exit_code())
}

/// One clear line with all its causes, then what to do.
fn tell(error: &Error) {
    eprintln!("error: {}", with_causes(error));
    if let Error::Refused(problem) = error {
        if let Some(field) = &problem.field {
            eprintln!("  field: {field}");
        }
        eprintln!("  code: {}, request: {}", problem.code, problem.request_id);
    }
    if let Some(next_step) = error.next_step() {
        eprintln!("  next: {next_step}");
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
