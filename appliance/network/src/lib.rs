//! Network namespaces, routed taps and DHCP for VPCs
