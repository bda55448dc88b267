//! What every policy must hold, checked on made-up situations: for a policy's own tests.
//!
//! ```
//! # use ashlar_policy::{Configuration, Decimal, billing::{Billing, UsageInterval}};
//! # struct Flat;
//! # impl Billing for Flat {
//! #     fn configure(_: &Configuration) -> Result<Self, String> { Ok(Self) }
//! #     fn currency(&self) -> &str { "CNY" }
//! #     fn price(&self, usage: &UsageInterval) -> Result<Decimal, String> { Ok(Decimal::from(usage.seconds)) }
//! # }
//! ashlar_policy::check::billing::<Flat>(&[]);
//! ```
//!
//! The situations are the same each time. Each check panics with the situation in which the policy breaks its word; the host program would
//! take that for a failure and ask its built-in policy.

use crate::{
    Configuration, Decimal,
    admission::{
        Admission, Amendment, Disk, Holdings, InstancesRequest, Offers, Tag, Verdict as Admitted,
    },
    billing::{
        Billing, DiskUsage, Instance, InstanceUsage, Meter, OtherUsage, Tag as Label, Usage,
        UsageInterval,
    },
    scheduler::{DeploymentSet, HostTable, Index, PlacementRequest, Scheduler, Verdict, highest},
};
use alloc::{format, string::ToString, vec::Vec};

/// How many situations are made up.
const SITUATIONS: u64 = 400;
/// The largest score, and the negative of the smallest.
const MAX_SCORE: f64 = 1e15;
const GIB: u64 = 1 << 30;

/// A scheduler takes these parameters; gives every host a verdict, refuses those that cannot hold the instance, and scores the others by
/// numbers in range; says the same when it is asked again, also as a new instance; and, where it goes by capacity, its index finds the host
/// that judging all of them does.
///
/// # Panics
/// When one of that does not hold.
pub fn scheduler<P: Scheduler>(parameters: &[(&str, &str)]) {
    for seed in 0..SITUATIONS {
        let mut numbers = Numbers(seed);
        let mut hosts = numbers.hosts();
        let request = numbers.request(&mut hosts);
        let policy = configured(parameters, P::configure);
        let judge = |policy: &P| {
            policy
                .judge(&request, &hosts)
                .unwrap_or_else(|words| panic!("situation {seed}: it gives no answer: {words}"))
        };
        let verdicts = judge(&policy);
        assert_eq!(
            verdicts.len(),
            hosts.len(),
            "situation {seed}: as many verdicts as hosts are needed"
        );
        for (host, verdict) in verdicts.iter().enumerate() {
            let Verdict::Score(score) = *verdict else {
                continue;
            };
            assert!(
                score.is_finite() && score.abs() <= MAX_SCORE,
                "situation {seed}: host {host} has the score {score}"
            );
            let obstacle = hosts.obstacle(host, &request);
            assert!(
                obstacle.is_none(),
                "situation {seed}: host {host} has a score although it does not meet {obstacle:?}"
            );
        }
        assert_eq!(
            verdicts,
            judge(&policy),
            "situation {seed}: asked again, it says something else"
        );
        let another = configured(parameters, P::configure);
        assert_eq!(
            verdicts,
            judge(&another),
            "situation {seed}: another instance says something else"
        );
        if let Some(by_capacity) = policy.by_capacity() {
            let full = |position: u32| {
                let host = usize::try_from(position).unwrap_or(usize::MAX);
                hosts.obstacle(host, &request) == Some(crate::scheduler::constraint::DEPLOYMENT_SET)
            };
            let found = Index::new(&hosts).best(by_capacity, &request, &hosts, &full);
            assert_eq!(
                found,
                highest(&verdicts),
                "situation {seed}: by capacity another host wins than by judging all: does its score go in the direction it prefers?"
            );
        }
    }
}

/// A billing policy takes these parameters; its prices are not negative, not lower for the same usage over a longer time, and the same when it
/// is asked again, also as a new instance. It may refuse to price what it has no price for. What it has metered of instances has names and
/// quantities that can be, and is the same when it is asked again.
///
/// # Panics
/// When one of that does not hold, or it prices nothing at all.
pub fn billing<P: Billing>(parameters: &[(&str, &str)]) {
    let mut priced = false;
    for seed in 0..SITUATIONS {
        let mut numbers = Numbers(seed);
        let usage = numbers.usage();
        let policy = configured(parameters, P::configure);
        meters(&policy, seed, &numbers.instance());
        let price = policy.price(&usage);
        let shown = format!("situation {seed}, {usage:?}");
        assert_eq!(
            price,
            policy.price(&usage),
            "{shown}: asked again, it says something else"
        );
        let another = configured(parameters, P::configure);
        assert_eq!(
            price,
            another.price(&usage),
            "{shown}: another instance says something else"
        );
        let Ok(price) = price else { continue };
        priced = true;
        assert!(price >= Decimal::ZERO, "{shown}: its price is {price}");
        let mut longer = usage.clone();
        for _ in 0..4 {
            longer.seconds += 1 + numbers.below(100_000);
            let more = policy.price(&longer);
            let more = more.unwrap_or_else(|words| {
                panic!(
                    "{shown}: it has a price, but none for {} s: {words}",
                    longer.seconds
                )
            });
            assert!(
                more >= price,
                "{shown}: it costs {price}, but only {more} for {} s",
                longer.seconds
            );
        }
    }
    assert!(priced, "it prices nothing of what was made up");
}

/// The names of the host program's own meters.
const OWN_METERS: [&str; 5] = [
    "instance-running",
    "instance-stopped",
    "instance-preemptible",
    "disk-allocated",
    "image-stored",
];

fn meters<P: Billing>(policy: &P, seed: u64, instance: &Instance) {
    let shown = format!("situation {seed}, {instance:?}");
    let meters = policy.meters(instance);
    assert_eq!(
        meters,
        policy.meters(instance),
        "{shown}: asked again what is metered, it says something else"
    );
    // It may say no.
    let meters = meters.unwrap_or_default();
    assert!(meters.len() <= 16, "{shown}: {} meters", meters.len());
    for (position, meter) in meters.iter().enumerate() {
        let Meter { name, quantity, .. } = meter;
        let known =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
        assert!(
            (1..=64).contains(&name.len()) && name.bytes().all(known),
            "{shown}: {name:?} is no name of a meter"
        );
        assert!(
            !OWN_METERS.contains(&name.as_str()),
            "{shown}: {name} is metered by the host program itself"
        );
        assert!(
            *quantity > Decimal::ZERO
                && *quantity <= Decimal::from(1_000_000_000)
                && quantity.normalize().scale() <= 9,
            "{shown}: the quantity of {name} is {quantity}"
        );
        let before = &meters[..position];
        assert!(
            before.iter().all(|other| other.name != *name),
            "{shown}: {name} is metered twice"
        );
    }
}

/// An admission policy takes these parameters; says the same when it is asked again, also as a new instance; refuses in words that can be shown;
/// and amends only what may be amended, to what there is.
///
/// # Panics
/// When one of that does not hold.
pub fn admission<P: Admission>(parameters: &[(&str, &str)]) {
    for seed in 0..SITUATIONS {
        let mut numbers = Numbers(seed);
        let (request, holdings, offers) = numbers.admission();
        let shown = format!("situation {seed}, {request:?}");
        let admit = |policy: &P| {
            policy
                .admit(&request, &holdings, &offers)
                .unwrap_or_else(|words| panic!("{shown}: it gives no answer: {words}"))
        };
        let policy = configured(parameters, P::configure);
        let verdict = admit(&policy);
        let said = format!("{verdict:?}");
        assert_eq!(
            said,
            format!("{:?}", admit(&policy)),
            "{shown}: asked again, it says something else"
        );
        let another = configured(parameters, P::configure);
        assert_eq!(
            said,
            format!("{:?}", admit(&another)),
            "{shown}: another instance says something else"
        );
        match verdict {
            Admitted::Admit => {}
            Admitted::Refuse(refusal) => {
                let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
                let reason = &refusal.reason;
                assert!(
                    (1..=64).contains(&reason.len()) && reason.chars().all(known),
                    "{shown}: the reason `{reason}` is not of 1 to 64 characters of a-z, 0-9 and -"
                );
                let length = refusal.message.chars().count();
                assert!(
                    (1..=256).contains(&length),
                    "{shown}: the sentence of its refusal has {length} characters, not 1 to 256"
                );
            }
            Admitted::Amend(amendment) => check_amendment(&shown, &request, &offers, &amendment),
        }
    }
}

fn check_amendment(
    shown: &str,
    request: &InstancesRequest,
    offers: &Offers,
    amendment: &Amendment,
) {
    assert!(
        amendment.name.is_none() || request.name.is_none(),
        "{shown}: it changes the name that was asked for"
    );
    for tag in &amendment.add_tags {
        let key = tag.key.as_str();
        assert!(
            !request.tags.iter().any(|there| there.key == key),
            "{shown}: it adds the label `{key}`, which is there already"
        );
        assert!(
            !key.is_empty() && !key.starts_with("acs:") && !key.starts_with("aliyun"),
            "{shown}: it adds the label `{key}`, whose key may not be used"
        );
        let (key_length, length) = (key.chars().count(), tag.value.chars().count());
        assert!(
            key_length <= 128 && length <= 128,
            "{shown}: it adds a label of {key_length} and {length} characters; 128 each are the most"
        );
        assert!(
            !key.chars().chain(tag.value.chars()).any(char::is_control),
            "{shown}: it adds the label {key:?}, which has control characters in it"
        );
    }
    let labels = request.tags.len() + amendment.add_tags.len();
    assert!(
        amendment.add_tags.is_empty() || labels <= 20,
        "{shown}: with those it adds there are {labels} labels; 20 are the most"
    );
    assert!(
        !(amendment.deletion_protection == Some(false) && request.deletion_protection),
        "{shown}: it switches deletion protection off"
    );
    assert!(
        !(amendment.deletion_protection == Some(true) && request.spot),
        "{shown}: it protects preemptible instances from deletion"
    );
    if let Some(category) = &amendment.disk_category {
        assert!(
            offers.disk_categories.contains(category),
            "{shown}: it sets the disk category `{category}`, which there is not"
        );
    }
    if let Some(zone) = &amendment.zone {
        assert!(
            request.zone.is_none() && offers.zones.contains(zone),
            "{shown}: it sets the zone `{zone}`, which there is not, or another one than was asked for"
        );
    }
}

fn configured<P>(
    parameters: &[(&str, &str)],
    configure: impl Fn(&Configuration) -> Result<P, alloc::string::String>,
) -> P {
    let configuration = parameters.iter().copied().collect();
    configure(&configuration)
        .unwrap_or_else(|words| panic!("it does not take {parameters:?}: {words}"))
}

/// Numbers that look random: SplitMix64.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    fn small(&mut self, limit: u32) -> u32 {
        u32::try_from(self.below(limit.into())).unwrap_or_default()
    }

    fn chance(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }

    fn hosts(&mut self) -> HostTable {
        let mut table = HostTable {
            zone_names: ["zone-a", "zone-b", "zone-c"].map(Into::into).into(),
            ..HostTable::default()
        };
        for _ in 0..self.below(40) {
            let vcpus = [0, 4, 16, 64, 128][self.small(5) as usize];
            let memory = [0, 8, 64, 512][self.small(4) as usize] * GIB;
            let local_disk = [0, 100, 1000][self.small(3) as usize] * GIB;
            table.zone.push(self.small(3));
            table.accepting.push(u8::from(!self.chance(8)));
            table.vcpus_total.push(vcpus);
            table.vcpus_used.push(self.small(vcpus + 1));
            table.memory_total.push(memory);
            table.memory_used.push(self.below(memory / GIB + 1) * GIB);
            table.local_disk_total.push(local_disk);
            table
                .local_disk_used
                .push(self.below(local_disk / GIB + 1) * GIB);
            table.instances.push(self.small(40));
        }
        table
    }

    fn request(&mut self, hosts: &mut HostTable) -> PlacementRequest {
        let vcpus = 1 << self.small(6);
        let mut request = PlacementRequest {
            instance: format!("i-{:020x}", self.next()),
            instance_type: format!("ecs.g6.{}xlarge", self.small(8)),
            vcpus,
            memory: u64::from(vcpus) * (1 + self.below(4)) * GIB,
            local_disk: if self.chance(3) { 50 * GIB } else { 0 },
            zone: None,
            deployment_set: None,
            spot: self.chance(3),
        };
        if self.chance(3) {
            // Sometimes one that no host is in.
            let zones = ["zone-a", "zone-b", "zone-c", "zone-d"];
            request.zone = Some(zones[self.small(4) as usize].to_string());
        }
        if self.chance(3) {
            hosts.set_members = (0..hosts.len()).map(|_| self.small(4)).collect();
            request.deployment_set = Some(DeploymentSet {
                id: "ds-1".to_string(),
                max_per_host: 1 + self.small(3),
            });
        }
        request
    }

    fn admission(&mut self) -> (InstancesRequest, Holdings, Offers) {
        let offers = Offers {
            zones: ["zone-a", "zone-b"].map(Into::into).into(),
            disk_categories: ["cloud_essd", "cloud_efficiency"].map(Into::into).into(),
        };
        let vcpus = 1 << self.small(8);
        let mut tags = Vec::new();
        for key in ["team", "owner", "env"] {
            if self.chance(2) {
                tags.push(Tag {
                    key: key.to_string(),
                    value: format!("v{}", self.small(4)),
                });
            }
        }
        let mut disks = Vec::new();
        for _ in 0..self.below(4) {
            disks.push(Disk {
                category: "cloud_essd".to_string(),
                size: (1 + self.below(4096)) * GIB,
            });
        }
        let request = InstancesRequest {
            account: "default".to_string(),
            instance_type: format!("ecs.g6.{}xlarge", self.small(8)),
            vcpus,
            memory: u64::from(vcpus) * (1 + self.below(8)) * GIB,
            disks,
            count: 1 + self.small(100),
            image: format!("m-{:020x}", self.next()),
            name: self.chance(2).then(|| "web".to_string()),
            tags,
            zone: self.chance(3).then(|| "zone-a".to_string()),
            spot: self.chance(4),
            deletion_protection: self.chance(4),
        };
        let holdings = Holdings {
            instances: self.small(200),
            vcpus: self.small(2000),
            memory: self.below(4000) * GIB,
        };
        (request, holdings, offers)
    }

    fn instance(&mut self) -> Instance {
        let vcpus = 1 << self.small(6);
        let label = |(key, value): (&str, &str)| Label {
            key: key.to_string(),
            value: value.to_string(),
        };
        let labels = [("licence", "database"), ("role", "web"), ("team", "a")];
        let labels = labels.into_iter().filter(|_| self.chance(2));
        let tags = labels.map(label).collect();
        Instance {
            id: format!("i-{:020x}", self.next()),
            account: "team-a".to_string(),
            size: InstanceUsage {
                instance_type: "ecs.g6.large".to_string(),
                vcpus,
                memory: u64::from(vcpus) * 4 * GIB,
            },
            image: format!("m-{:020x}", self.next()),
            tags,
            subscribed: self.chance(4),
        }
    }

    fn usage(&mut self) -> UsageInterval {
        let types = ["ecs.g6.large", "ecs.c6.xlarge", "custom", "ecs.t5.small"];
        let categories = ["cloud_essd", "cloud_efficiency", "cloud"];
        let meters = ["snapshot-gib", "egress-bytes", "eip", "image-gib"];
        let usage = match self.below(3) {
            0 => {
                let vcpus = 1 << self.small(6);
                let instance = InstanceUsage {
                    instance_type: types[self.small(4) as usize].to_string(),
                    vcpus,
                    memory: u64::from(vcpus) * (1 + self.below(8)) * GIB,
                };
                match self.chance(4) {
                    true => Usage::InstanceStopped(instance),
                    false => Usage::InstanceRunning(instance),
                }
            }
            1 => Usage::DiskAllocated(DiskUsage {
                category: categories[self.small(3) as usize].to_string(),
                size: (1 + self.below(32_768)) * GIB,
            }),
            _ => Usage::Other(OtherUsage {
                meter: meters[self.small(4) as usize].to_string(),
                quantity: Decimal::new(self.small(1_000_000).into(), 3).to_string(),
            }),
        };
        UsageInterval {
            resource: format!("i-{:020x}", self.next()),
            usage,
            from: 1_767_225_600_000 + i64::from(self.small(1_000_000_000)),
            seconds: 1 + self.below(4_000_000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use core::cell::Cell;

    /// Takes the first host that will do; `worse` is what it does wrong.
    struct Odd {
        worse: String,
        asked: Cell<u32>,
    }

    impl Scheduler for Odd {
        fn configure(configuration: &Configuration) -> Result<Self, String> {
            Ok(Self {
                worse: configuration.get("worse").unwrap_or_default().into(),
                asked: Cell::new(0),
            })
        }

        fn judge(
            &self,
            request: &PlacementRequest,
            hosts: &HostTable,
        ) -> Result<Vec<Verdict>, String> {
            self.asked.set(self.asked.get() + 1);
            let judge = |host| match hosts.obstacle(host, request) {
                Some(_) if self.worse == "blind" => Verdict::Score(1.0),
                Some(constraint) => Verdict::refused(constraint),
                None if self.worse == "nan" => Verdict::Score(f64::NAN),
                None if self.worse == "remembers" => Verdict::Score(self.asked.get().into()),
                None => Verdict::Score(0.0),
            };
            let missing = usize::from(self.worse == "short");
            Ok((missing..hosts.len()).map(judge).collect())
        }
    }

    #[test]
    fn a_sound_scheduler_passes() {
        scheduler::<Odd>(&[]);
    }

    #[test]
    #[should_panic(expected = "does not meet")]
    fn a_host_that_cannot_hold_the_instance_must_be_refused() {
        scheduler::<Odd>(&[("worse", "blind")]);
    }

    #[test]
    #[should_panic(expected = "has the score NaN")]
    fn a_score_must_be_a_number() {
        scheduler::<Odd>(&[("worse", "nan")]);
    }

    #[test]
    #[should_panic(expected = "asked again")]
    fn a_scheduler_must_not_remember() {
        scheduler::<Odd>(&[("worse", "remembers")]);
    }

    #[test]
    #[should_panic(expected = "as many verdicts as hosts")]
    fn every_host_needs_a_verdict() {
        scheduler::<Odd>(&[("worse", "short")]);
    }

    /// A price a second; `worse` is what it does wrong.
    struct Prices(String);

    impl Billing for Prices {
        fn configure(configuration: &Configuration) -> Result<Self, String> {
            Ok(Self(configuration.get("worse").unwrap_or_default().into()))
        }

        fn currency(&self) -> &str {
            "CNY"
        }

        fn price(&self, usage: &UsageInterval) -> Result<Decimal, String> {
            let seconds = Decimal::from(usage.seconds);
            match self.0.as_str() {
                "negative" => Ok(-seconds),
                "falling" => Ok(Decimal::from(10_000_000) - seconds),
                "silent" => Err("no price".into()),
                _ => Ok(seconds),
            }
        }
    }

    #[test]
    fn a_sound_price_list_passes() {
        billing::<Prices>(&[]);
    }

    #[test]
    #[should_panic(expected = "its price is -")]
    fn a_price_must_not_be_negative() {
        billing::<Prices>(&[("worse", "negative")]);
    }

    #[test]
    #[should_panic(expected = "but only")]
    fn longer_must_not_cost_less() {
        billing::<Prices>(&[("worse", "falling")]);
    }

    /// Lets everything in; `worse` is what it does wrong.
    struct Gate(String);

    impl Admission for Gate {
        fn configure(configuration: &Configuration) -> Result<Self, String> {
            Ok(Self(configuration.get("worse").unwrap_or_default().into()))
        }

        fn admit(
            &self,
            _: &InstancesRequest,
            _: &Holdings,
            _: &Offers,
        ) -> Result<Admitted, String> {
            Ok(match self.0.as_str() {
                "rude" => Admitted::refused("No!", "No.".into()),
                "renames" => Admitted::Amend(Amendment {
                    name: Some("mine".into()),
                    ..Amendment::none()
                }),
                "zone" => Admitted::Amend(Amendment {
                    zone: Some("moon".into()),
                    ..Amendment::none()
                }),
                _ => Admitted::Admit,
            })
        }
    }

    #[test]
    fn a_sound_admission_policy_passes() {
        admission::<Gate>(&[]);
    }

    #[test]
    #[should_panic(expected = "is not of 1 to 64")]
    fn a_refusal_needs_a_reason_for_programs() {
        admission::<Gate>(&[("worse", "rude")]);
    }

    #[test]
    #[should_panic(expected = "changes the name")]
    fn what_was_asked_for_must_stay() {
        admission::<Gate>(&[("worse", "renames")]);
    }

    #[test]
    #[should_panic(expected = "which there is not")]
    fn only_what_there_is_may_be_chosen() {
        admission::<Gate>(&[("worse", "zone")]);
    }

    #[test]
    #[should_panic(expected = "prices nothing")]
    fn a_price_list_without_a_price_is_none() {
        billing::<Prices>(&[("worse", "silent")]);
    }
}
