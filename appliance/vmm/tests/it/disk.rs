//! Disks as a real guest uses them: the probe (built by `cargo xtask`) on a file.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use vmm::launch::Launched;
use vmm::protocol::{Boot, DeviceStatus, Disk, MachineConfig};

use crate::lab::{KillOnDrop, Lab, MIB, within};

const PROBE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/ashlar/probe");

/// A machine that runs the probe with `script` and one disk of `mib` MiB; also gives the disk's file.
fn machine(lab: &Lab, script: &str, mib: u64) -> (MachineConfig<std::os::fd::OwnedFd>, File) {
    let probe = std::fs::read(Path::new(PROBE)).expect("the probe, which `cargo xtask` builds");
    let mut machine = lab.machine(&probe, 64);
    if let Boot::Pvh(kernel) = &mut machine.boot {
        kernel.cmdline = format!("probe=\"{script}\"");
    }
    let disk = tempfile::NamedTempFile::new().expect("a file");
    disk.as_file().set_len(mib * MIB).expect("its size");
    let observer = disk.reopen().expect("the file");
    machine.disks = vec![Disk {
        file: disk.into_file().into(),
        read_only: false,
        serial: "disk-under-test".into(),
    }];
    (machine, observer)
}

struct Counts {
    requests: u64,
    failures: u64,
    engine: String,
}

async fn counts(launched: &Launched) -> Counts {
    let status = launched.client.status().await.expect("a status");
    match status.devices.into_iter().next() {
        Some(DeviceStatus::Disk {
            requests,
            failures,
            engine,
            ..
        }) => Counts {
            requests,
            failures,
            engine,
        },
        other => panic!("{other:?} is no disk"),
    }
}

#[tokio::test]
async fn a_guest_reads_back_what_it_wrote_and_gives_space_back() {
    let lab = Lab::new();
    let script = "disks; disk write 0 seed=7 len=8M block=128K depth=16; disk flush 0; disk verify 0 seed=7 len=8M depth=16; \
                  say written; shell";
    let (machine, file) = machine(&lab, script, 16);
    let launched = lab.launch(machine).await.expect("it starts");
    let _guard = KillOnDrop(&launched.process);
    lab.await_output("say text=\"written\"").await;
    let output = lab.output();
    assert!(
        output.contains("result=same") && !output.contains("probe: error"),
        "{output}"
    );
    let held = file.metadata().expect("metadata").blocks();
    assert!(held * 512 >= 8 * MIB, "the bytes are in the file");
    let command = "disk discard 0 len=4M; disk zero 0 start=8192 len=1M unmap=yes; disk verify 0 start=8192 len=1M seed=zero; \
                   disk verify 0 start=10240 len=3M seed=7; say over\n";
    for line in command.split_inclusive([';', '\n']) {
        let line = format!("{}\n", line.trim_end_matches([';', '\n']));
        launched
            .client
            .type_in(line.as_bytes())
            .await
            .expect("typed");
    }
    lab.await_output("say text=\"over\"").await;
    let output = lab.output();
    assert!(!output.contains("probe: error"), "{output}");
    assert!(
        file.metadata().expect("metadata").blocks() < held,
        "space was given back"
    );
    let counts = counts(&launched).await;
    assert_eq!((counts.engine.as_str(), counts.failures), ("io_uring", 0));
    assert!(counts.requests > 64);
}

#[tokio::test]
async fn a_truncated_disk_gives_the_guest_errors_and_nothing_else_breaks() {
    let lab = Lab::new();
    let (machine, file) = machine(&lab, "say up; shell", 16);
    let launched = lab.launch(machine).await.expect("it starts");
    let _guard = KillOnDrop(&launched.process);
    lab.await_output("say text=\"up\"").await;
    file.set_len(MIB).expect("truncated");
    let lines = b"disk verify 0 seed=zero start=16384 len=1M\nsay after\n";
    launched.client.type_in(lines).await.expect("typed");
    lab.await_output("say text=\"after\"").await;
    let output = lab.output();
    assert!(output.contains("probe: error"), "{output}");
    assert!(counts(&launched).await.failures > 0);
}

#[tokio::test]
async fn a_machine_ends_with_requests_on_their_way() {
    let lab = Lab::new();
    let bench = "disk bench 0 mode=randwrite depth=32 time=20s count=1G";
    let (machine, _file) = machine(&lab, &format!("say up; {bench}"), 64);
    let mut launched = lab.launch(machine).await.expect("it starts");
    let _guard = KillOnDrop(&launched.process);
    lab.await_output("say text=\"up\"").await;
    within(async {
        while counts(&launched).await.requests < 100 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    launched.client.shut_down().await.expect("shut down");
    while within(launched.events.next()).await.is_some() {}
    let exit = within(vmm::launch::wait(&launched.process))
        .await
        .expect("it ends");
    assert!(!matches!(exit, jail::Exit::Signal(_)), "{exit:?}");
}
