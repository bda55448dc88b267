//! Disks served through one io_uring per I/O thread
