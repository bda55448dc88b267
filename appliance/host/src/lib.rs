//! The kernel interfaces that the first process of a host needs: mounts, modules, settings, clock, entropy, watchdog, power.
//! Each is one small function or type over one interface; the order in which a host boots is not known here.

#![forbid(unsafe_code)]
