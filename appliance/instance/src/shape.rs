//! Instance types: names that stand for virtual CPUs and memory.

use types::ByteCount;

/// Virtual CPUs and memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory.
    pub memory: ByteCount,
}

/// There is no such instance type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no instance type `{0}`: known are ecs.c6, ecs.g6 and ecs.r6 in sizes large, xlarge and 2xlarge to 26xlarge, and ecs.t6-c1m1, -c1m2 and -c1m4 in sizes large and xlarge"
)]
pub struct UnknownType(String);

/// GiB of memory per virtual CPU, by family.
const FAMILIES: [(&str, u64); 3] = [("ecs.c6", 2), ("ecs.g6", 4), ("ecs.r6", 8)];
const BURSTABLE: [(&str, u64); 3] = [("ecs.t6-c1m1", 1), ("ecs.t6-c1m2", 2), ("ecs.t6-c1m4", 4)];

impl Shape {
    /// What an ECS instance type stands for: `ecs.g6.large` is 2 virtual CPUs and 8 GiB.
    ///
    /// # Errors
    /// [`UnknownType`] for a name that is none.
    pub fn of_type(name: &str) -> Result<Self, UnknownType> {
        let unknown = || UnknownType(name.chars().take(64).collect());
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
    FAMILIES.iter().any(|(name, _)| Some(*name) == family) && Shape::of_type(instance_type).is_ok()
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
            ("ecs.g6.27xlarge", None, false),
            ("ecs.t6-c1m1.2xlarge", None, false),
            ("custom", None, false),
        ] {
            assert_eq!(baseline_percent(name), percent, "{name}");
            assert_eq!(has_own_cpus(name), own, "{name}");
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
