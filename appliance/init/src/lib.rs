//! The first process of a host: it brings the machine up, supervises the daemon, judges whether an updated slot is good, and
//! talks to whoever stands before the screen.

#![forbid(unsafe_code)]
