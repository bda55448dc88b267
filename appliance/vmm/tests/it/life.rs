//! Starts, ends, resets, and the daemon that comes and goes.

use vmm::launch::LaunchError;
use vmm::protocol::{Event, ExitReason, ResetCause};

use crate::guest::Guest;
use crate::lab::{DEADLINE, KillOnDrop, Lab, kvm, last_reason, within};

#[tokio::test]
async fn a_process_without_a_machine_ends_with_its_launcher_s_interest() {
    let prepared = Lab::new().prepare(kvm()).await.expect("a process");
    assert!(prepared.waits());
    let folder = std::path::PathBuf::from(format!("/proc/{}", prepared.pid().expect("a pid")));
    assert!(folder.exists());
    drop(prepared);
    assert!(!folder.exists(), "it is ended and reaped");
}

#[tokio::test]
async fn a_process_that_ended_before_its_machine_came_is_an_error() {
    let lab = Lab::new();
    let prepared = lab.prepare(kvm()).await.expect("a process");
    let process = jail::Process::adopt(prepared.pid().expect("a pid"), None);
    let process = process.expect("adoptable").expect("running");
    process.kill().expect("killed");
    assert!(process.wait(Some(DEADLINE)).expect("waited for").is_some());
    assert!(!prepared.waits());
    let machine = lab.machine(&Guest::new().spin().elf(), 16);
    let launched = vmm::launch(prepared, lab.spec(lab.socket(), machine)).await;
    assert!(
        matches!(launched, Err(LaunchError::Prepare { .. })),
        "{:?}",
        launched.map(|launched| launched.process.kill())
    );
}

#[tokio::test]
async fn a_guest_prints_and_powers_off() {
    let lab = Lab::new();
    let (events, exit) = lab
        .run(lab.machine(&Guest::new().print("hello\n").power_off().spin().elf(), 16))
        .await;
    assert_eq!(lab.output(), "hello\n");
    assert!(
        matches!(events[0], Event::FirstOutput { monotonic_ns: 1.. }),
        "{events:?}"
    );
    assert_eq!(last_reason(&events), &ExitReason::PoweredOff);
    assert_eq!(exit, jail::Exit::Code(0));
    assert_eq!(
        lab.console().exit_reason().expect("readable"),
        Some(ExitReason::PoweredOff)
    );
}

#[tokio::test]
async fn a_triple_fault_ends_the_machine_and_is_called_so() {
    let lab = Lab::new();
    let (events, exit) = lab
        .run(lab.machine(&Guest::new().triple_fault().elf(), 16))
        .await;
    assert_eq!(last_reason(&events), &ExitReason::TripleFault);
    assert_eq!(exit, jail::Exit::Code(11));
}

#[tokio::test]
async fn a_guest_kvm_cannot_run_is_reported_with_its_instruction_pointer() {
    let lab = Lab::new();
    let (events, exit) = lab
        .run(lab.machine(&Guest::new().jump_to_nowhere().elf(), 16))
        .await;
    match last_reason(&events) {
        ExitReason::GuestFailed { detail } => {
            assert!(detail.contains("rip 0xd0000000"), "{detail}")
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(exit, jail::Exit::Code(12));
}

#[tokio::test]
async fn a_reset_starts_the_guest_again_in_clear_memory() {
    for (port, value, expected) in [
        (0xCF9, 6, ResetCause::ResetRegister),
        (0x64, 0xFE, ResetCause::Keyboard),
    ] {
        let lab = Lab::new();
        const MARK: u32 = 0x50_0000;
        let guest = Guest::new()
            .print_if(MARK, 0x5A, 'X', 'o')
            .store(MARK, 0x5A)
            .out8(port, value)
            .spin();
        let mut launched = lab
            .launch(lab.machine(&guest.elf(), 16))
            .await
            .expect("it starts");
        let _guard = KillOnDrop(&launched.process);
        let mut resets = 0;
        while resets < 3 {
            match within(launched.events.next()).await.expect("it goes on") {
                Event::GuestReset { cause } => {
                    assert_eq!(cause, expected);
                    resets += 1;
                }
                event => assert!(matches!(event, Event::FirstOutput { .. }), "{event:?}"),
            }
        }
        launched.client.shut_down().await.expect("it shuts down");
        let output = lab.output();
        assert!(
            output.len() >= 3 && output.bytes().all(|byte| byte == b'o'),
            "{output}"
        );
    }
}

#[tokio::test]
async fn the_power_button_reaches_the_guest() {
    let lab = Lab::new();
    let guest = Guest::new()
        .print("ready")
        .await_power_button()
        .power_off()
        .spin();
    let mut launched = lab
        .launch(lab.machine(&guest.elf(), 16))
        .await
        .expect("it starts");
    let _guard = KillOnDrop(&launched.process);
    lab.await_output("ready").await;
    launched.client.press_power_button().await.expect("pressed");
    let mut events = Vec::new();
    while let Some(event) = within(launched.events.next()).await {
        events.push(event);
    }
    assert_eq!(last_reason(&events), &ExitReason::PoweredOff);
}

#[tokio::test]
async fn a_spinning_guest_is_shut_down_paused_and_resumed() {
    let lab = Lab::new();
    let mut machine = lab.machine(&Guest::new().print("up").spin().elf(), 16);
    machine.vcpus = 2;
    let mut launched = lab.launch(machine).await.expect("it starts");
    let _guard = KillOnDrop(&launched.process);
    lab.await_output("up").await;
    let client = &launched.client;
    client.pause().await.expect("paused");
    let status = client.status().await.expect("answers");
    assert_eq!(
        (
            status.paused,
            status.vcpus,
            status.memory_bytes,
            status.resets
        ),
        (true, 2, 16 << 20, 0)
    );
    assert_eq!(status.console_bytes, 2);
    let refusal = client
        .press_power_button()
        .await
        .expect_err("not while paused")
        .to_string();
    assert!(refusal.contains("resume it first"), "{refusal}");
    client.resume().await.expect("resumed");
    assert!(!client.status().await.expect("answers").paused);
    client.shut_down().await.expect("shut down");
    let mut events = Vec::new();
    while let Some(event) = within(launched.events.next()).await {
        events.push(event);
    }
    assert_eq!(last_reason(&events), &ExitReason::Shutdown);
    let exit = within(vmm::launch::wait(&launched.process))
        .await
        .expect("ends");
    assert_eq!(exit, jail::Exit::Code(10));
}

#[tokio::test]
async fn a_later_daemon_finds_the_machine_and_the_guest_does_not_notice() {
    let lab = Lab::new();
    let guest = Guest::new().print("up").echo_until(b'.').power_off().spin();
    let launched = lab
        .launch(lab.machine(&guest.elf(), 16))
        .await
        .expect("it starts");
    let process = launched.process;
    let _guard = KillOnDrop(&process);
    lab.await_output("up").await;
    let pid = process.pid();
    drop((launched.client, launched.events));
    for round in 0..10 {
        let mut adopted = within(vmm::adopt(&lab.socket(), None))
            .await
            .expect("it is found");
        assert_eq!(adopted.process.pid(), pid);
        assert_eq!(adopted.status.resets, 0);
        if round == 9 {
            adopted.client.type_in(b".").await.expect("typed");
            let mut events = Vec::new();
            while let Some(event) = within(adopted.events.next()).await {
                events.push(event);
            }
            assert_eq!(last_reason(&events), &ExitReason::PoweredOff);
        }
    }
    within(vmm::launch::wait(&process)).await.expect("ends");
    let error = vmm::adopt(&lab.socket(), None)
        .await
        .expect_err("it is gone");
    assert!(
        matches!(error, vmm::launch::AdoptError::Gone { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_killed_process_ends_its_events() {
    let lab = Lab::new();
    let mut launched = lab
        .launch(lab.machine(&Guest::new().spin().elf(), 16))
        .await
        .expect("it starts");
    launched.process.kill().expect("killed");
    while let Some(event) = within(launched.events.next()).await {
        assert!(!matches!(event, Event::Exited { .. }));
    }
    assert_eq!(
        within(vmm::launch::wait(&launched.process))
            .await
            .expect("ends"),
        jail::Exit::Signal(9)
    );
    assert!(launched.client.status().await.is_err());
    assert_eq!(lab.console().exit_reason().expect("readable"), None);
}

#[tokio::test]
async fn what_nobody_answers_reads_as_ones() {
    let lab = Lab::new();
    const AT: u32 = 0x50_0000;
    // A port and an address that belong to nothing, then the vendor of an absent PCI device and of the bridge.
    let guest = Guest::new()
        .raw(&[0x66, 0xBA, 0x34, 0x12, 0xEC])
        .save(AT)
        .print_if(AT, 0xFF, 'a', '!')
        .load(0xD000_0000)
        .save(AT)
        .print_if(AT + 3, 0xFF, 'b', '!')
        .load(0xE00F_8000)
        .save(AT)
        .print_if(AT, 0xFF, 'c', '!')
        .load(0xE000_0000)
        .save(AT)
        .print_if(AT, 0xF4, 'd', '!')
        .power_off()
        .spin();
    lab.run(lab.machine(&guest.elf(), 16)).await;
    assert_eq!(lab.output(), "abcd");
}

#[tokio::test]
async fn connections_are_bounded_and_strangers_are_closed() {
    use std::io::{Read, Write};
    let lab = Lab::new();
    let launched = lab
        .launch(lab.machine(&Guest::new().spin().elf(), 16))
        .await
        .expect("it starts");
    let _guard = KillOnDrop(&launched.process);
    let connect = || {
        let stream = std::os::unix::net::UnixStream::connect(lab.socket()).expect("it listens");
        stream
            .set_read_timeout(Some(crate::lab::DEADLINE))
            .expect("a deadline");
        stream
    };
    let ask = |stream: &mut std::os::unix::net::UnixStream| {
        let request = vmm::protocol::Request {
            id: 1,
            action: vmm::protocol::Action::Status,
        };
        let frame = vmm::protocol::encode(&request).expect("short");
        stream.write_all(&frame).is_ok() && stream.read(&mut [0; 64]).is_ok_and(|count| count > 0)
    };
    // Three beside the first; the next is turned away, and so is who sends nonsense, which makes room again.
    let mut others: Vec<_> = (0..3).map(|_| connect()).collect();
    assert!(others.iter_mut().all(ask));
    assert!(!ask(&mut connect()));
    others[0].write_all(&[0xFF; 64]).expect("sent");
    // What was left of the answer, then the end.
    assert!(others[0].read_to_end(&mut Vec::new()).is_ok());
    assert!(ask(&mut connect()));
    launched
        .client
        .status()
        .await
        .expect("the first is still served");
}
