//! What use cases and reconcilers share: the store with the ledger beside it, the ports, and the event stream.
//!
//! Every change goes through [`Core::write`]: records, the ledger's entries and events of one change belong to one
//! transaction, and the events go out once it is on stable storage.

mod transaction;

pub(crate) use transaction::Transaction;

use crate::{
    ControlError, ErrorKind, Result, Settings,
    bills::{self, Bills},
    model::{Event, EventSubject, Policy, PolicyRoles},
    policies::Board,
    ports::Ports,
    reconcile::credits::Accounts,
    records::{ChargeRecord, EntryRecord, HostRecord, OwnerRecord},
    tables::{Held, Table, Tables},
    use_cases::meters,
};
use ledger::{Charge, Entry, Ledger, RatingInput, UsageKey};
use std::{
    cell::RefCell,
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};
use store::{Reader, Record, Store, StoreError, Writer};
use tokio::sync::broadcast;
use types::{HostId, InstanceId, Timestamp};

/// Events a slow subscriber may fall behind by.
const EVENT_BACKLOG: usize = 1024;

pub(crate) struct Core {
    pub(crate) settings: Settings,
    pub(crate) ports: Ports,
    pub(crate) host: HostId,
    pub(crate) started_at: Timestamp,
    pub(crate) policies: Arc<Board>,
    store: Store,
    /// As of the last transaction.
    tables: RwLock<Tables>,
    /// As of the last transaction. Taken before a write transaction begins and held until it is committed.
    books: Mutex<Books>,
    /// Held while use is charged and settled, which takes several transactions. Taken before `books`.
    metering: Mutex<()>,
    /// How often stable storage was asked for, and up to which of these it was reached.
    syncs_asked: AtomicU64,
    syncs_done: AtomicU64,
    /// Held by the one who asks for all.
    syncing: tokio::sync::Mutex<()>,
    /// Writers have their turns in the order in which they came: who came before a sync is in it. Taken before `books`.
    turns: tokio::sync::Mutex<()>,
    events: broadcast::Sender<Event>,
    sequence: AtomicU64,
    /// The instances of which the billing policy had no answer to what is metered, and is to be asked again.
    pub(crate) meters_owed: Mutex<BTreeSet<InstanceId>>,
    /// The CPU credits of burstable instances.
    pub(crate) credits: Accounts,
}

/// What was used and what is owed for it, as far as it must be known to go on.
pub(crate) struct Books {
    ledger: Ledger,
    pub(crate) bills: Bills,
}

impl Books {
    /// Whether use of that key is open.
    pub(crate) fn counts(&self, key: &UsageKey) -> bool {
        self.ledger.open_interval(key).is_some()
    }

    /// Whether exactly that is in use, or nothing on its meter.
    pub(crate) fn uses(&self, usage: &ledger::Usage) -> bool {
        let open = self.ledger.open_interval(&usage.key());
        open.is_none_or(|open| open.usage == *usage)
    }
}

impl From<StoreError> for ControlError {
    fn from(error: StoreError) -> Self {
        let next_step = error.next_step().to_owned();
        let message = format!("The host's state cannot be used: {error}.");
        Self::internal(message, error).with_next_step(next_step)
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these locks is whole between any two statements that can panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Core {
    /// Replays the ledger in the store. Blocks.
    pub(crate) fn open(store: Store, settings: Settings, ports: Ports) -> Result<Self> {
        let wanted = settings
            .host
            .unwrap_or_else(|| HostId::generate(ports.entropy.random()));
        let host = store.write::<_, StoreError>(|writer| {
            let name = HostRecord::NAME.to_owned();
            if let Some(kept) = writer.get::<HostRecord>(&name)? {
                return Ok(kept.id);
            }
            writer.put(&HostRecord { name, id: wanted })?;
            Ok(wanted)
        })?;
        let books = open_books(&store, &settings)?;
        let tables = Tables::load(&store)?;
        let policies = Arc::new(Board::new(&*ports.policies));
        let core = Self {
            started_at: ports.clock.now(),
            policies,
            settings,
            ports,
            host,
            store,
            tables: RwLock::new(tables),
            books: Mutex::new(books),
            metering: Mutex::new(()),
            syncs_asked: AtomicU64::new(0),
            syncs_done: AtomicU64::new(0),
            syncing: tokio::sync::Mutex::default(),
            turns: tokio::sync::Mutex::default(),
            events: broadcast::channel(EVENT_BACKLOG).0,
            sequence: AtomicU64::new(0),
            meters_owed: Mutex::default(),
            credits: Accounts::default(),
        };
        core.begin_policies()?;
        meters::catch_up(&core)?;
        Ok(core)
    }

    /// Puts in force what was activated before, and removes components that an installation left behind which broke off.
    fn begin_policies(&self) -> Result<()> {
        self.keep_components()?;
        for roles in self.list::<PolicyRoles>()? {
            self.policies.assume(self, &roles, None)?;
        }
        Ok(())
    }

    /// Removes the components that no installed policy has. What cannot be removed now is the next time.
    pub(crate) fn keep_components(&self) -> Result<()> {
        let policies = self.list::<Policy>()?;
        let modules = policies.iter().map(|policy| policy.module_sha256);
        if let Err(error) = self.ports.policies.retain(&modules.collect()) {
            tracing::warn!(
                error = error.chain(),
                "components of policies that are gone cannot be removed"
            );
        }
        Ok(())
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.ports.clock.now()
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Whatever `look` reads, as of one point in time. Does not wait for writers.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&Reader) -> Result<T>) -> Result<T> {
        self.store.read(look)
    }

    pub(crate) fn books(&self) -> MutexGuard<'_, Books> {
        lock(&self.books)
    }

    /// While this is held, nobody else charges or settles.
    pub(crate) fn metering(&self) -> MutexGuard<'_, ()> {
        lock(&self.metering)
    }

    /// One record. Does not wait for writers.
    pub(crate) fn get<R: Record>(&self, key: &R::Key) -> Result<Option<R>> {
        self.store.read(|reader| Ok(reader.get(key)?))
    }

    /// All records of a kind that is held, as of the last transaction. Does not wait for writers.
    pub(crate) fn all<R: Held>(&self) -> Table<R> {
        self.tables().all()
    }

    fn tables(&self) -> Tables {
        let tables = self.tables.read();
        tables.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All records of a kind. Does not wait for writers.
    pub(crate) fn list<R: Record>(&self) -> Result<Vec<R>> {
        self.store.read(|reader| Ok(reader.list()?))
    }

    /// Changes the store in one transaction, on a thread that may block.
    pub(crate) async fn write<T: Send + 'static>(
        self: &Arc<Self>,
        change: impl FnOnce(&mut Transaction<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let _turn = self.turns.lock().await;
        let asked = self.syncs_asked.load(Ordering::SeqCst);
        let core = self.clone();
        let done = blocking(move || core.write_blocking(true, change)).await??;
        // It took along what was written before.
        self.syncs_done.fetch_max(asked, Ordering::SeqCst);
        Ok(done)
    }

    /// Changes the store without waiting for stable storage: for what a restart finds out anew.
    pub(crate) async fn write_volatile<T: Send + 'static>(
        self: &Arc<Self>,
        change: impl FnOnce(&mut Transaction<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let _turn = self.turns.lock().await;
        let core = self.clone();
        blocking(move || core.write_blocking(false, change)).await?
    }

    /// Puts everything that was written so far on stable storage: one durable transaction for all who ask for it while writers have
    /// their turns before it.
    pub(crate) async fn sync(self: &Arc<Self>) -> Result<()> {
        let mine = self.syncs_asked.fetch_add(1, Ordering::SeqCst) + 1;
        let _syncing = self.syncing.lock().await;
        if self.syncs_done.load(Ordering::SeqCst) >= mine {
            return Ok(());
        }
        let _turn = self.turns.lock().await;
        // Whoever has asked by now has written before.
        let group = self.syncs_asked.load(Ordering::SeqCst);
        self.sync_now().await?;
        self.syncs_done.fetch_max(group, Ordering::SeqCst);
        Ok(())
    }

    async fn sync_now(self: &Arc<Self>) -> Result<()> {
        let core = self.clone();
        blocking(move || {
            // A durable transaction takes all before it along; its own content changes nothing.
            let host = HostRecord {
                name: HostRecord::NAME.to_owned(),
                id: core.host,
            };
            Ok(core
                .store
                .write::<_, StoreError>(|writer| writer.put(&host))?)
        })
        .await?
    }

    pub(crate) fn write_blocking<T>(
        &self,
        durable: bool,
        change: impl FnOnce(&mut Transaction<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut books = self.books();
        let mut events = Vec::new();
        let mut entries = Vec::new();
        let mut decided = Vec::new();
        let mut owned = Vec::new();
        let mut tables = Tables::default();
        let (mut bought, mut paid) = (Vec::new(), Vec::new());
        let run = |writer: &Writer| -> Result<T> {
            let mut transaction = Transaction {
                core: self,
                writer,
                books: &books,
                tables: RefCell::new(self.tables()),
                usage: Vec::new(),
                bought: Vec::new(),
                paid: Vec::new(),
                events: Vec::new(),
                decided: Vec::new(),
            };
            let done = change(&mut transaction)?;
            let usage = std::mem::take(&mut transaction.usage);
            bought = std::mem::take(&mut transaction.bought);
            paid = std::mem::take(&mut transaction.paid);
            events = std::mem::take(&mut transaction.events);
            decided = std::mem::take(&mut transaction.decided);
            tables = transaction.tables.take();
            entries = books.ledger.prepare(usage, self.now()).map_err(|error| {
                ControlError::internal("The usage ledger refuses a change.", error)
            })?;
            for entry in &entries {
                writer.put(&EntryRecord::new(entry.clone()))?;
            }
            let bought = bought.iter().map(|purchase| purchase.resource.clone());
            let resources = bills::opened(&entries).chain(bought);
            owned = books.bills.newly_owned(resources, &self.settings.account);
            owned
                .iter()
                .try_for_each(|record| writer.put::<OwnerRecord>(record))?;
            Ok(done)
        };
        let done = if durable {
            self.store.write(run)?
        } else {
            self.store.write_volatile(run)?
        };
        *self.tables.write().unwrap_or_else(PoisonError::into_inner) = tables;
        append(&mut books.ledger, &entries)?;
        books.bills.own(owned);
        for purchase in &bought {
            books.bills.bought(purchase)?;
        }
        for payment in &paid {
            books.bills.paid(payment)?;
        }
        drop(books);
        self.publish(events);
        self.policies.shadow_decisions(decided);
        Ok(done)
    }

    /// Charges every whole second of use up to `now` that is not charged yet. Blocks; `metering` is held.
    pub(crate) fn charge(&self, now: Timestamp) -> Result<()> {
        let mut books = self.books();
        let in_force = self.policies.in_force();
        let mut charges = Vec::new();
        for (rater, rates) in in_force.raters() {
            let which = |interval: &ledger::UsageInterval| rates(&interval.usage.key().resource);
            let more = books
                .ledger
                .rate_where(rater, now, which)
                .map_err(|error| {
                    ControlError::internal("Not even the built-in prices give an amount.", error)
                })?;
            charges.extend(more);
        }
        if charges.is_empty() {
            return Ok(());
        }
        self.store.write::<_, StoreError>(|writer| {
            charges
                .iter()
                .try_for_each(|charge| writer.put(&ChargeRecord::new(charge.clone())))
        })?;
        let charged = match in_force.shadows_prices() {
            true => charged(&books.ledger, &charges),
            false => Vec::new(),
        };
        let mut events = Vec::new();
        for charge in &charges {
            books.ledger.record(charge).map_err(|error| {
                ControlError::internal("The usage ledger refuses a charge.", error)
            })?;
            if let Some(instance) = charge.instance() {
                let message = format!("{} s charged: {}", charge.seconds, charge.money);
                events.push((EventSubject::Charge(instance), message));
            }
        }
        books
            .bills
            .charged(&charges)
            .map_err(|error| bills::refused(error, "take charges"))?;
        drop(books);
        self.publish(events);
        self.policies.shadow_charges(charged);
        Ok(())
    }

    fn publish(&self, events: Vec<(EventSubject, String)>) {
        let at = self.now();
        for (subject, message) in events {
            match &subject {
                // As many as there are instances, each time use is metered: the ledger has them all.
                EventSubject::Charge(instance) => {
                    tracing::debug!(kind = subject.kind(), %instance, "{message}");
                }
                _ => tracing::info!(kind = subject.kind(), "{message}"),
            }
            let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
            // Nobody may be listening.
            let _ = self.events.send(Event {
                sequence,
                at,
                subject,
                message,
            });
        }
    }
}

/// Charges that are not recorded yet, with what they are for.
fn charged(ledger: &Ledger, charges: &[Charge]) -> Vec<(Charge, RatingInput)> {
    let input = |charge: &Charge| {
        let interval = ledger.interval(charge.interval)?;
        let input = RatingInput {
            interval: charge.interval,
            usage: interval.usage.clone(),
            from: charge.from,
            seconds: charge.seconds,
        };
        Some((charge.clone(), input))
    };
    charges.iter().filter_map(input).collect()
}

/// What the records in the store come to. Gives resources from before there were accounts to the host's.
fn open_books(store: &Store, settings: &Settings) -> Result<Books> {
    let (entries, charges) = store.read::<_, StoreError>(|reader| {
        Ok((
            reader.list::<EntryRecord>()?,
            reader.list::<ChargeRecord>()?,
        ))
    })?;
    let entries: Vec<Entry> = entries.into_iter().map(|record| record.entry).collect();
    let charges: Vec<Charge> = charges.into_iter().map(|record| record.charge).collect();
    let ledger = Ledger::replay(&entries, &charges).map_err(|error| {
        ControlError::internal("The usage ledger does not add up.", error).with_next_step(
            "Restore a copy of the state folder from before, or find out who changed it.",
        )
    })?;
    let bills = Bills::open(store, &settings.account, &entries, &charges)?;
    Ok(Books { ledger, bills })
}

fn append(ledger: &mut Ledger, entries: &[Entry]) -> Result<()> {
    for entry in entries {
        ledger.append(entry).map_err(|error| {
            ControlError::internal("The usage ledger refuses its own entry.", error)
        })?;
    }
    Ok(())
}

/// Runs what may block on a thread that may.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| ControlError::internal("An operation broke off.", error))
}

/// Does something to its end even if nobody waits for it any more: a caller that hangs up leaves nothing half done.
pub(crate) async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    tokio::spawn(work)
        .await
        .map_err(|error| ControlError::internal("An operation broke off.", error))?
}

/// Refuses `count` more of `what` than a table may hold.
pub(crate) fn check_room(what: &'static str, there: usize, asked: usize, limit: u32) -> Result<()> {
    instance::admission::check_quota(what, there, asked, limit).map_err(|refusal| {
        let code = match what {
            "instances" => "QuotaExceed.Instance",
            "disks" => "QuotaExceed.Disk",
            "VPCs" => "QuotaExceeded.Vpc",
            "vswitches" => "QuotaExceeded.VSwitch",
            "security groups" => "QuotaExceed.SecurityGroup",
            "deployment sets" => "DEPLOYMENTSET.QUOTA_FULL",
            "policies" => "QuotaExceed.Policy",
            _ => "QuotaExceeded",
        };
        ControlError::new(ErrorKind::QuotaExceeded, code, sentence(&refusal.message))
            .with_next_step(format!("Delete {what} that are not needed."))
    })
}

/// A message of a lower layer as a sentence.
pub(crate) fn sentence(message: &str) -> String {
    let mut characters = message.chars();
    match characters.next() {
        Some(first) => first
            .to_uppercase()
            .chain(characters)
            .chain(['.'])
            .collect(),
        None => String::new(),
    }
}

impl From<instance::admission::Refusal> for ControlError {
    fn from(refusal: instance::admission::Refusal) -> Self {
        Self::invalid(refusal.field, sentence(&refusal.message))
    }
}
