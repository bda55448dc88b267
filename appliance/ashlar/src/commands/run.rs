//! `ashlar run`.

use api_types::{
    Affinity, DiskCategory, Image, InstanceState, InstancesCreated, NewDataDisk, NewSystemDisk,
    Period, RunInstances, Vswitch,
};
use clap::Args;

use super::{charge::Paying, instances};
use crate::{
    cli::{Admission, Patience},
    client::{Client, Error, Query},
    output::Output,
    period, size,
    wait::{Wanted, Watch},
};

/// What an instance gets when neither a type nor a number is named.
const DEFAULT_VCPUS: u32 = 1;
const DEFAULT_MEMORY_MIB: u64 = 512;

const EXAMPLES: &str = "\
Examples:
  ashlar run probe --wait                                    the image named probe, with 1 vCPU and 512M
  ashlar run m-0123456789abcdefg --vcpus 2 --memory 2G       an image by its id
  ashlar run debian --type ecs.g6.large --disk 20G --disk 100G --name web
  ashlar run debian --type ecs.i2.xlarge                     with the local disk that the type brings
  ashlar run probe --count 3 --vswitch vsw-… --security-group sg-… -q
  ashlar run debian --type ecs.g6.large --period 1-month --auto-renew 1-month
  ashlar run probe --type ecs.g6.large --preemptible --price-limit 0.12
  ashlar run debian --deployment-set ds-…                    apart from its other members, or near them
  ashlar run probe --with i-… --apart-from i-…               beside one instance, away from another
  ashlar run probe --dry-run                                 would it work?";

/// Run new instances of an image.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Run {
    /// The image: its id, or its name if only one has that name
    image: String,
    /// A name for people
    #[arg(long)]
    name: Option<String>,
    /// For people: what it is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Instance type, such as ecs.g6.large; sets vCPUs and memory
    #[arg(long = "type", value_name = "TYPE")]
    instance_type: Option<String>,
    /// Virtual CPUs [default: those of --type, else 1]
    #[arg(long, value_name = "N")]
    vcpus: Option<u32>,
    /// Memory: 512M, 2G; a bare number is MiB [default: that of --type, else 512M]
    #[arg(long, short, value_name = "SIZE", value_parser = size::memory_mib)]
    memory: Option<u64>,
    /// A data disk: 20G for a new one, or the id of an Available one; may be repeated
    #[arg(long = "disk", value_name = "SIZE|ID", value_parser = data_disk)]
    disks: Vec<NewDataDisk>,
    /// A local disk, such as 100G, which lives and dies with the instance; may be repeated. Some types bring theirs
    #[arg(long = "local-disk", value_name = "SIZE", value_parser = size::disk_gib)]
    local_disks: Vec<u64>,
    /// Size of the system disk, if not the image's
    #[arg(long, value_name = "SIZE", value_parser = size::disk_gib)]
    system_disk: Option<u64>,
    /// The vswitch to be on
    #[arg(long, value_name = "ID", conflicts_with = "vpc")]
    vswitch: Option<String>,
    /// The VPC to be in, if it has only one vswitch
    #[arg(long, value_name = "ID")]
    vpc: Option<String>,
    /// A fixed address on the vswitch
    #[arg(long, value_name = "ADDRESS")]
    private_ip: Option<std::net::Ipv4Addr>,
    /// A security group to be in; may be repeated, up to 5
    #[arg(long = "security-group", visible_alias = "sg", value_name = "ID")]
    security_groups: Vec<String>,
    /// The zone to be in
    #[arg(long, value_name = "NAME")]
    zone: Option<String>,
    /// The deployment set to be in
    #[arg(long, value_name = "ID")]
    deployment_set: Option<String>,
    /// An instance to be on the same host as; may be repeated
    #[arg(long, value_name = "ID")]
    with: Vec<String>,
    /// An instance not to be on the same host as; may be repeated
    #[arg(long, value_name = "ID")]
    apart_from: Vec<String>,
    /// Added to the image's kernel command line
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    cmdline: Option<String>,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    count: u32,
    /// How many there must be at least for any to be made; default: all
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    min_count: Option<u32>,
    /// A label KEY=VALUE; may be repeated
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = super::tag)]
    tags: Vec<(String, String)>,
    #[command(flatten)]
    paying: Paying,
    /// Have a --period renewed by itself for that long each time, until that is taken back
    #[arg(long, value_name = "PERIOD", value_parser = period::parse, requires = "period")]
    auto_renew: Option<Period>,
    /// Leave them stopped
    #[arg(long, conflicts_with_all = ["wait", "wait_output"])]
    no_start: bool,
    /// Protect them from being deleted
    #[arg(long)]
    protect: bool,
    /// Wait until they run
    #[arg(long, short)]
    wait: bool,
    /// Wait until the guests wrote their first byte on their consoles
    #[arg(long)]
    wait_output: bool,
    #[command(flatten)]
    patience: Patience,
    #[command(flatten)]
    admission: Admission,
}

impl Run {
    /// Does it.
    pub async fn execute(self, client: &Client, output: &Output) -> Result<(), Error> {
        let wanted = if self.wait_output {
            Some(Wanted::FirstOutput)
        } else {
            self.wait.then_some(Wanted::State(InstanceState::Running))
        };
        let limit = self.patience.limit();
        let request = self.request(client).await?;
        let watch = match wanted {
            Some(_) => Some(Watch::open(client).await?),
            None => None,
        };
        let mut created: InstancesCreated = client.post("/v1/instances", &request).await?;
        if let (Some(wanted), Some(watch)) = (wanted, watch) {
            let ids: Vec<String> = created.instances.iter().map(|i| i.id.clone()).collect();
            created.instances = watch
                .until(&ids, wanted, limit)
                .await
                .inspect_err(|_| eprintln!("created: {}", ids.join(" ")))?;
        }
        output.list(
            &created,
            &created.instances,
            |instance| instance.id.clone(),
            instances::COLUMNS,
        )
    }

    async fn request(self, client: &Client) -> Result<RunInstances, Error> {
        let vswitch_id = match (self.vswitch, self.vpc) {
            (None, Some(vpc)) => Some(only_vswitch(client, &vpc).await?),
            (vswitch, _) => vswitch,
        };
        let affinity = Affinity {
            with: self.with,
            apart_from: self.apart_from,
        };
        let local_disks = self.local_disks.into_iter().map(|size_gib| NewDataDisk {
            size_gib: Some(size_gib),
            category: Some(DiskCategory::LocalSsdPro),
            ..NewDataDisk::default()
        });
        let (vcpus, memory_mib) = sizes(self.instance_type.as_deref(), self.vcpus, self.memory);
        Ok(RunInstances {
            image_id: image_id(client, &self.image).await?,
            instance_type: self.instance_type,
            vcpus,
            memory_mib,
            count: Some(self.count),
            min_count: self.min_count,
            name: self.name,
            description: self.description,
            vswitch_id,
            security_group_ids: self.security_groups,
            zone: self.zone,
            deployment_set_id: self.deployment_set,
            affinity: (affinity != Affinity::default()).then_some(affinity),
            private_ip: self.private_ip.map(|ip| ip.to_string()),
            cmdline: self.cmdline,
            system_disk: self.system_disk.map(|size_gib| NewSystemDisk {
                size_gib: Some(size_gib),
                delete_with_instance: None,
            }),
            data_disks: local_disks.chain(self.disks).collect(),
            start: Some(!self.no_start),
            charge: self.paying.charge(self.auto_renew),
            deletion_protection: self.protect,
            tags: self.tags.into_iter().collect(),
            client_token: self.admission.client_token,
            dry_run: self.admission.dry_run,
        })
    }
}

/// The virtual CPUs and the memory (MiB) to ask for: what is not given is left to the type, or else small.
pub fn sizes(
    instance_type: Option<&str>,
    vcpus: Option<u32>,
    memory_mib: Option<u64>,
) -> (Option<u32>, Option<u64>) {
    match instance_type {
        Some(_) => (vcpus, memory_mib),
        None => (
            vcpus.or(Some(DEFAULT_VCPUS)),
            memory_mib.or(Some(DEFAULT_MEMORY_MIB)),
        ),
    }
}

fn data_disk(text: &str) -> Result<NewDataDisk, String> {
    if text.starts_with("d-") {
        return Ok(NewDataDisk {
            disk_id: Some(text.into()),
            ..NewDataDisk::default()
        });
    }
    Ok(NewDataDisk {
        size_gib: Some(size::disk_gib(text)?),
        ..NewDataDisk::default()
    })
}

/// An image's id as it is; else the id of the one image of that name.
async fn image_id(client: &Client, image: &str) -> Result<String, Error> {
    if image.parse::<types::ImageId>().is_ok() {
        return Ok(image.into());
    }
    let images = client.list::<Image>("/v1/images").await?.items;
    let named: Vec<Image> = images.into_iter().filter(|i| i.name == image).collect();
    match named.as_slice() {
        [one] => Ok(one.id.clone()),
        [] => Err(Error::Failed(format!(
            "there is no image named `{image}`: see `ashlar images ls`, or bring one by `ashlar images import`"
        ))),
        several => Err(Error::Failed(format!(
            "{} images are named `{image}`: name one by its id: {}",
            several.len(),
            several
                .iter()
                .map(|i| &*i.id)
                .collect::<Vec<_>>()
                .join(", ")
        ))),
    }
}

async fn only_vswitch(client: &Client, vpc: &str) -> Result<String, Error> {
    let path = Query::of("/v1/vswitches").add("vpc_id", Some(vpc)).finish();
    let vswitches = client.list::<Vswitch>(&path).await?.items;
    match vswitches.as_slice() {
        [one] => Ok(one.id.clone()),
        [] => Err(Error::Failed(format!(
            "{vpc} has no vswitch: make one by `ashlar vswitches create --vpc {vpc} CIDR`"
        ))),
        several => Err(Error::Failed(format!(
            "{vpc} has {} vswitches: choose one with --vswitch: {}",
            several.len(),
            several
                .iter()
                .map(|v| &*v.id)
                .collect::<Vec<_>>()
                .join(", ")
        ))),
    }
}
