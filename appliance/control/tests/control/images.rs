//! Images: received, judged, refused, deleted.

use crate::world::{World, image, kernel, run_one, upload};
use bytes::Bytes;
use control::{
    Control, ErrorKind,
    commands::{CreateImage, RunInstances},
    model::{BootProtocol, Image, ImagePartKind, ImageState},
};
use futures_util::stream;
use std::io;
use types::{ByteCount, ImageId};

async fn begin(control: &Control) -> Image {
    control
        .create_image(CreateImage {
            name: "image".into(),
            ..CreateImage::default()
        })
        .await
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn parts_make_an_image() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await;
    assert_eq!(
        (image.state, image.boot),
        (ImageState::Available, Some(BootProtocol::Pvh))
    );
    assert_eq!(image.min_memory, ByteCount::from_mib(2));
    assert_eq!(image.parts().count(), 2);
    assert_eq!(control.complete_image(image.id).await.unwrap(), image);
    // It does not change any more.
    let content = stream::iter([Ok(Bytes::from_static(b"x"))]);
    let error = control
        .upload_image_part(image.id, ImagePartKind::Kernel, content)
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::IncorrectState, "IncorrectImageStatus")
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_no_kernel_is_refused_with_a_reason_and_can_be_replaced() {
    let world = World::new();
    let control = world.start().await;
    let image = begin(&control).await;
    let error = control.complete_image(image.id).await.unwrap_err();
    assert!(error.message().contains("has no kernel"), "{error}");
    for (content, part) in [
        (&kernel()[..200], "cut off"),
        (b"#!/bin/sh\n", "neither an ELF nor a Linux bzImage"),
    ] {
        upload(&control, image.id, ImagePartKind::Kernel, content).await;
        let error = control.complete_image(image.id).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.code()),
            (ErrorKind::InvalidInput, "InvalidImage.Malformed")
        );
        assert!(
            error.message().contains(part) && error.message().contains(&image.id.to_string()),
            "{error}"
        );
        assert!(error.next_step().is_some_and(|step| step.contains("PVH")));
        let failed = control.image(image.id).await.unwrap();
        assert_eq!(failed.state, ImageState::CreateFailed);
        assert_eq!(failed.message.as_deref(), Some(error.message()));
        let refused = control
            .run_instances(crate::world::one(image.id))
            .await
            .unwrap_err();
        assert_eq!(refused.code(), "IncorrectImageStatus");
    }
    upload(&control, image.id, ImagePartKind::Kernel, &kernel()).await;
    assert_eq!(
        control.complete_image(image.id).await.unwrap().message,
        None
    );
}

#[tokio::test(start_paused = true)]
async fn an_image_larger_than_the_memory_is_refused() {
    let world = World::new();
    let control = world.start().await;
    let image = begin(&control).await;
    upload(&control, image.id, ImagePartKind::Kernel, &kernel()).await;
    upload(
        &control,
        image.id,
        ImagePartKind::Initrd,
        &vec![1; 20 << 20],
    )
    .await;
    let image = control.complete_image(image.id).await.unwrap();
    assert_eq!(image.min_memory, ByteCount::from_mib(22));
    let run = |mib| RunInstances {
        memory: Some(ByteCount::from_mib(mib)),
        ..crate::world::one(image.id)
    };
    let error = control.run_instances(run(21)).await.unwrap_err();
    assert_eq!(
        (error.code(), error.field()),
        ("InvalidParameter", Some("memory"))
    );
    assert!(error.message().contains("needs at least 22 MiB"), "{error}");
    control.run_instances(run(22)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_breaks_off_leaves_nothing() {
    let world = World::new();
    let control = world.start().await;
    let image = begin(&control).await;
    let broken = || {
        stream::iter([
            Ok(Bytes::from_static(b"half")),
            Err(io::Error::other("connection reset")),
        ])
    };
    let error = control
        .upload_image_part(image.id, ImagePartKind::Kernel, broken())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(
        error.message().contains("broke off after 4 bytes"),
        "{error}"
    );
    for call in ["receive_part", "write_part", "finish_part"] {
        world.fail(call, 1);
        let whole = stream::iter([Ok(Bytes::from_static(b"whole"))]);
        let error = control
            .upload_image_part(image.id, ImagePartKind::Kernel, whole)
            .await
            .unwrap_err();
        assert!(
            error
                .message()
                .contains(&format!("{call} was made to fail")),
            "{error}"
        );
    }
    {
        let things = world.things();
        assert_eq!((things.unfinished, things.parts.len()), (0, 0));
    }
    assert_eq!(control.image(image.id).await.unwrap(), image);
    let unknown = ImageId::generate(99);
    let error = control
        .upload_image_part(unknown, ImagePartKind::Kernel, broken())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "InvalidImageId.NotFound");
}

// In real time: virtual time stands still while a thread waits for a chunk.
#[tokio::test]
async fn one_request_at_a_time_works_on_an_image() {
    let world = World::new();
    let control = world.start().await;
    let image = begin(&control).await;
    let (sender, receiver) = tokio::sync::mpsc::channel::<io::Result<Bytes>>(1);
    let content = Box::pin(stream::unfold(receiver, |mut receiver| async {
        let chunk = receiver.recv().await?;
        Some((chunk, receiver))
    }));
    let slow = tokio::spawn({
        let (control, id) = (control.clone(), image.id);
        async move {
            control
                .upload_image_part(id, ImagePartKind::Kernel, content)
                .await
        }
    });
    sender
        .send(Ok(Bytes::copy_from_slice(&kernel())))
        .await
        .unwrap();
    crate::world::until(|| async { world.things().unfinished == 1 }).await;
    let other = stream::iter([Ok(Bytes::from_static(b"x"))]);
    let error = control
        .upload_image_part(image.id, ImagePartKind::Kernel, other)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(
        control.complete_image(image.id).await.unwrap_err().kind(),
        ErrorKind::Conflict
    );
    drop(sender);
    slow.await.unwrap().unwrap();
    control.complete_image(image.id).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_image_in_use_stays() {
    let world = World::new();
    let control = world.start().await;
    let image = image(&control).await;
    let id = run_one(&control, image.id).await.id;
    let error = control.delete_image(image.id).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.message().contains(&id.to_string()), "{error}");
    control.delete_instance(id, true).await.unwrap();
    crate::world::gone(&control, id).await;
    control.delete_image(image.id).await.unwrap();
    assert_eq!(control.images().await.unwrap(), []);
    assert!(world.things().parts.is_empty());
    assert_eq!(
        control.delete_image(image.id).await.unwrap_err().code(),
        "InvalidImageId.NotFound"
    );
}
