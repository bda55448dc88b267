//! Images.

use crate::{
    Control, Result,
    commands::CreateImage,
    model::{Image, ImagePart, ImagePartKind},
    use_cases::unwired,
};
use bytes::Bytes;
use futures_util::Stream;
use std::io;
use types::ImageId;

impl Control {
    /// Begins an image: it is `Creating` until its parts are there and it is completed.
    pub async fn create_image(&self, _command: CreateImage) -> Result<Image> {
        unwired()
    }

    /// Receives a part, in place of one of that kind that came before. When the stream ends with an error, nothing of
    /// it is kept.
    pub async fn upload_image_part<S>(
        &self,
        _id: ImageId,
        _part: ImagePartKind,
        _content: S,
    ) -> Result<ImagePart>
    where
        S: Stream<Item = io::Result<Bytes>> + Send + Unpin,
    {
        unwired()
    }

    /// Looks at the parts, finds out how to boot them and makes the image `Available`. Parts that make no image
    /// are an error that says what is wrong with them; the image is then `CreateFailed` and takes other parts.
    pub async fn complete_image(&self, _id: ImageId) -> Result<Image> {
        unwired()
    }

    /// The image of that id (`InvalidImageId.NotFound`).
    pub async fn image(&self, _id: ImageId) -> Result<Image> {
        unwired()
    }

    /// All images, oldest first (ECS DescribeImages).
    pub async fn images(&self) -> Result<Vec<Image>> {
        unwired()
    }

    /// Deletes an image. Disks made from it stay; one that an instance boots from is refused.
    pub async fn delete_image(&self, _id: ImageId) -> Result<()> {
        unwired()
    }
}
