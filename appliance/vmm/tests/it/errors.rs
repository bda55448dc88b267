//! Machines that cannot be started: each says why, and leaves no process.

use vmm::launch::LaunchError;
use vmm::protocol::{Boot, MachineConfig, StartError};

use std::os::fd::OwnedFd;

use crate::guest::Guest;
use crate::lab::Lab;

/// Starts a machine that must be refused, and returns the message.
async fn refusal(lab: &Lab, machine: MachineConfig<OwnedFd>) -> String {
    match lab.launch(machine).await {
        Err(LaunchError::Start(error)) => error.to_string(),
        Err(other) => panic!("another error: {other:?}"),
        Ok(launched) => {
            let _ = launched.process.kill();
            panic!("it has started");
        }
    }
}

fn good() -> Vec<u8> {
    Guest::new().power_off().spin().elf()
}

#[tokio::test]
async fn images_that_are_no_kernels() {
    let lab = Lab::new();
    let good = good();
    let mut no_note = good.clone();
    no_note[64 + 56] = 0;
    let mut other_machine = good.clone();
    other_machine[18] = 40;
    let low = {
        let mut image = good.clone();
        image[64 + 24..64 + 32].copy_from_slice(&0x9000_u64.to_le_bytes());
        image
    };
    let cases: [(&[u8], &str); 8] = [
        (b"", "truncated"),
        (b"\x7FELF", "truncated"),
        (&[0; 4096], "not an ELF image"),
        (&good[..100], "truncated"),
        (&good[..0x203], "truncated: segment 0"),
        (&no_note, "no PVH entry note"),
        (&other_machine, "64-bit x86"),
        (&low, "outside its segments"),
    ];
    for (image, expected) in cases {
        let message = refusal(&lab, lab.machine(image, 16)).await;
        assert!(
            message.contains(expected),
            "{message:?} should contain {expected:?}"
        );
    }
}

#[tokio::test]
async fn what_does_not_fit_into_memory() {
    let lab = Lab::new();
    let large = Guest::new().spin().elf_of_memory_size(64 << 20);
    let message = refusal(&lab, lab.machine(&large, 16)).await;
    assert!(
        message.contains("reaches to 0x4100000") && message.contains("more memory"),
        "{message}"
    );
    let mut machine = lab.machine(&good(), 4);
    if let Boot::Pvh(kernel) = &mut machine.boot {
        kernel.initrd = Some(lab.file("initrd", &vec![0; 4 << 20]));
    }
    let message = refusal(&lab, machine).await;
    assert!(
        message.contains("initrd of 4194304 bytes does not fit"),
        "{message}"
    );
}

#[tokio::test]
async fn numbers_out_of_range() {
    let lab = Lab::new();
    let with = |change: &dyn Fn(&mut MachineConfig<OwnedFd>)| {
        let mut machine = lab.machine(&good(), 16);
        change(&mut machine);
        machine
    };
    let cmdline = |machine: &mut MachineConfig<OwnedFd>, text: String| {
        if let Boot::Pvh(kernel) = &mut machine.boot {
            kernel.cmdline = text;
        }
    };
    for (machine, expected) in [
        (
            with(&|machine| machine.vcpus = 0),
            "0 vCPUs: a machine has 1 to",
        ),
        (
            with(&|machine| machine.vcpus = 65),
            "65 vCPUs: a machine has 1 to",
        ),
        (with(&|machine| machine.vcpus = 300), "300 vCPUs"),
        (
            with(&|machine| machine.memory_bytes = 4096),
            "4096 bytes of memory",
        ),
        (
            with(&|machine| machine.memory_bytes += 1),
            "multiple of 4096",
        ),
        (
            with(&|machine| machine.memory_bytes *= 2),
            "guest memory: guest memory of 16777216 bytes",
        ),
        (
            with(&|machine| cmdline(machine, "x".repeat(2048))),
            "2048 bytes or a NUL",
        ),
        (with(&|machine| cmdline(machine, "a\0b".into())), "no NUL"),
    ] {
        let message = refusal(&lab, machine).await;
        assert!(
            message.contains(expected),
            "{message:?} should contain {expected:?}"
        );
    }
}

#[tokio::test]
async fn descriptors_that_are_not_what_they_should_be() {
    let lab = Lab::new();
    let prepared = lab.prepare(lab.file("null", b"")).await.expect("a process");
    let spec = lab.spec(lab.socket(), lab.machine(&good(), 16));
    match vmm::launch(prepared, spec).await {
        Err(LaunchError::Start(error)) => {
            assert!(error.to_string().contains("not /dev/kvm"), "{error}")
        }
        other => panic!("{:?}", other.map(|launched| launched.process.kill())),
    }
    let mut machine = lab.machine(&good(), 16);
    machine.host.console = lab.file("no-ring", b"text");
    let message = refusal(&lab, machine).await;
    assert!(message.contains("not a console ring"), "{message}");
    let mut machine = lab.machine(&good(), 16);
    machine.nics = vec![vmm::protocol::Nic {
        tap: lab.file("no-tap", b""),
        mac: [2, 0, 0, 0, 0, 1],
        mtu: 1500,
    }];
    match lab.launch(machine).await {
        Err(LaunchError::Start(StartError::Device { device, .. })) => {
            assert_eq!(device, "network interface 0")
        }
        other => panic!("{:?}", other.map(|launched| launched.process.kill())),
    }
}

#[tokio::test]
async fn a_socket_path_that_is_too_long() {
    let lab = Lab::new();
    let error = lab
        .launch_at(lab.socket().join("x".repeat(120)), lab.machine(&good(), 16))
        .await;
    assert!(
        matches!(error, Err(LaunchError::Prepare { .. })),
        "{:?}",
        error.map(|launched| launched.process.kill())
    );
}

#[test]
fn a_device_that_is_missing_or_forbidden() {
    let lab = Lab::new();
    let open = |path: &std::path::Path| {
        hypervisor::Kvm::open(path)
            .err()
            .expect("no KVM there")
            .to_string()
    };
    let missing = open(&lab.socket());
    assert!(
        missing.contains("no such device; is the kvm module loaded"),
        "{missing}"
    );
    let other = open(std::path::Path::new("/dev/null"));
    assert!(other.contains("not KVM"), "{other}");
}
