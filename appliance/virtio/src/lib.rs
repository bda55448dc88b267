//! Virtio queues, device models and the virtio-pci transport over guest-memory traits
