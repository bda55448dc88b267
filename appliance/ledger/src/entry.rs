//! What the ledger is made of: usage that opens and closes, in a chain of hashes.

use crate::LedgerError;
use serde::{Deserialize, Serialize};
use types::{ByteCount, Decimal, DiskId, InstanceId, Sha256Digest, Timestamp, UsageId};

/// Something that costs as long as it lasts, with everything a price can depend on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "meter", rename_all = "kebab-case")]
pub enum Usage {
    /// An instance is running.
    InstanceRunning {
        /// Which.
        instance: InstanceId,
        /// Name of its type, such as `ecs.g6.large`.
        instance_type: String,
        /// Its virtual CPUs.
        vcpus: u32,
        /// Its memory.
        memory: ByteCount,
    },
    /// An instance is running that may be reclaimed, at the price that was the market's when this began.
    InstancePreemptible {
        /// Which.
        instance: InstanceId,
        /// Name of its type.
        instance_type: String,
        /// Its virtual CPUs.
        vcpus: u32,
        /// Its memory.
        memory: ByteCount,
        /// The price per hour, in the currency of the prices in force; not negative.
        hourly: Decimal,
    },
    /// An instance is stopped and keeps its virtual CPUs and memory.
    InstanceStopped {
        /// Which.
        instance: InstanceId,
        /// Name of its type.
        instance_type: String,
        /// Its virtual CPUs.
        vcpus: u32,
        /// Its memory.
        memory: ByteCount,
        /// The price per hour of one that may be reclaimed, as of when this began.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hourly: Option<Decimal>,
    },
    /// A disk exists.
    DiskAllocated {
        /// Which.
        disk: DiskId,
        /// Its category, such as `cloud_essd`.
        category: String,
        /// Its size.
        size: ByteCount,
    },
    /// A meter this program has no name for.
    Other {
        /// The meter's name.
        name: String,
        /// Id of what is metered.
        resource: String,
        /// How much of it lasts; not negative.
        quantity: Decimal,
    },
}

const INSTANCE_RUNNING: &str = "instance-running";
const INSTANCE_STOPPED: &str = "instance-stopped";
const DISK_ALLOCATED: &str = "disk-allocated";

/// Identifies a meter of a resource. At most one interval of each is open at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UsageKey {
    /// Id of the resource: `i-…`, `d-…`, ….
    pub resource: String,
    /// Name of the meter: `instance-running`, `instance-stopped`, `disk-allocated`, ….
    pub meter: String,
}

impl UsageKey {
    /// Of a running instance.
    #[must_use]
    pub fn instance_running(instance: InstanceId) -> Self {
        Self::other(instance.to_string(), INSTANCE_RUNNING)
    }

    /// Of a stopped instance that keeps its virtual CPUs and memory.
    #[must_use]
    pub fn instance_stopped(instance: InstanceId) -> Self {
        Self::other(instance.to_string(), INSTANCE_STOPPED)
    }

    /// Of an existing disk.
    #[must_use]
    pub fn disk_allocated(disk: DiskId) -> Self {
        Self::other(disk.to_string(), DISK_ALLOCATED)
    }

    /// Of a meter that this program has no name for ([`Usage::Other`]).
    #[must_use]
    pub fn other(resource: impl Into<String>, name: &str) -> Self {
        Self {
            resource: resource.into(),
            meter: name.to_owned(),
        }
    }
}

impl std::fmt::Display for UsageKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {}", self.meter, self.resource)
    }
}

impl Usage {
    /// Its price per hour, where that was agreed when it began: no policy is asked for it.
    #[must_use]
    pub fn agreed(&self) -> Option<Decimal> {
        match self {
            Self::InstancePreemptible { hourly, .. } => Some(*hourly),
            Self::InstanceStopped { hourly, .. } => *hourly,
            Self::InstanceRunning { .. } | Self::DiskAllocated { .. } | Self::Other { .. } => None,
        }
    }

    /// Id of what is used.
    #[must_use]
    pub fn resource(&self) -> String {
        match self {
            Self::InstanceRunning { instance, .. }
            | Self::InstancePreemptible { instance, .. }
            | Self::InstanceStopped { instance, .. } => instance.to_string(),
            Self::DiskAllocated { disk, .. } => disk.to_string(),
            Self::Other { resource, .. } => resource.clone(),
        }
    }

    /// Name of the meter.
    #[must_use]
    pub fn meter(&self) -> &str {
        match self {
            Self::InstanceRunning { .. } | Self::InstancePreemptible { .. } => INSTANCE_RUNNING,
            Self::InstanceStopped { .. } => INSTANCE_STOPPED,
            Self::DiskAllocated { .. } => DISK_ALLOCATED,
            Self::Other { name, .. } => name,
        }
    }

    /// Which meter of which resource this is.
    #[must_use]
    pub fn key(&self) -> UsageKey {
        UsageKey::other(self.resource(), self.meter())
    }
}

/// What is to be entered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Usage begins.
    Open(Usage),
    /// The open usage of that key ends.
    Close(UsageKey),
}

/// What was entered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// Usage began.
    Opened {
        /// Of what.
        usage: Usage,
    },
    /// Usage ended.
    Closed {
        /// The interval: the id of its opening entry.
        interval: UsageId,
    },
}

/// One record of the ledger. Never changed once it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// 0 for the first, then one more each.
    pub sequence: u64,
    /// When; never before the entry before it.
    pub time: Timestamp,
    /// What the clock said, where [`time`](Self::time) is something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<Timestamp>,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
    /// [`digest`](Self::digest) of the entry before it; 32 zero bytes in the first.
    pub previous: Sha256Digest,
    /// SHA-256 over `previous` and the canonical bytes: the compact JSON of the other fields in the order they are declared.
    pub digest: Sha256Digest,
}

/// The hashed part of an [`Entry`].
#[derive(Serialize)]
struct Hashed<'a> {
    sequence: u64,
    time: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    clock: Option<Timestamp>,
    #[serde(flatten)]
    event: &'a Event,
}

impl Entry {
    /// Its id, made of its digest. The id of an opening entry is the id of the interval.
    #[must_use]
    pub fn id(&self) -> UsageId {
        UsageId::generate(self.digest.id_bits())
    }

    fn digest_of(
        previous: &Sha256Digest,
        hashed: &Hashed<'_>,
    ) -> Result<Sha256Digest, LedgerError> {
        let mut bytes = previous.bytes().to_vec();
        serde_json::to_writer(&mut bytes, hashed).map_err(|error| LedgerError::Unwritable {
            sequence: hashed.sequence,
            why: error.to_string(),
        })?;
        Ok(Sha256Digest::of(&bytes))
    }
}

/// The end of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub next: u64,
    pub time: Option<Timestamp>,
    pub digest: Sha256Digest,
}

impl Default for Head {
    fn default() -> Self {
        Self {
            next: 0,
            time: None,
            digest: Sha256Digest::new([0; 32]),
        }
    }
}

impl Head {
    /// The entry that would come next. `not_before` holds its time back up.
    pub(crate) fn link(
        &self,
        event: Event,
        now: Timestamp,
        not_before: Option<Timestamp>,
    ) -> Result<Entry, LedgerError> {
        let time = self
            .time
            .max(not_before)
            .map_or(now, |least| least.max(now));
        let clock = (time != now).then_some(now);
        let hashed = Hashed {
            sequence: self.next,
            time,
            clock,
            event: &event,
        };
        let digest = Entry::digest_of(&self.digest, &hashed)?;
        Ok(Entry {
            sequence: self.next,
            time,
            clock,
            event,
            previous: self.digest,
            digest,
        })
    }

    /// The chain after an `entry` that does not fit, as that entry says it is.
    pub(crate) fn resumed_at(&self, entry: &Entry) -> Self {
        Self {
            next: entry.sequence.saturating_add(1),
            time: self.time.max(Some(entry.time)),
            digest: entry.digest,
        }
    }

    /// The chain with `entry` at its end.
    pub(crate) fn advance(&self, entry: &Entry) -> Result<Self, LedgerError> {
        let altered = |what: String| LedgerError::Altered {
            sequence: entry.sequence,
            what,
        };
        if entry.sequence != self.next {
            return Err(altered(format!("entry {} should be here", self.next)));
        }
        if entry.previous != self.digest {
            let expected = self.digest;
            return Err(altered(format!(
                "it follows {}, the entry before it is {expected}",
                entry.previous
            )));
        }
        if self.time.is_some_and(|time| entry.time < time) {
            return Err(altered("it is earlier than the entry before it".to_owned()));
        }
        let hashed = Hashed {
            sequence: entry.sequence,
            time: entry.time,
            clock: entry.clock,
            event: &entry.event,
        };
        let digest = Entry::digest_of(&entry.previous, &hashed)?;
        if digest != entry.digest {
            return Err(altered(format!(
                "its digest should be {digest} but is {}",
                entry.digest
            )));
        }
        Ok(Self {
            next: self.next + 1,
            time: Some(entry.time),
            digest,
        })
    }
}
