//! The disk a host boots from: its partitions, the two slots on its EFI system partition, the record of the host's own state,
//! and the data partition.
//!
//! ```text
//! Disk::all ─▶ BootDisk::find ─┬▶ slots: Esp      list, stage, switch, mark good or bad
//!                              ├▶ state: StateStore   one record, in two copies
//!                              └▶ data                found or made, mounted
//! ```
//!
//! It knows disks, not why something is written to them. Every change is ordered so that a power cut leaves what was before
//! or what comes after.

// One call tells the kernel of a new partition; everything else is safe.
#![deny(unsafe_code)]

mod boot;
mod data;
mod disks;
mod error;
mod judge;
mod overlay;
mod record;
mod slots;
mod state;
mod table;

pub use boot::BootDisk;
pub use data::{DataKey, DataRequest, DataSource, find_data, mount_data};
pub use disks::{Disk, Partition};
pub use error::{DiskError, ErrorKind};
pub use judge::{Verdict, judge};
pub use record::{
    Configuration, DataRecord, HostRecord, Identity, InstancesPolicy, LiveDaemon, UpdatePhase,
    UpdateRecord,
};
pub use slots::{Esp, SlotEntry, Staged};
pub use state::{StateFile, StateStore};
