//! Integration tests of the whole host
