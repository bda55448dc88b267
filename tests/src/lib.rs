//! Integration tests of the whole host: see `tests/`.

#![forbid(unsafe_code)]
