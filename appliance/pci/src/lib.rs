//! PCI functions, configuration space, capabilities, MSI-X and the root bus
