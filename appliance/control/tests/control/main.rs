//! The control plane on a host made of memory, in virtual time.

mod bills;
mod commerce;
mod credits;
mod deployment;
mod images;
mod lives;
mod local_disks;
mod networks;
mod policies;
mod requests;
mod restarts;
mod usage;
mod world;
mod years;
