//! Shared by the tests of the devices.
