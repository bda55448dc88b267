//! The serial console in both directions.

use vmm::protocol::Event;

use crate::guest::{CODE, Guest};
use crate::lab::{KillOnDrop, Lab, within};

#[tokio::test]
async fn a_string_instruction_prints_every_byte() {
    let lab = Lab::new();
    let guest = Guest::new().print_memory(CODE, 64).power_off().spin();
    lab.run(lab.machine(&guest.elf(), 16)).await;
    let chunk = lab.console().read(0, usize::MAX).expect("readable");
    let image = guest.elf();
    let code = &image[0x200..];
    assert_eq!(&chunk.bytes[..code.len()], code);
    assert_eq!(chunk.bytes.len(), 64);
}

#[tokio::test]
async fn all_that_is_typed_arrives_in_order_whatever_the_room() {
    let lab = Lab::new();
    let guest = Guest::new().echo_until(b'\n').power_off().spin();
    let mut launched = lab
        .launch(lab.machine(&guest.elf(), 16))
        .await
        .expect("it starts");
    let _guard = KillOnDrop(&launched.process);
    let mut text: Vec<u8> = (0..9000_u32)
        .map(|index| b'a' + u8::try_from(index % 26).expect("small"))
        .collect();
    text.push(b'\n');
    let mut rest = text.as_slice();
    while !rest.is_empty() {
        let taken = launched.client.type_in(rest).await.expect("typed");
        rest = &rest[taken..];
    }
    while within(launched.events.next()).await.is_some() {}
    assert_eq!(lab.output().as_bytes(), text);
}

#[tokio::test]
async fn input_beyond_the_room_is_not_taken() {
    let lab = Lab::new();
    let launched = lab
        .launch(lab.machine(&Guest::new().spin().elf(), 16))
        .await
        .expect("it starts");
    let _guard = KillOnDrop(&launched.process);
    let mut taken = 0;
    // 64 KiB wait, and the UART holds a few bytes more.
    for _ in 0..64 {
        taken += launched
            .client
            .type_in(&[b'x'; 4096])
            .await
            .expect("answered");
    }
    assert!((65_536..65_536 + 256).contains(&taken), "{taken}");
}

#[tokio::test]
async fn a_subscriber_learns_of_all_output_by_few_events() {
    let lab = Lab::new();
    let guest = Guest::new()
        .echo_until(b'.')
        .print_memory(CODE, 100_000)
        .power_off()
        .spin();
    let mut launched = lab
        .launch(lab.machine(&guest.elf(), 16))
        .await
        .expect("it starts");
    let _guard = KillOnDrop(&launched.process);
    launched.client.subscribe(true).await.expect("subscribed");
    launched.client.type_in(b".").await.expect("typed");
    let (mut totals, mut events) = (Vec::new(), 0);
    while let Some(event) = within(launched.events.next()).await {
        events += 1;
        if let Event::ConsoleOutput { total } = event {
            totals.push(total);
        }
    }
    assert!(totals.is_sorted() && !totals.is_empty(), "{totals:?}");
    assert!(events < 1000, "{events} events");
    assert_eq!(lab.console().total().expect("readable"), 100_001);
}
