//! What an instance has of the host's CPUs.

use std::time::Duration;

use api_types::{CpuCredits, Instance};
use control::{Control, model};

use super::instance;

/// An instance as it goes over the wire, with what it has of the CPUs now.
pub fn instance_to_wire(control: &Control, instance: &model::Instance) -> Instance {
    // Read from the store that the instance was just read from.
    let cpu = control.cpu_of(instance).unwrap_or_default();
    Instance {
        cpu_credits: cpu.credits.map(|credits| CpuCredits {
            balance: in_credits(credits.balance),
            max: in_credits(credits.max),
            per_hour: hundredths(credits.centicredits_per_hour),
            baseline_percent: credits.baseline_percent,
            throttled: credits.throttled,
        }),
        cpus: cpu.cpus.map(|cpus| cpus.to_string()),
        ..instance::to_wire(instance)
    }
}

/// CPU time as credits, cut to hundredths: what is shown is there.
fn in_credits(time: Duration) -> f64 {
    let hundredths_of_it = time.as_micros() * 100 / cpu::CREDIT.as_micros();
    hundredths(u64::try_from(hundredths_of_it).unwrap_or(u64::MAX))
}

fn hundredths(count: u64) -> f64 {
    // Exact below 2^53, which no number of credits comes near.
    count as f64 / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credits_are_cut_to_hundredths() {
        for (seconds, credits) in [(0, 0.0), (59, 0.98), (60, 1.0), (34_560, 576.0)] {
            assert_eq!(in_credits(Duration::from_secs(seconds)), credits);
        }
        assert_eq!(in_credits(Duration::from_micros(59_999_999)), 0.99);
        assert_eq!(hundredths(2400), 24.0);
    }
}
