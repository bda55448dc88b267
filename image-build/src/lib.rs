//! The builder of the host image: from a kernel package, the daemon and what it needs to a release that can be flashed, booted
//! from virtual media or the network, and streamed as an update. The same inputs give the same bytes.

#![forbid(unsafe_code)]
