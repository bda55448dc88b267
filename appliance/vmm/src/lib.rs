//! One machine: the process that runs one instance

mod devices;
