//! The configuration of a host: one TOML file with a versioned schema, checked before it is used, with messages that point
//! at the line. Pure: text in, values out; where the text comes from is the caller's business.

#![forbid(unsafe_code)]
