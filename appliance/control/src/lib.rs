//! Use cases and reconcilers of the host
