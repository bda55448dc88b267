//! Images.

use crate::{
    Control, ControlError, ErrorKind, Result,
    boot_image::{self, Kernel},
    commands::CreateImage,
    core::{Transaction, blocking, check_room, lock, sentence},
    model::{EventSubject, Image, ImagePart, ImagePartKind, ImageState, Instance},
    ports::{PartWriter, PortError, StoredPart, Volumes},
    tokens::Ticket,
    use_cases::{check_names, meters, networks::first_of, oldest_first},
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use instance::admission::{MAX_DISK_SIZE, join_cmdline};
use std::{error::Error as _, io, sync::Arc};
use tokio::sync::mpsc;
use types::{ByteCount, ImageId};

const MAX_IMAGES: u32 = 1000;
/// Chunks that may wait for the disk.
const CHUNKS_IN_FLIGHT: usize = 4;

/// The largest part of a kind that is received.
const fn max_size(part: ImagePartKind) -> ByteCount {
    match part {
        ImagePartKind::Kernel => ByteCount::from_mib(512),
        ImagePartKind::Initrd => ByteCount::from_gib(2),
        ImagePartKind::Disk => MAX_DISK_SIZE,
    }
}

enum Chunk {
    Data(Bytes),
    End,
}

impl Control {
    /// Begins an image: it is `Creating` until its parts are there and it is completed.
    pub async fn create_image(&self, command: CreateImage) -> Result<Image> {
        check_names(Some(&command.name), command.description.as_deref())?;
        let cmdline = join_cmdline(&command.cmdline, "")?;
        let ticket = Ticket::new("CreateImage", &command.request, &command)?;
        let create = move |transaction: &mut Transaction<'_>| {
            if let Some(ids) = ticket.former::<ImageId>(transaction)? {
                return first_of(transaction, &ids, "ImageId", "image");
            }
            check_room("images", transaction.list::<Image>()?.len(), 1, MAX_IMAGES)?;
            ticket.end_dry_run()?;
            let image = Image {
                id: ImageId::generate(transaction.random()),
                name: command.name,
                description: command.description,
                state: ImageState::Creating,
                message: None,
                boot: None,
                kernel: None,
                initrd: None,
                disk: None,
                min_memory: ByteCount::ZERO,
                cmdline,
                created_at: transaction.core().now(),
            };
            transaction.put(&image)?;
            ticket.answered(transaction, &[image.id])?;
            let message = format!("image {} ({}) begun", image.id, image.name);
            transaction.event(EventSubject::Image(image.id, Some(image.state)), message);
            Ok(image)
        };
        self.core().write(create).await
    }

    /// Receives a part, in place of one of that kind that came before. When the stream ends with an error, nothing of
    /// it is kept.
    pub async fn upload_image_part<S>(
        &self,
        id: ImageId,
        part: ImagePartKind,
        mut content: S,
    ) -> Result<ImagePart>
    where
        S: Stream<Item = io::Result<Bytes>> + Send + Unpin,
    {
        takes_parts(self.core().get::<Image>(&id)?, id)?;
        let _upload = self.begin_upload(id)?;
        let (sender, receiver) = mpsc::channel(CHUNKS_IN_FLIGHT);
        let volumes = self.core().ports.volumes.clone();
        let writing = tokio::task::spawn_blocking(move || receive(&*volumes, id, part, receiver));
        let mut size = ByteCount::ZERO;
        let failed = loop {
            match content.next().await {
                Some(Ok(data)) => {
                    size = size + ByteCount::new(u64::try_from(data.len()).unwrap_or(u64::MAX));
                    if size > max_size(part) {
                        let message =
                            format!("The {} is larger than {}.", part.name(), max_size(part));
                        break Some(ControlError::invalid(part.name(), message));
                    }
                    // A writer that failed has hung up and says why below.
                    if sender.send(Chunk::Data(data)).await.is_err() {
                        break None;
                    }
                }
                Some(Err(error)) => {
                    let message =
                        format!("The {} of image {id} broke off after {size}.", part.name());
                    break Some(ControlError::invalid(part.name(), message).with_source(error));
                }
                None => {
                    let _ = sender.send(Chunk::End).await;
                    break None;
                }
            }
        };
        drop(sender);
        let written = writing
            .await
            .map_err(|error| ControlError::internal("An operation broke off.", error))?;
        if let Some(error) = failed {
            return Err(error);
        }
        let StoredPart { size, sha256 } = written?.ok_or_else(|| {
            ControlError::new(
                ErrorKind::Internal,
                "InternalError",
                format!("The {} was not received.", part.name()),
            )
        })?;
        let stored = ImagePart { size, sha256 };
        let keep = move |transaction: &mut Transaction<'_>| {
            let mut image = takes_parts(transaction.get::<Image>(&id)?, id)?;
            match part {
                ImagePartKind::Kernel => image.kernel = Some(stored),
                ImagePartKind::Initrd => image.initrd = Some(stored),
                ImagePartKind::Disk => image.disk = Some(stored),
            }
            image.state = ImageState::Creating;
            image.message = None;
            transaction.put(&image)
        };
        self.core().write(keep).await?;
        Ok(stored)
    }

    /// Looks at the parts, finds out how to boot them and makes the image `Available`. Parts that make no image
    /// are an error that says what is wrong with them; the image is then `CreateFailed` and takes other parts.
    pub async fn complete_image(&self, id: ImageId) -> Result<Image> {
        let image = self.image(id).await?;
        if image.state == ImageState::Available {
            return Ok(image);
        }
        takes_parts(Some(image.clone()), id)?;
        let _upload = self.begin_upload(id)?;
        let volumes = self.core().ports.volumes.clone();
        let looked_at = image.clone();
        let found = blocking(move || judge(&*volumes, &looked_at)).await?;
        let refusal = found.as_ref().err().cloned();
        let note = move |transaction: &mut Transaction<'_>| {
            let mut image = takes_parts(transaction.get::<Image>(&id)?, id)?;
            match found {
                Ok((kernel, min_memory)) => {
                    image.state = ImageState::Available;
                    image.boot = Some(kernel.boot);
                    image.min_memory = min_memory;
                    image.message = None;
                }
                Err(error) => {
                    image.state = ImageState::CreateFailed;
                    image.message = Some(error.message().to_owned());
                }
            }
            transaction.put(&image)?;
            if image.state == ImageState::Available {
                transaction.open_usage(meters::image_usage(&image));
            }
            let message = match &image.message {
                Some(message) => format!("image {id} cannot be completed: {message}"),
                None => format!("image {id} is available"),
            };
            transaction.event(EventSubject::Image(id, Some(image.state)), message);
            Ok(image)
        };
        let image = self.core().write(note).await?;
        refusal.map_or(Ok(image), Err)
    }

    /// The image of that id (`InvalidImageId.NotFound`).
    pub async fn image(&self, id: ImageId) -> Result<Image> {
        self.core().get(&id)?.ok_or_else(|| unknown(id))
    }

    /// All images, oldest first (ECS DescribeImages).
    pub async fn images(&self) -> Result<Vec<Image>> {
        let mut images = self.core().list::<Image>()?;
        oldest_first(&mut images, |image| (image.created_at, image.id));
        Ok(images)
    }

    /// Deletes an image. Disks made from it stay; one that an instance boots from is refused.
    pub async fn delete_image(&self, id: ImageId) -> Result<()> {
        let begin = move |transaction: &mut Transaction<'_>| {
            let mut image = transaction.get::<Image>(&id)?.ok_or_else(|| unknown(id))?;
            if let Some(user) = transaction
                .all::<Instance>()
                .values()
                .find(|instance| instance.image == id)
            {
                let message = format!(
                    "The image {id} cannot be deleted: instance {} boots from it.",
                    user.id
                );
                return Err(ControlError::new(
                    ErrorKind::Denied,
                    "InvalidOperation.ImageInUse",
                    message,
                )
                .with_next_step(format!("Release instance {} first.", user.id)));
            }
            image.state = ImageState::Deleting;
            transaction.put(&image)
        };
        let core = self.core();
        core.write(begin).await?;
        let volumes = core.ports.volumes.clone();
        blocking(move || volumes.delete_image(id)).await??;
        core.write(move |transaction| erase(transaction, id)).await
    }

    /// One upload or completion of an image at a time, so that a digest is always the file's.
    fn begin_upload(&self, id: ImageId) -> Result<Upload> {
        if !lock(&self.inner.uploads).insert(id) {
            let message = format!("Image {id} is just being worked on by another request.");
            return Err(
                ControlError::new(ErrorKind::Conflict, "IncorrectImageStatus", message)
                    .with_next_step("Send parts one after the other."),
            );
        }
        Ok(Upload {
            control: self.clone(),
            id,
        })
    }
}

struct Upload {
    control: Control,
    id: ImageId,
}

impl Drop for Upload {
    fn drop(&mut self) {
        lock(&self.control.inner.uploads).remove(&self.id);
    }
}

/// Erases the record of an image whose files are gone; its use ends.
pub(crate) fn erase(transaction: &mut Transaction<'_>, id: ImageId) -> Result<()> {
    let Some(image) = transaction.get::<Image>(&id)? else {
        return Ok(());
    };
    transaction.delete::<Image>(&id)?;
    transaction.close_usage(meters::image_key(&image));
    meters::end_all(transaction, &id.to_string())?;
    transaction.event(EventSubject::Image(id, None), format!("image {id} deleted"));
    Ok(())
}

fn unknown(id: ImageId) -> ControlError {
    ControlError::not_found("ImageId", "image", &id)
}

fn takes_parts(image: Option<Image>, id: ImageId) -> Result<Image> {
    let image = image.ok_or_else(|| unknown(id))?;
    match image.state {
        ImageState::Creating | ImageState::CreateFailed => Ok(image),
        ImageState::Available | ImageState::Deleting => {
            let message = format!(
                "The image {id} is {:?} and does not change any more.",
                image.state
            );
            Err(
                ControlError::new(ErrorKind::IncorrectState, "IncorrectImageStatus", message)
                    .with_next_step("Make a new image."),
            )
        }
    }
}

/// Writes what comes; `None` when it broke off, and then nothing is kept.
fn receive(
    volumes: &dyn Volumes,
    id: ImageId,
    part: ImagePartKind,
    mut chunks: mpsc::Receiver<Chunk>,
) -> std::result::Result<Option<StoredPart>, PortError> {
    let mut writer: Box<dyn PartWriter> = volumes.receive_part(id, part)?;
    while let Some(chunk) = chunks.blocking_recv() {
        match chunk {
            Chunk::Data(data) => writer.write(&data)?,
            Chunk::End => return writer.finish().map(Some),
        }
    }
    Ok(None)
}

/// What the parts boot as, and the least memory for it.
fn judge(volumes: &dyn Volumes, image: &Image) -> Result<(Kernel, ByteCount)> {
    let wrong = |message: String| {
        ControlError::new(
            ErrorKind::InvalidInput,
            "InvalidImage.Malformed",
            sentence(&message),
        )
        .with_field("kernel")
        .with_next_step(
            "Send a kernel that is an x86-64 ELF with a PVH entry note, or a 64-bit Linux bzImage.",
        )
    };
    if image.kernel.is_none() {
        return Err(wrong(format!("image {} has no kernel", image.id)));
    }
    let file = volumes.open_part(image.id, ImagePartKind::Kernel)?;
    let kernel = boot_image::inspect(&file).map_err(|fault| {
        let cause = fault
            .source()
            .map(|cause| format!(": {cause}"))
            .unwrap_or_default();
        wrong(format!("image {}: {fault}{cause}", image.id))
    })?;
    let initrd = image.initrd.map_or(ByteCount::ZERO, |part| part.size);
    let least = kernel.end + initrd;
    let least = least
        .checked_next_multiple_of(ByteCount::MIB)
        .unwrap_or(least);
    Ok((kernel, least))
}

pub(crate) fn available(transaction: &Transaction<'_>, id: ImageId) -> Result<Arc<Image>> {
    let image = transaction.get::<Image>(&id)?.ok_or_else(|| unknown(id))?;
    if image.state != ImageState::Available {
        let message = format!(
            "The image {id} is {:?}; only an Available one boots.",
            image.state
        );
        return Err(
            ControlError::new(ErrorKind::IncorrectState, "IncorrectImageStatus", message)
                .with_field("image")
                .with_next_step("Send its parts and complete it."),
        );
    }
    Ok(Arc::new(image))
}
