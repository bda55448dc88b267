//! What belongs to nobody, and what was begun and not ended.
//!
//! Records are written before what they describe is made, and erased after it is gone. So whatever is found on the host first
//! and in the store then not, is an orphan.

use crate::{
    Result,
    core::{Core, Transaction, blocking},
    model::{Disk, DiskState, Image, ImageState, Instance, NetworkInterface, Vpc},
    reconcile::{Disks, Instances, Networks},
    records::TokenRecord,
    tokens::TOKEN_LIFETIME,
    use_cases::{images, meters},
};
use std::{collections::BTreeSet, sync::Arc};
use tokio::time::{MissedTickBehavior, interval};
use types::{DiskId, ImageId, InterfaceId, VpcId};

pub(crate) struct Sweeper {
    core: Arc<Core>,
    networks: Arc<Networks>,
    instances: Arc<Instances>,
    disks: Disks,
}

impl Sweeper {
    pub(crate) fn new(
        core: Arc<Core>,
        networks: Arc<Networks>,
        instances: Arc<Instances>,
        disks: Disks,
    ) -> Self {
        Self {
            core,
            networks,
            instances,
            disks,
        }
    }

    /// Sweeps now and on a timer.
    pub(crate) async fn run(self) {
        let mut ticks = interval(self.core.settings.reconcile_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            for (what, swept) in [
                ("files", self.sweep_files().await),
                ("records of disks and images", self.sweep_records().await),
                ("the use of images", self.meter_images().await),
                ("what a policy has metered", self.make_up_meters().await),
                ("networks", self.sweep_networks().await),
                ("client tokens", self.sweep_tokens().await),
            ] {
                if let Err(error) = swept {
                    tracing::warn!("{what} could not be swept: {error}");
                }
            }
            self.networks.apply_all().await;
            // Every instance has an actor, but for one whose actor ended when its release was all but done.
            if let Ok(instances) = self.core.list::<Instance>() {
                for instance in instances
                    .iter()
                    .filter(|instance| !self.instances.knows(instance.id))
                {
                    self.instances.look_after(instance.id);
                }
            }
        }
    }

    async fn sweep_files(&self) -> Result<()> {
        let volumes = self.core.ports.volumes.clone();
        let present = blocking(move || volumes.list()).await??;
        let disks: BTreeSet<DiskId> = self
            .core
            .list::<Disk>()?
            .iter()
            .map(|disk| disk.id)
            .collect();
        let images: BTreeSet<ImageId> = self
            .core
            .list::<Image>()?
            .iter()
            .map(|image| image.id)
            .collect();
        let volumes = self.core.ports.volumes.clone();
        let swept = blocking(move || {
            for disk in present
                .disks
                .into_iter()
                .filter(|(disk, _)| !disks.contains(disk))
            {
                let (disk, category) = disk;
                tracing::warn!(%disk, "deleting a disk without a record");
                volumes.delete_disk(disk, category)?;
            }
            for image in present
                .images
                .into_iter()
                .filter(|image| !images.contains(image))
            {
                tracing::warn!(%image, "deleting an image without a record");
                volumes.delete_image(image)?;
            }
            Ok(())
        });
        swept
            .await?
            .map_err(|error: crate::ports::PortError| error.into())
    }

    async fn sweep_records(&self) -> Result<()> {
        for disk in self.core.list::<Disk>()? {
            match (disk.state, disk.instance) {
                // One that no request of this daemon makes was left by another daemon, whatever the clock said then.
                (DiskState::Creating, None) if !self.disks.makes(disk.id) => {
                    self.disks.finish(disk).await?;
                }
                (DiskState::Deleting, _) => self.disks.remove(disk.id, disk.category).await?,
                _ => {}
            }
        }
        for image in self
            .core
            .list::<Image>()?
            .into_iter()
            .filter(|image| image.state == ImageState::Deleting)
        {
            let (volumes, id) = (self.core.ports.volumes.clone(), image.id);
            blocking(move || volumes.delete_image(id)).await??;
            let erase = move |transaction: &mut Transaction<'_>| images::erase(transaction, id);
            self.core.write(erase).await?;
        }
        Ok(())
    }

    /// Images from before what they take was metered are metered from now on.
    async fn meter_images(&self) -> Result<()> {
        let mut images = self.core.list::<Image>()?;
        {
            let books = self.core.books();
            let metered = |image: &Image| books.counts(&meters::image_key(image));
            images.retain(|image| image.state == ImageState::Available && !metered(image));
        }
        if images.is_empty() {
            return Ok(());
        }
        let open = move |transaction: &mut Transaction<'_>| {
            for Image { id, .. } in images {
                if let Some(image) = transaction.get::<Image>(&id)?
                    && image.state == ImageState::Available
                {
                    transaction.open_usage(meters::image_usage(&image));
                }
            }
            Ok(())
        };
        self.core.write(open).await
    }

    async fn make_up_meters(&self) -> Result<()> {
        let core = self.core.clone();
        blocking(move || meters::make_up(&core)).await?
    }

    async fn sweep_networks(&self) -> Result<()> {
        let networks = &self.core.ports.networks;
        let present = networks.list().await?;
        let vpcs: BTreeSet<VpcId> = self.core.list::<Vpc>()?.iter().map(|vpc| vpc.id).collect();
        let interfaces: BTreeSet<InterfaceId> = self
            .core
            .list::<NetworkInterface>()?
            .iter()
            .map(|interface| interface.id)
            .collect();
        for vpc in present {
            if !vpcs.contains(&vpc.id) {
                tracing::warn!(vpc = %vpc.id, "removing a network without a record");
                networks.remove_vpc(vpc.id).await?;
                continue;
            }
            for interface in vpc.interfaces {
                if !interfaces.contains(&interface) && !self.networks.has(vpc.id, interface) {
                    tracing::warn!(%interface, "removing an interface without a record");
                    networks.remove_interface(vpc.id, interface).await?;
                }
            }
        }
        Ok(())
    }

    async fn sweep_tokens(&self) -> Result<()> {
        let now = self.core.now();
        let mut old = self.core.list::<TokenRecord>()?;
        old.retain(|record| now.saturating_since(record.at) >= TOKEN_LIFETIME);
        if old.is_empty() {
            return Ok(());
        }
        let forget = move |transaction: &mut Transaction<'_>| {
            for record in old {
                transaction.delete::<TokenRecord>(&record.key)?;
            }
            Ok(())
        };
        self.core.write(forget).await
    }
}
