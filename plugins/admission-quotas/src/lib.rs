//! What each account may have at once.
//!
//! Parameters, all optional:
//! - `max-instances`, `max-vcpus`, `max-memory-gib`: what an account may have in all, a whole number; `unlimited`, the default, sets no
//!   limit;
//! - `preemptible-percent`: which share of these an account may have taken, with anything, and still get preemptible instances, 0 to 100.
//!   The rest is kept for instances that stay. 100 by default; with 0 there are no preemptible instances;
//! - `account.<account>.<one of these>`: the same for one account, in place of what all have. What is not set for it is as for all.
//!
//! For example `max-vcpus` = `64`, `account.team-a.max-vcpus` = `256` and `account.guests.preemptible-percent` = `0`. A policy is not told
//! which of an account's instances are preemptible; so preemptible ones have no quota of their own, but a lower limit on everything.
//!
//! A request beyond a quota is refused for the first it exceeds, in the order above, and is told how much is left and how many such
//! instances would fit. The built-in quotas of the host come first and are not widened by this.

use ashlar_policy::{
    Configuration,
    admission::{Admission, Holdings, InstancesRequest, Offers, Verdict},
    export_admission,
};
use std::collections::BTreeMap;

/// The policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quotas {
    all: Quota,
    accounts: BTreeMap<String, Quota>,
}

/// What an account may have; no number is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Quota {
    instances: Option<u32>,
    vcpus: Option<u32>,
    memory_gib: Option<u32>,
    preemptible_percent: u32,
}

/// Something that is counted. Memory is counted in bytes.
#[derive(Clone, Copy, Debug)]
struct Meter {
    reason: &'static str,
    what: &'static str,
    limit: Option<u64>,
    has: u64,
    /// Of one instance.
    each: u64,
}

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const NAMES: [&str; 4] = [
    "max-instances",
    "max-vcpus",
    "max-memory-gib",
    "preemptible-percent",
];
const ACCOUNT: &str = "account.";
const MEMORY: &str = "GiB of memory";
/// The longest id of an account, in characters.
const MAX_ACCOUNT: usize = 64;

impl Admission for Quotas {
    fn configure(configuration: &Configuration) -> Result<Self, String> {
        configuration.allow(&NAMES, &[ACCOUNT])?;
        let mut all = Quota {
            instances: None,
            vcpus: None,
            memory_gib: None,
            preemptible_percent: 100,
        };
        for name in NAMES {
            if let Some(value) = configuration.get(name) {
                all.set(name, name, value)?;
            }
        }
        let mut accounts = BTreeMap::new();
        for (rest, value) in configuration.with_prefix(ACCOUNT) {
            let parameter = format!("{ACCOUNT}{rest}");
            let (account, name) = account_and_name(rest).ok_or_else(|| {
                let there = NAMES.map(|name| format!("`account.<account>.{name}`"));
                format!(
                    "unknown parameter `{parameter}`; of accounts there are {}",
                    there.join(", ")
                )
            })?;
            let quota = accounts.entry(account.to_owned()).or_insert(all);
            quota.set(name, &parameter, value)?;
        }
        Ok(Self { all, accounts })
    }

    fn admit(
        &self,
        request: &InstancesRequest,
        holdings: &Holdings,
        _: &Offers,
    ) -> Result<Verdict, String> {
        let quota = self.accounts.get(&request.account).unwrap_or(&self.all);
        Ok(quota.refusal(request, holdings).unwrap_or(Verdict::Admit))
    }
}

/// The account and the name in `<account>.<name>`. An account's id may have dots in it.
fn account_and_name(rest: &str) -> Option<(&str, &str)> {
    let (account, name) = rest.rsplit_once('.')?;
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let sound = (1..=MAX_ACCOUNT).contains(&account.len()) && account.bytes().all(known);
    (sound && NAMES.contains(&name)).then_some((account, name))
}

impl Quota {
    /// Sets what `name` stands for; `parameter` is what the operator calls it.
    fn set(&mut self, name: &str, parameter: &str, value: &str) -> Result<(), String> {
        let number = value.parse::<u32>().ok();
        if name == "preemptible-percent" {
            let percent = number.filter(|percent| *percent <= 100);
            self.preemptible_percent = percent.ok_or_else(|| {
                format!(
                    "parameter `{parameter}` is `{value}`: it must be a whole number from 0 to 100"
                )
            })?;
            return Ok(());
        }
        if number.is_none() && value != "unlimited" {
            return Err(format!(
                "parameter `{parameter}` is `{value}`: it must be a whole number from 0 to {}, or `unlimited`",
                u32::MAX
            ));
        }
        match name {
            "max-instances" => self.instances = number,
            "max-vcpus" => self.vcpus = number,
            _ => self.memory_gib = number,
        }
        Ok(())
    }

    fn refusal(&self, request: &InstancesRequest, holdings: &Holdings) -> Option<Verdict> {
        let account = &request.account;
        if request.spot && self.preemptible_percent == 0 {
            let words = format!("Account {account} may have no preemptible instances.");
            return Some(Verdict::refused("no-preemptible-instances", words));
        }
        let count = u64::from(request.count);
        let meters = self.meters(request, holdings);
        let exceeded = |meter: &&Meter| meter.left() < meter.each.saturating_mul(count);
        let meter = meters.iter().find(exceeded)?;
        // Only what has a limit can be exceeded.
        let limit = amount(meter, meter.limit?, false);
        let what = meter.what;
        let limit = if request.spot && self.preemptible_percent < 100 {
            format!("the {limit} {what} up to which it gets preemptible instances")
        } else {
            format!("{limit} {what}")
        };
        let mut words = format!(
            "Account {account} has {} of {limit}: {} left, {} asked for.",
            amount(meter, meter.has, true),
            amount(meter, meter.left(), false),
            amount(meter, meter.each.saturating_mul(count), true),
        );
        let fit = meters.iter().map(|meter| meter.left() / meter.each.max(1));
        match fit.min().unwrap_or(0) {
            0 => {}
            1 => words += " One such instance would fit.",
            fit => words += &format!(" {fit} such instances would fit."),
        }
        Some(Verdict::refused(meter.reason, words))
    }

    fn meters(&self, request: &InstancesRequest, holdings: &Holdings) -> [Meter; 3] {
        let percent = if request.spot {
            u64::from(self.preemptible_percent)
        } else {
            100
        };
        let share = |limit: Option<u32>, units: u64| {
            limit.map(|limit| u64::from(limit) * units * percent / 100)
        };
        [
            Meter {
                reason: "instance-quota",
                what: "instances",
                limit: share(self.instances, 1),
                has: holdings.instances.into(),
                each: 1,
            },
            Meter {
                reason: "vcpu-quota",
                what: "vCPUs",
                limit: share(self.vcpus, 1),
                has: holdings.vcpus.into(),
                each: request.vcpus.into(),
            },
            Meter {
                reason: "memory-quota",
                what: MEMORY,
                // The share of whole MiB, which cannot overflow.
                limit: share(self.memory_gib, GIB / MIB).map(|mib| mib * MIB),
                has: holdings.memory,
                each: request.memory,
            },
        ]
    }
}

impl Meter {
    fn left(&self) -> u64 {
        match self.limit {
            Some(limit) => limit.saturating_sub(self.has),
            None => u64::MAX,
        }
    }
}

/// `number` as it is shown: memory in GiB, with at most two decimals.
fn amount(meter: &Meter, number: u64, up: bool) -> String {
    if meter.what != MEMORY {
        return number.to_string();
    }
    let hundredths = u128::from(number) * 100;
    let hundredths = if up {
        hundredths.div_ceil(GIB.into())
    } else {
        hundredths / u128::from(GIB)
    };
    match hundredths % 100 {
        0 => (hundredths / 100).to_string(),
        part => format!("{}.{part:02}", hundredths / 100),
    }
}

export_admission!(Quotas);

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_policy::check;

    fn request(account: &str) -> InstancesRequest {
        InstancesRequest {
            account: account.to_owned(),
            instance_type: "ecs.g6.large".to_owned(),
            vcpus: 2,
            memory: 8 * GIB,
            disks: Vec::new(),
            count: 2,
            image: "m-0123456789abcdefg".to_owned(),
            name: None,
            tags: Vec::new(),
            zone: None,
            spot: false,
            deletion_protection: false,
        }
    }

    fn configure(parameters: &[(&str, &str)]) -> Result<Quotas, String> {
        Quotas::configure(&parameters.iter().copied().collect())
    }

    /// The reason and the sentence of a refusal. The account has 3 instances with 6 vCPUs and 24 GiB.
    fn refused(
        parameters: &[(&str, &str)],
        request: &InstancesRequest,
    ) -> Option<(String, String)> {
        let holdings = Holdings {
            instances: 3,
            vcpus: 6,
            memory: 24 * GIB,
        };
        let offers = Offers {
            zones: Vec::new(),
            disk_categories: Vec::new(),
        };
        let policy = configure(parameters).unwrap();
        match policy.admit(request, &holdings, &offers).unwrap() {
            Verdict::Admit => None,
            Verdict::Refuse(refusal) => Some((refusal.reason, refusal.message)),
            Verdict::Amend(_) => panic!("it amends"),
        }
    }

    #[test]
    fn each_quota_is_filled_to_the_last_and_no_further() {
        for (name, good, bad, reason) in [
            ("max-instances", "5", "4", "instance-quota"),
            ("max-vcpus", "10", "9", "vcpu-quota"),
            ("max-memory-gib", "40", "39", "memory-quota"),
        ] {
            assert_eq!(refused(&[(name, good)], &request("a")), None, "{name}");
            assert_eq!(
                refused(&[(name, "unlimited")], &request("a")),
                None,
                "{name}"
            );
            let (said, _) = refused(&[(name, bad)], &request("a")).unwrap();
            assert_eq!(said, reason);
        }
        assert_eq!(refused(&[], &request("a")), None);
    }

    #[test]
    fn a_refusal_says_how_much_is_left_and_how_many_would_fit() {
        let words = |parameters: &[(&str, &str)], request: &InstancesRequest| {
            refused(parameters, request).unwrap().1
        };
        assert_eq!(
            words(&[("max-vcpus", "9")], &request("a")),
            "Account a has 6 of 9 vCPUs: 3 left, 4 asked for. One such instance would fit."
        );
        assert_eq!(
            words(&[("max-instances", "2")], &request("a")),
            "Account a has 3 of 2 instances: 0 left, 2 asked for."
        );
        let mut many = request("a");
        many.count = 100;
        many.memory = 3 * GIB / 2;
        assert_eq!(
            words(&[("max-memory-gib", "30"), ("max-vcpus", "1000")], &many),
            "Account a has 24 of 30 GiB of memory: 6 left, 150 asked for. 4 such instances would fit."
        );
        // What fits, fits all quotas.
        assert_eq!(
            words(&[("max-memory-gib", "30"), ("max-vcpus", "11")], &many),
            "Account a has 6 of 11 vCPUs: 5 left, 200 asked for. 2 such instances would fit."
        );
        many.memory = GIB / 3;
        assert_eq!(
            words(&[("max-memory-gib", "24")], &many),
            "Account a has 24 of 24 GiB of memory: 0 left, 33.34 asked for."
        );
    }

    #[test]
    fn an_account_may_have_more_or_less_than_the_others() {
        let parameters = [
            ("max-vcpus", "8"),
            ("max-instances", "4"),
            ("account.team-a.max-vcpus", "256"),
            ("account.team-a.max-instances", "unlimited"),
            ("account.team.b.max-instances", "5"),
            ("account.team.b.max-vcpus", "10"),
            ("account.team-c.max-instances", "5"),
        ];
        assert_eq!(refused(&parameters, &request("team-a")), None);
        assert_eq!(refused(&parameters, &request("team.b")), None);
        // What is not set for it is as for all.
        let reason = |account| refused(&parameters, &request(account)).unwrap().0;
        assert_eq!(reason("team-c"), "vcpu-quota");
        assert_eq!(reason("team-d"), "instance-quota");
        assert_eq!(reason("team"), "instance-quota");
    }

    #[test]
    fn preemptible_instances_leave_room_for_the_others() {
        let parameters = [
            ("max-vcpus", "16"),
            ("preemptible-percent", "50"),
            ("account.b.preemptible-percent", "0"),
            ("account.c.preemptible-percent", "63"),
        ];
        let spot = |account| InstancesRequest {
            spot: true,
            ..request(account)
        };
        assert_eq!(refused(&parameters, &request("a")), None);
        assert_eq!(
            refused(&parameters, &spot("a")).unwrap(),
            (
                "vcpu-quota".to_owned(),
                "Account a has 6 of the 8 vCPUs up to which it gets preemptible instances: \
                 2 left, 4 asked for. One such instance would fit."
                    .to_owned()
            )
        );
        assert_eq!(refused(&parameters, &request("b")), None);
        let (reason, _) = refused(&parameters, &spot("b")).unwrap();
        assert_eq!(reason, "no-preemptible-instances");
        // 10.08 are 10.
        assert_eq!(refused(&parameters, &spot("c")), None);
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let most = u32::MAX.to_string();
        let parameters = [
            ("max-instances", most.as_str()),
            ("max-vcpus", &most),
            ("max-memory-gib", &most),
        ];
        let mut all = request("a");
        (all.vcpus, all.memory, all.count) = (u32::MAX, u64::MAX, 100);
        let account = "a".repeat(MAX_ACCOUNT);
        all.account.clone_from(&account);
        let (reason, _) = refused(&parameters, &all).unwrap();
        assert_eq!(reason, "vcpu-quota");
        all.vcpus = 1;
        for spot in [false, true] {
            all.spot = spot;
            let parameters = [parameters[2], ("preemptible-percent", "99")];
            let (reason, message) = refused(&parameters, &all).unwrap();
            assert_eq!(reason, "memory-quota");
            assert!(message.chars().count() <= 256, "{message}");
        }
    }

    #[test]
    fn wrong_parameters_are_refused_by_name() {
        for (name, value, said) in [
            (
                "max-vcpus",
                "many",
                "parameter `max-vcpus` is `many`: it must be a whole number from 0 to 4294967295, or `unlimited`",
            ),
            ("max-instances", "-1", "`max-instances` is `-1`"),
            ("max-memory-gib", "1.5", "`max-memory-gib` is `1.5`"),
            (
                "account.a.max-vcpus",
                "",
                "parameter `account.a.max-vcpus` is ``",
            ),
            (
                "preemptible-percent",
                "101",
                "parameter `preemptible-percent` is `101`: it must be a whole number from 0 to 100",
            ),
            (
                "account.a.preemptible-percent",
                "unlimited",
                "from 0 to 100",
            ),
            ("max-cpus", "1", "unknown parameter `max-cpus`"),
            (
                "account.a.max-cpus",
                "1",
                "unknown parameter `account.a.max-cpus`; of accounts there are `account.<account>.max-instances`",
            ),
            ("account.max-vcpus", "1", "`account.max-vcpus`"),
            ("account..max-vcpus", "1", "`account..max-vcpus`"),
            ("account.a b.max-vcpus", "1", "`account.a b.max-vcpus`"),
        ] {
            let error = configure(&[(name, value)]).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn it_holds_what_every_admission_policy_must() {
        check::admission::<Quotas>(&[]);
        check::admission::<Quotas>(&[
            ("max-instances", "150"),
            ("max-vcpus", "1500"),
            ("max-memory-gib", "100"),
            ("preemptible-percent", "30"),
            ("account.default.max-memory-gib", "3000"),
        ]);
    }
}
