//! Volumes that are entries in a map.

use super::World;
use control::{
    model::{DiskCategory, ImagePartKind},
    ports::{
        OpenDisk, PartWriter, PortError, PortErrorKind, PortResult, PresentVolumes, Space,
        StoredPart, Volumes,
    },
};
use std::{
    fs::File,
    io::{Seek, Write},
};
use types::{ByteCount, DiskId, ImageId, Sha256Digest};

struct Writer {
    world: World,
    key: (ImageId, &'static str),
    content: Vec<u8>,
}

impl PartWriter for Writer {
    fn write(&mut self, data: &[u8]) -> PortResult<()> {
        drop(self.world.call("write_part")?);
        self.content.extend(data);
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> PortResult<StoredPart> {
        let content = std::mem::take(&mut self.content);
        let stored = StoredPart {
            size: ByteCount::new(content.len() as u64),
            sha256: Sha256Digest::of(&content),
        };
        let key = self.key;
        self.world.call("finish_part")?.parts.insert(key, content);
        Ok(stored)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.world.things().unfinished -= 1;
    }
}

fn vanished(what: String) -> PortError {
    PortError::new(PortErrorKind::NotFound, format!("{what} has vanished"))
}

impl Volumes for World {
    fn receive_part(&self, image: ImageId, part: ImagePartKind) -> PortResult<Box<dyn PartWriter>> {
        self.call("receive_part")?.unfinished += 1;
        Ok(Box::new(Writer {
            world: self.clone(),
            key: (image, part.name()),
            content: Vec::new(),
        }))
    }

    fn open_part(&self, image: ImageId, part: ImagePartKind) -> PortResult<File> {
        let things = self.call("open_part")?;
        let content = things.parts.get(&(image, part.name()));
        let content =
            content.ok_or_else(|| vanished(format!("the {} of image {image}", part.name())))?;
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file.rewind().unwrap();
        Ok(file)
    }

    fn delete_image(&self, image: ImageId) -> PortResult<()> {
        self.call("delete_image")?
            .parts
            .retain(|(id, _), _| *id != image);
        Ok(())
    }

    fn clone_disk(&self, disk: DiskId, image: ImageId, size: ByteCount) -> PortResult<()> {
        let mut things = self.call("clone_disk")?;
        assert!(things.parts.contains_key(&(image, "disk")));
        things.disks.insert(disk, size);
        Ok(())
    }

    fn create_disk(&self, disk: DiskId, size: ByteCount, category: DiskCategory) -> PortResult<()> {
        let mut things = self.call("create_disk")?;
        things.disks.entry(disk).or_insert(size);
        if category.is_local() {
            things.local_disks.insert(disk);
        }
        Ok(())
    }

    fn sync_disk(&self, disk: DiskId, _: DiskCategory) -> PortResult<()> {
        let there = self.call("sync_disk")?.disks.contains_key(&disk);
        there
            .then_some(())
            .ok_or_else(|| vanished(format!("disk {disk}")))
    }

    fn open_disk(&self, disk: DiskId, category: DiskCategory) -> PortResult<OpenDisk> {
        let is_local = self.things().local_disks.contains(&disk);
        assert_eq!(is_local, category.is_local());
        let size = self.call("open_disk")?.disks.get(&disk).copied();
        let size = size.ok_or_else(|| vanished(format!("disk {disk}")))?;
        Ok(OpenDisk {
            file: tempfile::tempfile().unwrap(),
            size,
            direct: false,
        })
    }

    fn delete_disk(&self, disk: DiskId, _: DiskCategory) -> PortResult<()> {
        let mut things = self.call("delete_disk")?;
        things.disks.remove(&disk);
        things.local_disks.remove(&disk);
        Ok(())
    }

    fn list(&self) -> PortResult<PresentVolumes> {
        let things = self.call("list_volumes")?;
        let mut images: Vec<ImageId> = things.parts.keys().map(|(image, _)| *image).collect();
        images.dedup();
        Ok(PresentVolumes {
            disks: things
                .disks
                .keys()
                .map(|disk| match things.local_disks.contains(disk) {
                    true => (*disk, DiskCategory::LocalSsdPro),
                    false => (*disk, DiskCategory::CloudEssd),
                })
                .collect(),
            images,
        })
    }

    fn space(&self) -> PortResult<Space> {
        drop(self.call("space")?);
        Ok(Space {
            total: ByteCount::from_gib(100),
            free: ByteCount::from_gib(50),
        })
    }
}
