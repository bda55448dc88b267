//! The disk a host boots from: its partitions, the two slots on its EFI system partition, the record of the host's own state,
//! and the data partition. It knows disks, not why something is written to them.

#![forbid(unsafe_code)]
