//! Whether a request is let in: sizes and quotas, then the operator's policy, before anything is placed.

mod policy;

pub use policy::{
    AdmissionPolicy, AdmitAll, Admitter, Amendment, Answer, DiskRequest, Holdings,
    InstancesRequest, MAX_MESSAGE, MAX_REASON, Offers, RESERVED_TAGS, check_answer,
};

use types::ByteCount;

/// The most instances one request makes (ECS RunInstances).
pub const MAX_AMOUNT: u32 = 100;
/// The most data disks of an instance.
pub const MAX_DATA_DISKS: usize = 16;
/// The most security groups of an interface.
pub const MAX_SECURITY_GROUPS: usize = 5;
/// The largest disk.
pub const MAX_DISK_SIZE: ByteCount = ByteCount::from_gib(32_768);
/// The longest kernel command line, image's and instance's together, in bytes.
pub const MAX_CMDLINE: usize = 2048;
/// The longest name, in characters.
pub const MAX_NAME: usize = 128;
/// The longest description, in characters.
pub const MAX_DESCRIPTION: usize = 256;
/// The most labels of an instance.
pub const MAX_TAGS: usize = 20;

/// What an instance on this host may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeLimits {
    /// The most virtual CPUs.
    pub max_vcpus: u32,
    /// The least memory.
    pub min_memory: ByteCount,
    /// The most memory.
    pub max_memory: ByteCount,
}

/// A parameter that is refused: which one, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The parameter, by its name in the request.
    pub field: &'static str,
    /// What is wrong and what would be right.
    pub message: String,
}

fn refuse<T>(field: &'static str, message: String) -> Result<T, Refusal> {
    Err(Refusal { field, message })
}

impl SizeLimits {
    /// Whether an instance may have this size: 1 to the most virtual CPUs, memory in whole MiB within the range.
    ///
    /// # Errors
    /// The parameter that is out of its range, with the range.
    pub fn check(&self, vcpus: u32, memory: ByteCount) -> Result<(), Refusal> {
        if vcpus == 0 || vcpus > self.max_vcpus {
            let most = self.max_vcpus;
            return refuse(
                "vcpus",
                format!("{vcpus} vCPUs: an instance on this host has 1 to {most}"),
            );
        }
        let (least, most) = (self.min_memory, self.max_memory);
        if memory < least || memory > most {
            return refuse(
                "memory",
                format!("{memory} of memory: an instance on this host has {least} to {most}"),
            );
        }
        if !memory.is_multiple_of(ByteCount::MIB) {
            return refuse(
                "memory",
                format!("{memory} of memory: it must be a whole number of MiB"),
            );
        }
        Ok(())
    }
}

/// How many instances to make at least and at most: 1 to [`MAX_AMOUNT`]; without a least number all or none.
///
/// # Errors
/// The parameter that is out of its range.
pub fn check_amount(amount: u32, min_amount: Option<u32>) -> Result<(u32, u32), Refusal> {
    if amount == 0 || amount > MAX_AMOUNT {
        return refuse(
            "amount",
            format!("{amount} instances: one request makes 1 to {MAX_AMOUNT}"),
        );
    }
    let least = min_amount.unwrap_or(amount);
    if least == 0 || least > amount {
        return refuse(
            "min_amount",
            format!("at least {least} instances: it must be 1 to the amount, {amount}"),
        );
    }
    Ok((least, amount))
}

/// Whether a disk may have this size: whole GiB, 1 to 32,768.
///
/// # Errors
/// The size, with the range.
pub fn check_disk_size(size: ByteCount) -> Result<(), Refusal> {
    if size < ByteCount::GIB || size > MAX_DISK_SIZE || !size.is_multiple_of(ByteCount::GIB) {
        return refuse(
            "size",
            format!(
                "a disk of {size}: it must be 1 to {} whole GiB",
                MAX_DISK_SIZE.gib()
            ),
        );
    }
    Ok(())
}

/// Whether `asked` more fit under `limit` when there are `there` already.
///
/// # Errors
/// What there is and what the limit is.
pub fn check_quota(
    what: &'static str,
    there: usize,
    asked: usize,
    limit: u32,
) -> Result<(), Refusal> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if there.saturating_add(asked) > limit {
        return refuse(
            what,
            format!("{asked} more {what} would pass the quota: there are {there} of {limit}"),
        );
    }
    Ok(())
}

/// Whether a name may be given: 1 to [`MAX_NAME`] characters, none of them a control character.
///
/// # Errors
/// The name's length, or that it has control characters.
pub fn check_name(name: &str) -> Result<(), Refusal> {
    check_text("name", name, 1, MAX_NAME)
}

/// Whether a description may be given: at most [`MAX_DESCRIPTION`] characters, none of them a control character.
///
/// # Errors
/// The description's length, or that it has control characters.
pub fn check_description(text: &str) -> Result<(), Refusal> {
    check_text("description", text, 0, MAX_DESCRIPTION)
}

fn check_text(field: &'static str, text: &str, least: usize, most: usize) -> Result<(), Refusal> {
    let length = text.chars().count();
    if length < least || length > most {
        return refuse(
            field,
            format!("a {field} of {length} characters: it must have {least} to {most}"),
        );
    }
    if text.chars().any(char::is_control) {
        return refuse(field, format!("the {field} has control characters in it"));
    }
    Ok(())
}

/// The kernel command line of an instance: the image's part, then the instance's.
///
/// # Errors
/// When it is longer than [`MAX_CMDLINE`] or has anything but printable ASCII in it.
pub fn join_cmdline(image: &str, instance: &str) -> Result<String, Refusal> {
    let parts = [image.trim(), instance.trim()];
    let whole = parts
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    if whole.len() > MAX_CMDLINE {
        let length = whole.len();
        return refuse(
            "cmdline",
            format!("a kernel command line of {length} bytes: it may have {MAX_CMDLINE}"),
        );
    }
    if let Some(odd) = whole.chars().find(|c| !c.is_ascii_graphic() && *c != ' ') {
        let odd = odd.escape_default();
        return refuse(
            "cmdline",
            format!("the kernel command line has `{odd}` in it: only printable ASCII is passed on"),
        );
    }
    Ok(whole)
}

/// Whether labels may be given: at most [`MAX_TAGS`], keys of 1 to 128 characters, values of at most 128.
///
/// # Errors
/// The first label that may not be.
pub fn check_tags<'a>(
    tags: impl ExactSizeIterator<Item = (&'a String, &'a String)>,
) -> Result<(), Refusal> {
    if tags.len() > MAX_TAGS {
        return refuse(
            "tags",
            format!("{} labels: an instance has at most {MAX_TAGS}", tags.len()),
        );
    }
    for (key, value) in tags {
        check_text("tags", key, 1, 128)?;
        check_text("tags", value, 0, 128)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: SizeLimits = SizeLimits {
        max_vcpus: 8,
        min_memory: ByteCount::from_mib(16),
        max_memory: ByteCount::from_gib(4),
    };

    #[test]
    fn sizes_outside_the_range_name_the_range() {
        for (vcpus, mib, field, part) in [
            (0, 64, "vcpus", "1 to 8"),
            (9, 64, "vcpus", "1 to 8"),
            (1, 0, "memory", "16 MiB to 4 GiB"),
            (1, 15, "memory", "16 MiB to 4 GiB"),
            (1, 4097, "memory", "16 MiB to 4 GiB"),
        ] {
            let refusal = LIMITS.check(vcpus, ByteCount::from_mib(mib)).unwrap_err();
            assert_eq!(refusal.field, field);
            assert!(refusal.message.contains(part), "{refusal}");
        }
        assert!(
            LIMITS
                .check(1, ByteCount::new((64 << 20) + 1))
                .unwrap_err()
                .message
                .contains("whole number of MiB")
        );
        assert_eq!(LIMITS.check(8, ByteCount::from_gib(4)), Ok(()));
        assert_eq!(LIMITS.check(1, ByteCount::from_mib(16)), Ok(()));
    }

    #[test]
    fn amounts() {
        assert_eq!(check_amount(1, None), Ok((1, 1)));
        assert_eq!(check_amount(100, Some(3)), Ok((3, 100)));
        for (amount, least) in [(0, None), (101, None), (2, Some(3)), (2, Some(0))] {
            assert!(check_amount(amount, least).is_err(), "{amount} {least:?}");
        }
    }

    #[test]
    fn disks_are_whole_gib() {
        for (size, good) in [(0, false), (1, true), (32_768, true), (32_769, false)] {
            assert_eq!(
                check_disk_size(ByteCount::from_gib(size)).is_ok(),
                good,
                "{size}"
            );
        }
        assert!(check_disk_size(ByteCount::new((1 << 30) + 512)).is_err());
    }

    #[test]
    fn quota_counts_what_is_there() {
        assert_eq!(check_quota("disks", 3, 1, 4), Ok(()));
        assert!(
            check_quota("disks", 4, 1, 4)
                .unwrap_err()
                .message
                .contains("there are 4 of 4")
        );
        assert!(check_quota("disks", usize::MAX, 1, 4).is_err());
    }

    #[test]
    fn command_lines_are_joined_and_plain() {
        assert_eq!(
            join_cmdline(" console=ttyS0 ", ""),
            Ok("console=ttyS0".into())
        );
        assert_eq!(join_cmdline("a", "b c"), Ok("a b c".into()));
        assert_eq!(join_cmdline("", " "), Ok(String::new()));
        for bad in ["a\nb", "a\0b", "ü"] {
            assert!(join_cmdline("", bad).is_err(), "{bad:?}");
        }
        assert!(join_cmdline(&"a".repeat(1024), &"b".repeat(1024)).is_err());
        assert!(join_cmdline(&"a".repeat(1023), &"b".repeat(1024)).is_ok());
    }

    proptest! {
        #[test]
        fn what_passes_is_in_range(vcpus: u32, memory: u64) {
            if LIMITS.check(vcpus, ByteCount::new(memory)).is_ok() {
                prop_assert!((1..=8).contains(&vcpus));
                prop_assert!((16 << 20..=4_u64 << 30).contains(&memory) && memory % (1 << 20) == 0);
            }
        }
    }
}
