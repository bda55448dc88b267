//! KVM: virtual machines, vCPUs, interrupts; the only user of kvm-ioctls
