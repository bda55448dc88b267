//! Reads and applies nftables rulesets atomically
