//! PCI as a guest uses it, through the public interface.

mod bus;
mod config;
mod msix;
