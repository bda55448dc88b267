//! The hosts there are, column by column.
//!
//! A policy looks at one property of many hosts, and a column crosses the border to a plugin in one copy; so the table
//! keeps columns and makes rows on demand.

use crate::{CapacityError, Footprint, HostRow};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use types::{ByteCount, HostId};

/// Hosts in the order of their ids. Serialised as a list of [`HostRow`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<HostRow>", into = "Vec<HostRow>")]
pub struct HostTable {
    ids: Vec<HostId>,
    /// Names the `zone` column refers to, sorted.
    zone_names: Vec<String>,
    columns: Columns,
    deployment_sets: Vec<BTreeMap<String, u32>>,
}

/// The columns of a [`HostTable`]; position `n` of each is the same host. Memory and disk are in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    /// Position of the host's zone in [`HostTable::zone_names`].
    pub zone: Vec<u32>,
    /// 1 if the host takes new instances, else 0.
    pub accepting: Vec<u8>,
    /// vCPUs on offer.
    pub vcpus_total: Vec<u32>,
    /// vCPUs taken.
    pub vcpus_used: Vec<u32>,
    /// Memory on offer.
    pub memory_total: Vec<u64>,
    /// Memory taken.
    pub memory_used: Vec<u64>,
    /// Local disk on offer.
    pub local_disk_total: Vec<u64>,
    /// Local disk taken.
    pub local_disk_used: Vec<u64>,
    /// Instances placed here.
    pub instances: Vec<u32>,
}

/// The rows do not make a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// Two rows have the same id.
    #[error("host {0} is twice in the host table")]
    Twice(HostId),
    /// More rows than a table may have.
    #[error("a host table of {0} rows; at most {max} are allowed", max = HostTable::MAX_HOSTS)]
    TooLong(usize),
}

impl HostTable {
    /// The most hosts a table may have.
    pub const MAX_HOSTS: usize = 100_000;

    /// A table of these hosts, in any order.
    ///
    /// # Errors
    /// [`TableError`] when an id occurs twice or there are more than [`Self::MAX_HOSTS`].
    pub fn new(mut rows: Vec<HostRow>) -> Result<Self, TableError> {
        if rows.len() > Self::MAX_HOSTS {
            return Err(TableError::TooLong(rows.len()));
        }
        rows.sort_by_key(|row| row.id);
        if let Some(pair) = rows.windows(2).find(|pair| pair[0].id == pair[1].id) {
            return Err(TableError::Twice(pair[0].id));
        }
        let zones: BTreeSet<&str> = rows.iter().map(|row| row.zone.as_str()).collect();
        let mut table = Self {
            zone_names: zones.into_iter().map(str::to_owned).collect(),
            ..Self::default()
        };
        for row in rows {
            table.push(row);
        }
        Ok(table)
    }

    fn push(&mut self, row: HostRow) {
        let zone = self.zone_names.binary_search(&row.zone).unwrap_or_default();
        let columns = &mut self.columns;
        self.ids.push(row.id);
        // There are at most MAX_HOSTS zones.
        columns.zone.push(u32::try_from(zone).unwrap_or(u32::MAX));
        columns.accepting.push(u8::from(row.accepting));
        columns.vcpus_total.push(row.vcpus_total);
        columns.vcpus_used.push(row.vcpus_used);
        columns.memory_total.push(row.memory_total.bytes());
        columns.memory_used.push(row.memory_used.bytes());
        columns.local_disk_total.push(row.local_disk_total.bytes());
        columns.local_disk_used.push(row.local_disk_used.bytes());
        columns.instances.push(row.instances);
        self.deployment_sets.push(row.deployment_sets);
    }

    /// How many hosts there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no host at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The hosts' ids, ascending: the order of every column and of every policy's verdicts.
    #[must_use]
    pub fn ids(&self) -> &[HostId] {
        &self.ids
    }

    /// The zones' names, ascending.
    #[must_use]
    pub fn zone_names(&self) -> &[String] {
        &self.zone_names
    }

    /// All columns.
    #[must_use]
    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    /// For each host, how many members of the deployment set `set` it carries.
    #[must_use]
    pub fn members_of(&self, set: &str) -> Vec<u32> {
        let members = |sets: &BTreeMap<String, u32>| sets.get(set).copied().unwrap_or_default();
        self.deployment_sets.iter().map(members).collect()
    }

    /// The hosts that carry members of the deployment set `set`: position and how many, ascending.
    pub fn carriers_of<'a>(&'a self, set: &'a str) -> impl Iterator<Item = (usize, u32)> + 'a {
        let hosts = self.deployment_sets.iter().enumerate();
        hosts.filter_map(move |(position, sets)| Some((position, *sets.get(set)?)))
    }

    /// All deployment sets' memberships, host by host.
    pub(crate) fn deployment_sets(&self) -> &[BTreeMap<String, u32>] {
        &self.deployment_sets
    }

    /// The host at a position of the table.
    #[must_use]
    pub fn row(&self, position: usize) -> Option<HostRow> {
        let id = *self.ids.get(position)?;
        let columns = &self.columns;
        let zone = usize::try_from(columns.zone[position]).ok()?;
        Some(HostRow {
            id,
            zone: self.zone_names.get(zone)?.clone(),
            accepting: columns.accepting[position] != 0,
            vcpus_total: columns.vcpus_total[position],
            vcpus_used: columns.vcpus_used[position],
            memory_total: ByteCount::new(columns.memory_total[position]),
            memory_used: ByteCount::new(columns.memory_used[position]),
            local_disk_total: ByteCount::new(columns.local_disk_total[position]),
            local_disk_used: ByteCount::new(columns.local_disk_used[position]),
            instances: columns.instances[position],
            deployment_sets: self.deployment_sets[position].clone(),
        })
    }

    /// The hosts, one by one, ascending by id.
    pub fn rows(&self) -> impl Iterator<Item = HostRow> + '_ {
        (0..self.len()).filter_map(|position| self.row(position))
    }

    /// Books a placed instance on `host`. Nothing changes on an error.
    ///
    /// # Errors
    /// [`CapacityError`] when the host is unknown or has not enough left.
    pub fn reserve(&mut self, host: HostId, footprint: &Footprint) -> Result<(), CapacityError> {
        self.change(host, |row| row.reserve(footprint))
    }

    /// Takes an instance off the books of `host`. Nothing changes on an error.
    ///
    /// # Errors
    /// [`CapacityError`] when the host is unknown or never had it.
    pub fn release(&mut self, host: HostId, footprint: &Footprint) -> Result<(), CapacityError> {
        self.change(host, |row| row.release(footprint))
    }

    /// Sets whether `host` takes new instances.
    ///
    /// # Errors
    /// [`CapacityError::UnknownHost`].
    pub fn set_accepting(&mut self, host: HostId, accepting: bool) -> Result<(), CapacityError> {
        self.change(host, |row| {
            row.accepting = accepting;
            Ok(())
        })
    }

    fn change(
        &mut self,
        host: HostId,
        change: impl FnOnce(&mut HostRow) -> Result<(), CapacityError>,
    ) -> Result<(), CapacityError> {
        let unknown = CapacityError::UnknownHost(host);
        let position = self.ids.binary_search(&host).map_err(|_| unknown.clone())?;
        let mut row = self.row(position).ok_or(unknown)?;
        change(&mut row)?;
        let columns = &mut self.columns;
        columns.accepting[position] = u8::from(row.accepting);
        columns.vcpus_used[position] = row.vcpus_used;
        columns.memory_used[position] = row.memory_used.bytes();
        columns.local_disk_used[position] = row.local_disk_used.bytes();
        columns.instances[position] = row.instances;
        self.deployment_sets[position] = row.deployment_sets;
        Ok(())
    }
}

impl TryFrom<Vec<HostRow>> for HostTable {
    type Error = TableError;

    fn try_from(rows: Vec<HostRow>) -> Result<Self, TableError> {
        Self::new(rows)
    }
}

impl From<HostTable> for Vec<HostRow> {
    fn from(table: HostTable) -> Self {
        table.rows().collect()
    }
}
