//! State of the host in redb
