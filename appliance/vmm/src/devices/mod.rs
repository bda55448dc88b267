//! The device workers: block, network, entropy.
