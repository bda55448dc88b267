//! The device nodes an instance needs.

use anyhow::{Result, bail};

use crate::command::Invocation;

/// Device, what it is for, what to do when it isn't there.
const DEVICES: [(&str, &str, &str); 2] = [
    (
        "/dev/kvm",
        "instances are KVM guests",
        "load kvm-intel or kvm-amd, enable virtualisation in the firmware set-up, or use a machine (or a nested virtual machine) that has it",
    ),
    (
        "/dev/net/tun",
        "instances have network interfaces",
        "load the tun module (modprobe tun)",
    ),
];

/// Opens each device as root, the way the daemon will.
pub fn check() -> Result<()> {
    for (device, purpose, remedy) in DEVICES {
        if !std::path::Path::new(device).exists() {
            bail!("this machine has no {device} ({purpose}): {remedy}");
        }
        let opens = Invocation::as_root("sh")
            .args(["-c", &format!("exec 3<>{device}")])
            .read();
        if let Err(error) = opens {
            bail!(
                "{device} is there but root may not open it ({purpose}): is this a container without the device? {error}"
            );
        }
    }
    Ok(())
}
