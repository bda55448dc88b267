//! `ashlar`: the command line of an Ashlar host.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    ashlar::run(std::env::args_os())
}
