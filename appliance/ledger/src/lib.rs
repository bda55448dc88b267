//! The append-only usage ledger, its hash chain, and rating of usage to charges
