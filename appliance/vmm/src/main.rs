//! A vmm process by itself, for tests and measurements; the daemon's executable does the same under `vmm`.

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args()
        .next_back()
        .and_then(|number| number.parse().ok())
    {
        Some(config) => vmm::run(config),
        None => ExitCode::from(2),
    }
}
