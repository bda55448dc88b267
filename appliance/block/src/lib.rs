//! The seam between a disk device model and the engine that serves it
