//! Largest sizes, required labels, allowed images and defaults.
//!
//! Parameters, all optional; lists are separated by commas:
//! - `max-vcpus`, `max-memory-gib`: of one instance; `max-count`: instances of one request;
//! - `max-account-instances`, `max-account-vcpus`, `max-account-memory-gib`: what an account may have in all;
//! - `allowed-types`: instance types, of which one may end with `*` for all that begin like it, such as `ecs.g6.*`;
//! - `allowed-images`: ids of images;
//! - `required-tags`: keys of labels that each request must have;
//! - `default-tag.<key>`: the value of a label that is added where it is missing;
//! - `default-zone`: the zone of requests that name none; `disk-category`: the category that all disks get;
//! - `protect`: `true` switches deletion protection on for all but preemptible instances.
//!
//! A request that breaks a rule is refused for the first one it breaks, in the order above; last, one whose labels leave no room for the
//! default ones.

use ashlar_policy::{
    Configuration,
    admission::{Admission, Amendment, Holdings, InstancesRequest, Offers, Tag, Verdict},
    export_admission,
};

/// The policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardRails {
    max_vcpus: u32,
    max_memory_gib: u64,
    max_count: u32,
    max_account: AccountLimits,
    allowed_types: Option<Vec<String>>,
    allowed_images: Option<Vec<String>>,
    required_tags: Vec<String>,
    default_tags: Vec<(String, String)>,
    default_zone: Option<String>,
    disk_category: Option<String>,
    protect: bool,
}

/// What an account may have: instances, virtual CPUs, GiB of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct AccountLimits {
    instances: u32,
    vcpus: u32,
    memory_gib: u64,
}

const GIB: u64 = 1 << 30;
const NAMES: [&str; 12] = [
    "max-vcpus",
    "max-memory-gib",
    "max-count",
    "max-account-instances",
    "max-account-vcpus",
    "max-account-memory-gib",
    "allowed-types",
    "allowed-images",
    "required-tags",
    "default-zone",
    "disk-category",
    "protect",
];
const DEFAULT_TAG: &str = "default-tag.";
/// The most labels of an instance.
const MAX_TAGS: usize = 20;

impl Admission for GuardRails {
    fn configure(configuration: &Configuration) -> Result<Self, String> {
        configuration.allow(&NAMES, &[DEFAULT_TAG])?;
        let list = |name: &str| {
            configuration.get(name).map(|text| {
                let items = text.split(',').map(str::trim);
                let items = items.filter(|item| !item.is_empty());
                items.map(str::to_owned).collect::<Vec<String>>()
            })
        };
        let owned = |name: &str| configuration.get(name).map(str::to_owned);
        let tags = configuration.with_prefix(DEFAULT_TAG);
        Ok(Self {
            max_vcpus: configuration.parse("max-vcpus", u32::MAX)?,
            max_memory_gib: configuration.parse("max-memory-gib", u64::MAX)?,
            max_count: configuration.parse("max-count", u32::MAX)?,
            max_account: AccountLimits {
                instances: configuration.parse("max-account-instances", u32::MAX)?,
                vcpus: configuration.parse("max-account-vcpus", u32::MAX)?,
                memory_gib: configuration.parse("max-account-memory-gib", u64::MAX)?,
            },
            allowed_types: list("allowed-types"),
            allowed_images: list("allowed-images"),
            required_tags: list("required-tags").unwrap_or_default(),
            default_tags: tags.map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
            default_zone: owned("default-zone"),
            disk_category: owned("disk-category"),
            protect: configuration.parse("protect", false)?,
        })
    }

    fn admit(
        &self,
        request: &InstancesRequest,
        holdings: &Holdings,
        offers: &Offers,
    ) -> Result<Verdict, String> {
        let refusal = self
            .too_large(request)
            .or_else(|| self.too_much(request, holdings))
            .or_else(|| self.not_allowed(request))
            .or_else(|| self.too_many_tags(request));
        Ok(refusal.unwrap_or_else(|| self.amended(request, offers)))
    }
}

impl GuardRails {
    fn too_large(&self, request: &InstancesRequest) -> Option<Verdict> {
        let (vcpus, count) = (self.max_vcpus, self.max_count);
        let most = self.max_memory_gib;
        if request.vcpus > vcpus {
            let words = format!("An instance may have {vcpus} vCPUs, not {}.", request.vcpus);
            return Some(Verdict::refused("too-many-vcpus", words));
        }
        if request.memory > most.saturating_mul(GIB) {
            let words = format!("An instance may have {most} GiB of memory.");
            return Some(Verdict::refused("too-much-memory", words));
        }
        if request.count > count {
            let words = format!(
                "A request may make {count} instances, not {}.",
                request.count
            );
            return Some(Verdict::refused("too-many-instances", words));
        }
        None
    }

    fn too_much(&self, request: &InstancesRequest, holdings: &Holdings) -> Option<Verdict> {
        let most = &self.max_account;
        let count = u64::from(request.count);
        let all = [
            (
                "instances",
                u64::from(holdings.instances),
                count,
                u64::from(most.instances),
            ),
            (
                "vCPUs",
                u64::from(holdings.vcpus),
                u64::from(request.vcpus).saturating_mul(count),
                u64::from(most.vcpus),
            ),
            (
                "GiB of memory",
                holdings.memory.div_ceil(GIB),
                request.memory.saturating_mul(count).div_ceil(GIB),
                most.memory_gib,
            ),
        ];
        let (what, has, more, most) = all
            .into_iter()
            .find(|(_, has, more, most)| has.saturating_add(*more) > *most)?;
        let words = format!(
            "Account {} may have {most} {what}; it has {has} and asks for {more} more.",
            request.account
        );
        Some(Verdict::refused("account-limit", words))
    }

    fn not_allowed(&self, request: &InstancesRequest) -> Option<Verdict> {
        let fits = |pattern: &String| match pattern.strip_suffix('*') {
            Some(prefix) => request.instance_type.starts_with(prefix),
            None => *pattern == request.instance_type,
        };
        let allowed = self.allowed_types.as_ref();
        if allowed.is_some_and(|allowed| !allowed.iter().any(fits)) {
            let words = format!(
                "Instance type {} is not allowed here.",
                request.instance_type
            );
            return Some(Verdict::refused("instance-type-not-allowed", words));
        }
        let allowed = self.allowed_images.as_ref();
        if allowed.is_some_and(|allowed| !allowed.contains(&request.image)) {
            let words = format!("Image {} is not allowed here.", request.image);
            return Some(Verdict::refused("image-not-allowed", words));
        }
        let added = |key: &String| self.default_tags.iter().any(|(default, _)| default == key);
        let missing = |key: &&String| !has_tag(request, key) && !added(key);
        let missing = self.required_tags.iter().find(missing)?;
        let words = format!("Each instance needs the label `{missing}`.");
        Some(Verdict::refused("missing-tag", words))
    }

    /// With more labels than an instance may have the request would not be amended at all.
    fn too_many_tags(&self, request: &InstancesRequest) -> Option<Verdict> {
        let tags = self.default_tags.iter();
        let added = tags.filter(|(key, _)| !has_tag(request, key)).count();
        if added == 0 || request.tags.len() + added <= MAX_TAGS {
            return None;
        }
        let room = MAX_TAGS.saturating_sub(added);
        let words = format!(
            "An instance may have {MAX_TAGS} labels; {added} are added here, so ask for {room} at most."
        );
        Some(Verdict::refused("too-many-tags", words))
    }

    fn amended(&self, request: &InstancesRequest, offers: &Offers) -> Verdict {
        let tags = self.default_tags.iter();
        let missing = tags.filter(|(key, _)| !has_tag(request, key));
        let zone = self
            .default_zone
            .as_ref()
            .filter(|_| request.zone.is_none());
        let other = |category: &&String| {
            let disks = &request.disks;
            disks.iter().any(|disk| disk.category != **category)
        };
        let category = self.disk_category.as_ref().filter(other);
        let amendment = Amendment {
            name: None,
            add_tags: missing
                .map(|(key, value)| Tag {
                    key: key.clone(),
                    value: value.clone(),
                })
                .collect(),
            deletion_protection: (self.protect && !request.spot && !request.deletion_protection)
                .then_some(true),
            // What is not on offer would not be taken from us.
            disk_category: category
                .filter(|category| offers.disk_categories.contains(category))
                .cloned(),
            zone: zone.filter(|zone| offers.zones.contains(zone)).cloned(),
        };
        let changes = !amendment.add_tags.is_empty()
            || amendment.deletion_protection.is_some()
            || amendment.disk_category.is_some()
            || amendment.zone.is_some();
        if changes {
            Verdict::Amend(amendment)
        } else {
            Verdict::Admit
        }
    }
}

fn has_tag(request: &InstancesRequest, key: &str) -> bool {
    request.tags.iter().any(|tag| tag.key == key)
}

export_admission!(GuardRails);

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_policy::admission::Disk;

    fn request() -> InstancesRequest {
        InstancesRequest {
            account: "team-a".to_owned(),
            instance_type: "ecs.g6.large".to_owned(),
            vcpus: 2,
            memory: 8 * GIB,
            disks: vec![Disk {
                category: "cloud_ssd".to_owned(),
                size: 40 * GIB,
            }],
            count: 2,
            image: "m-0123456789abcdefg".to_owned(),
            name: None,
            tags: vec![Tag {
                key: "team".to_owned(),
                value: "a".to_owned(),
            }],
            zone: None,
            spot: false,
            deletion_protection: false,
        }
    }

    fn admit(parameters: &[(&str, &str)], request: &InstancesRequest) -> Verdict {
        let policy = GuardRails::configure(&parameters.iter().copied().collect()).unwrap();
        let holdings = Holdings {
            instances: 3,
            vcpus: 6,
            memory: 24 * GIB,
        };
        let offers = Offers {
            zones: vec!["zone-a".to_owned()],
            disk_categories: vec!["cloud_essd".to_owned(), "cloud_ssd".to_owned()],
        };
        policy.admit(request, &holdings, &offers).unwrap()
    }

    fn reason(parameter: (&str, &str)) -> Option<String> {
        match admit(&[parameter], &request()) {
            Verdict::Refuse(refusal) => Some(refusal.reason),
            Verdict::Admit | Verdict::Amend(_) => None,
        }
    }

    #[test]
    fn each_rule_lets_in_what_keeps_it_and_refuses_what_does_not() {
        for (name, good, bad, refused) in [
            ("max-vcpus", "2", "1", "too-many-vcpus"),
            ("max-memory-gib", "8", "7", "too-much-memory"),
            ("max-count", "2", "1", "too-many-instances"),
            ("max-account-instances", "5", "4", "account-limit"),
            ("max-account-vcpus", "10", "9", "account-limit"),
            ("max-account-memory-gib", "40", "39", "account-limit"),
            (
                "allowed-types",
                "ecs.c6.large, ecs.g6.*",
                "ecs.g6",
                "instance-type-not-allowed",
            ),
            (
                "allowed-images",
                "m-x,m-0123456789abcdefg",
                "m-x",
                "image-not-allowed",
            ),
            ("required-tags", "team", "team, owner", "missing-tag"),
        ] {
            assert_eq!(reason((name, good)), None, "{name}");
            assert_eq!(reason((name, bad)).as_deref(), Some(refused));
        }
    }

    #[test]
    fn what_was_left_open_is_filled_in() {
        let defaults = [
            ("required-tags", "cost-centre"),
            ("default-tag.cost-centre", "42"),
            ("default-tag.team", "nobody"),
            ("default-zone", "zone-a"),
            ("disk-category", "cloud_essd"),
            ("protect", "true"),
        ];
        let Verdict::Amend(amendment) = admit(&defaults, &request()) else {
            panic!("it is amended");
        };
        assert_eq!(amendment.add_tags.len(), 1);
        assert_eq!(amendment.add_tags[0].key, "cost-centre");
        assert_eq!(amendment.zone.as_deref(), Some("zone-a"));
        assert_eq!(amendment.disk_category.as_deref(), Some("cloud_essd"));
        assert_eq!(amendment.deletion_protection, Some(true));
        assert_eq!(amendment.name, None);
    }

    #[test]
    fn what_was_asked_for_or_cannot_be_had_is_left_alone() {
        let mut asked = request();
        asked.zone = Some("zone-b".to_owned());
        asked.spot = true;
        let defaults = [
            ("default-tag.team", "nobody"),
            ("default-zone", "zone-a"),
            ("disk-category", "cloud_ssd"),
            ("protect", "true"),
        ];
        assert!(matches!(admit(&defaults, &asked), Verdict::Admit));
        let elsewhere = [("default-zone", "zone-z"), ("disk-category", "floppy")];
        assert!(matches!(admit(&elsewhere, &request()), Verdict::Admit));
    }

    #[test]
    fn labels_that_leave_no_room_for_the_defaults_are_refused() {
        let default = [("default-tag.team", "nobody")];
        let mut asked = request();
        let tag = |number: usize| Tag {
            key: format!("key-{number}"),
            value: String::new(),
        };
        asked.tags = (1..MAX_TAGS).map(tag).collect();
        assert!(matches!(admit(&default, &asked), Verdict::Amend(_)));
        asked.tags.push(tag(MAX_TAGS));
        let Verdict::Refuse(refusal) = admit(&default, &asked) else {
            panic!("it is let in without its label");
        };
        assert_eq!(refusal.reason, "too-many-tags");
    }

    #[test]
    fn wrong_parameters_are_refused_by_name() {
        for (name, value, said) in [
            ("max-vcpus", "many", "`max-vcpus` is `many`"),
            ("protect", "yes", "`protect` is `yes`"),
            ("max-cpus", "1", "unknown parameter `max-cpus`"),
        ] {
            let error = GuardRails::configure(&[(name, value)].into_iter().collect());
            let error = error.unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
