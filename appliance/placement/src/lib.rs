//! Placement: the request, the host table, the built-in scheduling policy and the recorded decision
