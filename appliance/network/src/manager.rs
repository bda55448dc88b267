//! The one owner of the networks of a host.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, PoisonError};

use nft::{Change, Ruleset};
use tokio::sync::{Mutex, OwnedMappedMutexGuard, OwnedMutexGuard};
use tracing::warn;
use types::{InterfaceId, VpcId};

use crate::links::Links;
use crate::namespace::Namespace;
use crate::tap::{self, Opened};
use crate::{Error, InterfaceSpec, device_name, dhcp};

/// The table of the packet filter in every namespace.
const TABLE: &str = "ashlar";

/// Whether something was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// It was not there and is now.
    Made,
    /// It was there.
    Present,
}

/// What [`NetworkManager::ensure_interface`] found or made.
#[derive(Debug)]
pub enum InterfaceFound {
    /// A tap that belongs to the caller now: pass it to the vmm, then close it. It vanishes when nobody holds it.
    Made(OwnedFd),
    /// The tap is there and held by a process that lives (the interface's vmm).
    InUse,
}

/// A namespace with this manager's prefix, as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundVpc {
    /// The namespace's name.
    pub namespace: String,
    /// Its VPC, if the name is one this manager would give.
    pub vpc: Option<VpcId>,
    /// The taps in it that carry the id of an interface.
    pub interfaces: Vec<InterfaceId>,
    /// The other taps in it, by name.
    pub strangers: Vec<String>,
}

/// Makes, finds and removes the networks whose names begin with its prefix. Cheap to clone; calls for different VPCs do not
/// wait for each other.
#[derive(Clone)]
pub struct NetworkManager {
    prefix: String,
    table: nft::Table,
    /// An empty slot: not opened yet, or removed.
    vpcs: Arc<std::sync::Mutex<BTreeMap<VpcId, Slot>>>,
}

type Slot = Arc<Mutex<Option<Vpc>>>;

struct Vpc {
    namespace: Arc<Namespace>,
    links: Links,
    /// In force since this manager looked.
    ruleset: Option<Ruleset>,
    interfaces: BTreeMap<InterfaceId, Interface>,
}

struct Interface {
    spec: InterfaceSpec,
    /// While it is active: the index of its device, and its server.
    active: Option<(u32, dhcp::Server)>,
}

impl NetworkManager {
    /// A manager of all namespaces named `<prefix>-…`. Two managers on a host need different prefixes.
    ///
    /// # Errors
    /// When the prefix is not 1–16 lower-case letters, digits or `-`.
    pub fn new(prefix: &str) -> Result<Self, Error> {
        let plain = prefix
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if prefix.is_empty() || prefix.len() > 16 || !plain {
            return Err(Error::Prefix {
                prefix: prefix.to_owned(),
            });
        }
        let table = nft::Table::new(TABLE).map_err(|source| Error::Filter {
            name: prefix.to_owned(),
            source,
        })?;
        Ok(Self {
            prefix: prefix.to_owned(),
            table,
            vpcs: Arc::default(),
        })
    }

    /// The name of a VPC's namespace under /run/netns.
    #[must_use]
    pub fn namespace_name(&self, vpc: VpcId) -> String {
        format!("{}-{}", self.prefix, vpc.body())
    }

    /// Makes the namespace of a VPC, or finds it; then sets it up. If its file was removed while this manager had it open,
    /// the file is put back and everything in the namespace goes on.
    ///
    /// # Errors
    /// When something else has its name, or a step fails.
    pub async fn ensure_vpc(&self, id: VpcId) -> Result<Found, Error> {
        let mut slot = self.slot(id).await;
        let name = self.namespace_name(id);
        if let Some(vpc) = &*slot {
            let namespace = vpc.namespace.clone();
            let repair = move || match namespace.is_pinned()? {
                true => Ok(Found::Present),
                // Another namespace of that name is a stranger's: not ours to replace.
                false if Namespace::open(namespace.name())?.is_some() => Err(Error::NameTaken {
                    path: format!("/run/netns/{}", namespace.name()),
                }),
                false => namespace.pin().map(|()| Found::Made),
            };
            return blocking(repair).await;
        }
        let (namespace, found) = blocking(move || {
            let (namespace, found) = match Namespace::open(&name)? {
                Some(namespace) => (namespace, Found::Present),
                None => (Namespace::create(&name)?, Found::Made),
            };
            namespace.configure()?;
            Ok((namespace, found))
        })
        .await?;
        *slot = Some(Vpc::open(namespace)?);
        Ok(found)
    }

    /// Makes the tap of an interface, down and with its addresses, or finds it held by its vmm. Its VPC must be there.
    ///
    /// # Errors
    /// When the spec cannot be, its VPC is gone, /dev/net/tun is missing, something else has its name, or a step fails.
    pub async fn ensure_interface(&self, spec: &InterfaceSpec) -> Result<InterfaceFound, Error> {
        spec.check()?;
        let mut vpc = self.vpc(spec.vpc).await?;
        let device = device_name(spec.id);
        let name = vpc.namespace.name().to_owned();
        let control = vpc
            .namespace
            .enter(tap::open_control)?
            .map_err(|source| Error::NoTun { source })?;
        let opened = tap::attach(control, &device).map_err(|source| Error::Device {
            step: "make the tap",
            device: device.clone(),
            name: name.clone(),
            source,
        })?;
        if matches!(opened, Opened::OtherKind) {
            return Err(Error::DeviceTaken { device, name });
        }
        let gone = || Error::NotPrepared {
            interface: spec.id.to_string(),
            name,
        };
        let index = vpc.links.index(&device).await?.ok_or_else(gone)?;
        vpc.namespace.configure_device(&device)?;
        vpc.links.prepare(&device, index, spec).await?;
        let known = vpc.interfaces.entry(spec.id).or_insert_with(|| Interface {
            spec: spec.clone(),
            active: None,
        });
        // A new tap is down, whatever was known of an earlier one; a changed spec needs a server that knows it.
        if matches!(opened, Opened::Tap(_)) || known.spec != *spec {
            *known = Interface {
                spec: spec.clone(),
                active: None,
            };
        }
        Ok(match opened {
            Opened::Tap(fd) => InterfaceFound::Made(fd),
            Opened::Busy | Opened::OtherKind => InterfaceFound::InUse,
        })
    }

    /// Makes `ruleset` be in force in the VPC, in one transaction; what is in force already is left alone.
    ///
    /// # Errors
    /// When the VPC is gone or the filter cannot be changed; the former rules are in force then.
    pub async fn apply_ruleset(&self, vpc: VpcId, ruleset: &Ruleset) -> Result<Change, Error> {
        let mut vpc = self.vpc(vpc).await?;
        if vpc.ruleset.as_ref() == Some(ruleset) {
            return Ok(Change::Unchanged);
        }
        let (table, namespace, held, next) = (
            self.table.clone(),
            vpc.namespace.clone(),
            vpc.ruleset.clone(),
            ruleset.clone(),
        );
        let change = blocking(move || {
            let failed = |source| Error::Filter {
                name: namespace.name().to_owned(),
                source,
            };
            if let Some(held) = held
                && let Ok(change) = table.apply_over(&*namespace, &held, &next)
            {
                return Ok(change);
            }
            // The first time, or somebody else changed the table: look at what is there.
            let change = table.apply(&*namespace, &next).map_err(failed)?;
            namespace.configure_tracking()?;
            Ok(change)
        })
        .await?;
        vpc.ruleset = Some(ruleset.clone());
        Ok(change)
    }

    /// Reads back whether the ruleset applied last still is in force, and puts it right if not: for a reconciler's timer.
    ///
    /// # Errors
    /// As [`NetworkManager::apply_ruleset`]; [`Error::NoRuleset`] if none was applied.
    pub async fn verify_ruleset(&self, vpc: VpcId) -> Result<Change, Error> {
        let vpc = self.vpc(vpc).await?;
        let (table, namespace) = (self.table.clone(), vpc.namespace.clone());
        let Some(ruleset) = vpc.ruleset.clone() else {
            return Err(Error::NoRuleset {
                name: namespace.name().to_owned(),
            });
        };
        blocking(move || {
            let failed = |source| Error::Filter {
                name: namespace.name().to_owned(),
                source,
            };
            table.apply(&*namespace, &ruleset).map_err(failed)
        })
        .await
    }

    /// Brings a prepared interface up and serves it DHCP. Again, while its tap is the same: nothing.
    ///
    /// # Errors
    /// When it was not prepared, no ruleset was applied to its VPC, or a step fails.
    pub async fn activate(&self, vpc: VpcId, interface: InterfaceId) -> Result<(), Error> {
        let mut vpc = self.vpc(vpc).await?;
        let Vpc {
            namespace,
            links,
            ruleset,
            interfaces,
        } = &mut *vpc;
        let name = || namespace.name().to_owned();
        if ruleset.is_none() {
            return Err(Error::NoRuleset { name: name() });
        }
        let not_prepared = || Error::NotPrepared {
            interface: interface.to_string(),
            name: name(),
        };
        let known = interfaces.get_mut(&interface).ok_or_else(not_prepared)?;
        let device = device_name(interface);
        let index = links.index(&device).await?.ok_or_else(not_prepared)?;
        if known
            .active
            .as_ref()
            .is_some_and(|(active, _)| *active == index)
        {
            return Ok(());
        }
        links.raise(&device, index, &known.spec).await?;
        known.active = Some((index, dhcp::Server::start(namespace, &device, &known.spec)?));
        Ok(())
    }

    /// Removes an interface, also from under a vmm that still holds it, and the connections of its address, which another
    /// interface may have next. `false` when it was not there.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn remove_interface(
        &self,
        vpc: VpcId,
        interface: InterfaceId,
    ) -> Result<bool, Error> {
        let mut vpc = match self.vpc(vpc).await {
            Err(Error::NamespaceGone { .. }) => return Ok(false),
            other => other?,
        };
        let known = vpc.interfaces.remove(&interface);
        let device = device_name(interface);
        let address = match known {
            Some(known) => Some(known.spec.address),
            None => vpc.links.guest_address(&device).await?,
        };
        let removed = vpc.links.remove(&device).await?;
        if let Some(address) = address {
            let namespace = vpc.namespace.clone();
            let forget = move || match namespace.follows_connections()? {
                true => Ok(nft::forget_connections(&*namespace, address.into())),
                false => Ok(Ok(0)),
            };
            let forgotten = blocking(forget).await?;
            if let Err(error) = forgotten {
                // They end by themselves, in 910 s at the latest.
                warn!(%interface, %address, %error, "connections of a removed interface are not forgotten at once");
            }
        }
        Ok(removed)
    }

    /// Removes a VPC with everything in it. `false` when it was not there.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn remove_vpc(&self, id: VpcId) -> Result<bool, Error> {
        let mut slot = self.slot(id).await;
        if let Some(vpc) = self.fill(id, &mut slot)? {
            vpc.interfaces.clear();
            // Taps that a vmm holds would keep the namespace alive without a name.
            for tap in vpc.links.taps().await? {
                vpc.links.remove(&tap.device).await?;
            }
        }
        *slot = None;
        let name = self.namespace_name(id);
        blocking(move || Namespace::remove(&name)).await
    }

    /// Everything on this host whose name begins with this manager's prefix, known or not: to find what nobody wants any
    /// more.
    ///
    /// # Errors
    /// When /run/netns or a namespace in it cannot be read.
    pub async fn list(&self) -> Result<Vec<FoundVpc>, Error> {
        let prefix = format!("{}-", self.prefix);
        let names = Namespace::list(&prefix)?;
        let mut found = Vec::with_capacity(names.len());
        for name in names {
            let vpc = name
                .strip_prefix(&prefix)
                .and_then(|body| format!("{}{body}", VpcId::PREFIX).parse().ok());
            let mut entry = FoundVpc {
                namespace: name.clone(),
                vpc,
                interfaces: Vec::new(),
                strangers: Vec::new(),
            };
            // A file that is no namespace, or one that goes away meanwhile, holds nothing.
            if let Some(namespace) = Namespace::open(&name)? {
                for tap in Links::open(&namespace)?.taps().await? {
                    let id = tap
                        .alias
                        .as_deref()
                        .and_then(|alias| alias.parse::<InterfaceId>().ok());
                    match id.filter(|id| device_name(*id) == tap.device) {
                        Some(id) => entry.interfaces.push(id),
                        None => entry.strangers.push(tap.device),
                    }
                }
            }
            found.push(entry);
        }
        Ok(found)
    }

    async fn slot(&self, id: VpcId) -> OwnedMutexGuard<Option<Vpc>> {
        let slot = self
            .vpcs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(id)
            .or_default()
            .clone();
        slot.lock_owned().await
    }

    /// The VPC in its slot, opened if a former daemon made it; `None` when there is none.
    fn fill<'a>(&self, id: VpcId, slot: &'a mut Option<Vpc>) -> Result<Option<&'a mut Vpc>, Error> {
        if slot.is_none()
            && let Some(namespace) = Namespace::open(&self.namespace_name(id))?
        {
            *slot = Some(Vpc::open(namespace)?);
        }
        Ok(slot.as_mut())
    }

    /// The VPC, for this caller alone.
    async fn vpc(&self, id: VpcId) -> Result<OwnedMappedMutexGuard<Option<Vpc>, Vpc>, Error> {
        let mut slot = self.slot(id).await;
        self.fill(id, &mut slot)?;
        OwnedMutexGuard::try_map(slot, Option::as_mut).map_err(|_| Error::NamespaceGone {
            name: self.namespace_name(id),
        })
    }
}

impl Vpc {
    fn open(namespace: Namespace) -> Result<Self, Error> {
        let links = Links::open(&namespace)?;
        Ok(Self {
            namespace: Arc::new(namespace),
            links,
            ruleset: None,
            interfaces: BTreeMap::new(),
        })
    }
}

/// Runs what blocks for milliseconds off the async threads.
async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, Error> + Send + 'static,
) -> Result<R, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(gone) => match gone.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(Error::Namespace {
                step: "finish before the daemon ends",
                name: String::new(),
                source: std::io::ErrorKind::Interrupted.into(),
            }),
        },
    }
}
