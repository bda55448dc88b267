//! Instance types: names that stand for virtual CPUs, memory and local disks.

use types::ByteCount;

/// Virtual CPUs and memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory.
    pub memory: ByteCount,
}

/// What kind of storage a disk is on.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum DiskCategory {
    /// A disk of its own: it outlives its instance where that is wanted, and can be given to another one.
    #[default]
    CloudEssd,
    /// A solid-state disk of the host: it lives and dies with its instance, which it keeps on the host.
    LocalSsdPro,
}

impl DiskCategory {
    /// Every category.
    pub const ALL: [Self; 2] = [Self::CloudEssd, Self::LocalSsdPro];

    /// The name ECS gives it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::CloudEssd => "cloud_essd",
            Self::LocalSsdPro => "local_ssd_pro",
        }
    }

    /// Whether it is a disk of the host.
    #[must_use]
    pub const fn is_local(self) -> bool {
        matches!(self, Self::LocalSsdPro)
    }

    /// Whether it is the one that disks have of which nothing else is said.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The local disks that come with an instance type: so many of one size, all of [`DiskCategory::LocalSsdPro`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalDisks {
    /// How many.
    pub count: usize,
    /// How large each is.
    pub size: ByteCount,
}

/// There is no such instance type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no instance type `{0}`: known are ecs.c6, ecs.g6 and ecs.r6 in sizes large, xlarge and 2xlarge to 26xlarge, ecs.t6-c1m1, -c1m2 and -c1m4 in sizes large and xlarge, and with local disks ecs.i1 from xlarge to 14xlarge, ecs.i2 from xlarge and ecs.i2g from 2xlarge to 16xlarge"
)]
pub struct UnknownType(String);

/// GiB of memory per virtual CPU, by family.
const FAMILIES: [(&str, u64); 3] = [("ecs.c6", 2), ("ecs.g6", 4), ("ecs.r6", 8)];
/// Types with local disks, as ECS has them: virtual CPUs, GiB of memory, local disks, GiB of each.
const WITH_LOCAL_DISKS: [(&str, u32, u64, usize, u64); 15] = [
    ("ecs.i1.xlarge", 4, 16, 2, 104),
    ("ecs.i1.2xlarge", 8, 32, 2, 208),
    ("ecs.i1.3xlarge", 12, 48, 2, 312),
    ("ecs.i1.4xlarge", 16, 64, 2, 416),
    ("ecs.i1.8xlarge", 32, 128, 2, 832),
    ("ecs.i1.14xlarge", 56, 224, 2, 1456),
    ("ecs.i2.xlarge", 4, 32, 1, 894),
    ("ecs.i2.2xlarge", 8, 64, 1, 1788),
    ("ecs.i2.4xlarge", 16, 128, 2, 1788),
    ("ecs.i2.8xlarge", 32, 256, 4, 1788),
    ("ecs.i2.16xlarge", 64, 512, 8, 1788),
    ("ecs.i2g.2xlarge", 8, 32, 1, 894),
    ("ecs.i2g.4xlarge", 16, 64, 1, 1788),
    ("ecs.i2g.8xlarge", 32, 128, 2, 1788),
    ("ecs.i2g.16xlarge", 64, 256, 4, 1788),
];
const BURSTABLE: [(&str, u64); 3] = [("ecs.t6-c1m1", 1), ("ecs.t6-c1m2", 2), ("ecs.t6-c1m4", 4)];

impl Shape {
    /// What an ECS instance type stands for: `ecs.g6.large` is 2 virtual CPUs and 8 GiB.
    ///
    /// # Errors
    /// [`UnknownType`] for a name that is none.
    pub fn of_type(name: &str) -> Result<Self, UnknownType> {
        let unknown = || UnknownType(name.chars().take(64).collect());
        if let Some((_, vcpus, gib, ..)) = with_local_disks(name) {
            return Ok(Self {
                vcpus: *vcpus,
                memory: ByteCount::from_gib(*gib),
            });
        }
        let (family, size) = name.rsplit_once('.').ok_or_else(unknown)?;
        let ratio = |families: &[(&str, u64)]| {
            families
                .iter()
                .find(|(name, _)| *name == family)
                .map(|(_, gib)| *gib)
        };
        let vcpus = match size {
            "large" => 2,
            "xlarge" => 4,
            _ => {
                let times = size
                    .strip_suffix("xlarge")
                    .filter(|times| !times.starts_with(['0', '+']));
                let times = times
                    .and_then(|times| times.parse::<u32>().ok())
                    .ok_or_else(unknown)?;
                if !(2..=26).contains(&times) || ratio(&BURSTABLE).is_some() {
                    return Err(unknown());
                }
                times * 4
            }
        };
        let ratio = ratio(&FAMILIES)
            .or_else(|| ratio(&BURSTABLE))
            .ok_or_else(unknown)?;
        Ok(Self {
            vcpus,
            memory: ByteCount::from_gib(u64::from(vcpus) * ratio),
        })
    }
}

/// What a burstable type may use of each virtual CPU for ever, in percent; `None`: the type is not burstable, or not known.
/// The large ones and `ecs.t6-c1m4.xlarge` as ECS has them; the others as the large one of their family.
#[must_use]
pub fn baseline_percent(instance_type: &str) -> Option<u32> {
    Shape::of_type(instance_type).ok()?;
    match instance_type.rsplit_once('.')? {
        ("ecs.t6-c1m4", "xlarge") => Some(40),
        ("ecs.t6-c1m4", _) => Some(30),
        ("ecs.t6-c1m1" | "ecs.t6-c1m2", _) => Some(20),
        _ => None,
    }
}

/// Whether ECS sells the type with CPUs of its own: an enterprise family.
#[must_use]
pub fn has_own_cpus(instance_type: &str) -> bool {
    let family = instance_type.rsplit_once('.').map(|(family, _)| family);
    let shared_disks = || FAMILIES.iter().any(|(name, _)| Some(*name) == family);
    with_local_disks(instance_type).is_some()
        || shared_disks() && Shape::of_type(instance_type).is_ok()
}

/// The local disks that come with a type; `None`: with that type there are none, or it is not known.
#[must_use]
pub fn local_disks(instance_type: &str) -> Option<LocalDisks> {
    let (.., count, gib) = with_local_disks(instance_type)?;
    Some(LocalDisks {
        count: *count,
        size: ByteCount::from_gib(*gib),
    })
}

fn with_local_disks(name: &str) -> Option<&'static (&'static str, u32, u64, usize, u64)> {
    WITH_LOCAL_DISKS.iter().find(|(known, ..)| *known == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_stand_for_shapes() {
        for (name, vcpus, gib) in [
            ("ecs.g6.large", 2, 8),
            ("ecs.c6.large", 2, 4),
            ("ecs.r6.xlarge", 4, 32),
            ("ecs.g6.26xlarge", 104, 416),
            ("ecs.t6-c1m1.large", 2, 2),
            ("ecs.i1.3xlarge", 12, 48),
            ("ecs.i2g.16xlarge", 64, 256),
        ] {
            let memory = ByteCount::from_gib(gib);
            assert_eq!(Shape::of_type(name), Ok(Shape { vcpus, memory }), "{name}");
        }
    }

    #[test]
    fn a_type_is_burstable_or_has_its_own_cpus() {
        for (name, percent, own) in [
            ("ecs.t6-c1m1.large", Some(20), false),
            ("ecs.t6-c1m2.large", Some(20), false),
            ("ecs.t6-c1m4.large", Some(30), false),
            ("ecs.t6-c1m4.xlarge", Some(40), false),
            ("ecs.g6.large", None, true),
            ("ecs.c6.26xlarge", None, true),
            ("ecs.i2.xlarge", None, true),
            ("ecs.i2.large", None, false),
            ("ecs.g6.27xlarge", None, false),
            ("ecs.t6-c1m1.2xlarge", None, false),
            ("custom", None, false),
        ] {
            assert_eq!(baseline_percent(name), percent, "{name}");
            assert_eq!(has_own_cpus(name), own, "{name}");
        }
    }

    #[test]
    fn some_types_bring_local_disks() {
        for (name, count, gib) in [
            ("ecs.i1.xlarge", 2, 104),
            ("ecs.i2.16xlarge", 8, 1788),
            ("ecs.i2g.2xlarge", 1, 894),
        ] {
            let size = ByteCount::from_gib(gib);
            assert_eq!(
                local_disks(name),
                Some(LocalDisks { count, size }),
                "{name}"
            );
        }
        for name in ["ecs.g6.large", "ecs.i2.large", "custom"] {
            assert_eq!(local_disks(name), None, "{name}");
        }
    }

    #[test]
    fn other_names_are_refused_by_name() {
        for name in [
            "",
            "ecs.g6",
            "g6.large",
            "ecs.z9.large",
            "ecs.g6.1xlarge",
            "ecs.g6.+2xlarge",
            "ecs.g6.27xlarge",
            "ecs.t6-c1m1.2xlarge",
            "ecs.g6.02xlarge",
        ] {
            let error = Shape::of_type(name).unwrap_err().to_string();
            assert!(error.contains(&format!("`{name}`")), "{error}");
        }
    }
}
