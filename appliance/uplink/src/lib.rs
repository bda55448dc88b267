//! The network of the host itself: its interfaces, bonds and VLANs with stable names, addresses given or leased. It knows
//! nothing of the instances' networks.

#![forbid(unsafe_code)]
