//! The REST interface of the host
