//! Paired measurements
