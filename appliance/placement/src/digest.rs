//! One digest for everything a policy was asked.

use crate::{Affinity, HostTable, PlacementRequest};
use sha2::{Digest, Sha256};
use types::{HostId, Sha256Digest};

/// Hashes fields so that no two different sequences of fields feed the same bytes: every variable part is preceded by
/// its length, every number is little-endian.
struct Fields(Sha256);

impl Fields {
    fn new(what: &str) -> Self {
        let mut fields = Self(Sha256::new());
        fields.text(what);
        fields
    }

    fn number(&mut self, number: u64) {
        self.0.update(number.to_le_bytes());
    }

    fn length(&mut self, length: usize) {
        self.number(u64::try_from(length).unwrap_or(u64::MAX));
    }

    fn text(&mut self, text: &str) {
        self.length(text.len());
        self.0.update(text);
    }

    fn bytes(&mut self, column: &[u8]) {
        self.length(column.len());
        self.0.update(column);
    }

    fn u32s(&mut self, column: &[u32]) {
        self.length(column.len());
        for number in column {
            self.0.update(number.to_le_bytes());
        }
    }

    fn u64s(&mut self, column: &[u64]) {
        self.length(column.len());
        for number in column {
            self.0.update(number.to_le_bytes());
        }
    }

    fn hosts<'a>(&mut self, hosts: impl Iterator<Item = &'a HostId> + Clone) {
        self.length(hosts.clone().count());
        for host in hosts {
            self.text(host.body());
        }
    }

    fn finish(self) -> Sha256Digest {
        Sha256Digest::new(self.0.finalize().into())
    }
}

impl PlacementRequest {
    /// SHA-256 over all fields.
    #[must_use]
    pub fn digest(&self) -> Sha256Digest {
        let mut fields = Fields::new("ashlar placement request 1");
        fields.text(&self.instance.to_string());
        fields.text(&self.instance_type);
        fields.number(u64::from(self.vcpus));
        fields.number(self.memory.bytes());
        fields.number(self.local_disk.bytes());
        fields.number(u64::from(self.zone.is_some()));
        fields.text(self.zone.as_deref().unwrap_or_default());
        fields.number(u64::from(self.deployment_set.is_some()));
        if let Some(set) = &self.deployment_set {
            fields.text(&set.id);
            fields.number(u64::from(set.max_per_host));
        }
        fields.number(u64::from(self.spot));
        // Requests from before there was affinity keep their digests.
        if !self.affinity.is_empty() {
            let Affinity { only, never } = &self.affinity;
            fields.text("affinity");
            fields.number(u64::from(only.is_some()));
            fields.hosts(only.iter().flatten());
            fields.hosts(never.iter());
        }
        fields.finish()
    }
}

impl HostTable {
    /// SHA-256 over all rows.
    #[must_use]
    pub fn digest(&self) -> Sha256Digest {
        let mut fields = Fields::new("ashlar host table 1");
        fields.length(self.len());
        for id in self.ids() {
            fields.text(id.body());
        }
        fields.length(self.zone_names().len());
        for zone in self.zone_names() {
            fields.text(zone);
        }
        let columns = self.columns();
        fields.bytes(&columns.accepting);
        for column in [
            &columns.zone,
            &columns.vcpus_total,
            &columns.vcpus_used,
            &columns.instances,
        ] {
            fields.u32s(column);
        }
        for column in [
            &columns.memory_total,
            &columns.memory_used,
            &columns.local_disk_total,
            &columns.local_disk_used,
        ] {
            fields.u64s(column);
        }
        for sets in self.deployment_sets() {
            fields.length(sets.len());
            for (set, members) in sets {
                fields.text(set);
                fields.number(u64::from(*members));
            }
        }
        fields.finish()
    }
}

/// The digest of a request and the table it was answered from.
pub(crate) fn inputs(request: Sha256Digest, hosts: Sha256Digest) -> Sha256Digest {
    let mut fields = Fields::new("ashlar placement inputs 1");
    fields.bytes(request.bytes());
    fields.bytes(hosts.bytes());
    fields.finish()
}
