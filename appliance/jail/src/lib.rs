//! Confines a vmm process: namespaces, user, limits and seccomp
