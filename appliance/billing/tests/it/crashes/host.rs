//! A host's daemon on a store of transactions, which dies after the writes it is told to.
//!
//! ```text
//! request ─┐                ┌─► the store changes ─► the ledger and the settlers are told ─► answer
//! clock ───┴─► what is due ─┤
//!                           └─► the store changes ─► death ─► both are made of the store again ─► what is due
//! ```
//!
//! Death after a write and death before the next one leave the same: only what is stored.

use crate::{
    common::{DAY, account, at, cny, decimal, stored},
    shop::{Doubled, Records, price_list},
};
use billing::{
    Alert, Arrears, ArrearsAction, Books, Budget, Cleared, Order, Period, Plan, PriceHistory,
    Purchase, Settler, SpotLease, SpotStrategy, SpotVerdict, Stage, Subscription,
    SubscriptionAction, UsedSpan,
};
use ledger::{Change, Charge, Event, Ledger, PriceList, Rater, RatingPolicy, Usage};
use std::collections::{BTreeMap, BTreeSet};
use types::{
    AccountId, ByteCount, ChargeId, Currency, Decimal, DiskId, InstanceId, Money, Month,
    SubscriptionId, Timestamp, UtcOffset,
};

/// The daemon ended in the midst of what it was doing.
#[derive(Debug)]
pub struct Died;
type Lives = Result<(), Died>;

/// After which writes it dies.
#[derive(Clone, Copy, Debug)]
pub enum Deaths {
    Never,
    After(usize),
    AfterEach,
}

pub const ACCOUNTS: usize = 4;
/// Places for machines; each fourth one is of the same account.
pub const SLOTS: usize = 12;
pub const SUBSCRIPTIONS: usize = 6;
/// When it starts, in milliseconds after the start of the year.
pub const START: i64 = 10 * DAY;
/// How many charges are stored in one write, so that a tick may end in the midst of it.
const CHARGES_AT_ONCE: usize = 4;

/// What is asked of the host from outside. It is asked again until it is answered.
#[derive(Clone, Copy, Debug)]
pub enum Request {
    Run(usize),
    Stop(usize),
    Start(usize),
    Release(usize),
    Subscribe(usize),
    Renew(usize),
    ChangePlan(usize, i64),
    /// Of tariffs, 0 and 1 are lists, 2 doubles the first, 3 is 2 while it is broken.
    Swap(usize),
    /// The market price, in tenths.
    Price(u8),
}

#[derive(Clone, Copy, Debug)]
pub enum Act {
    Ask(Request),
    Spot,
    Expire,
    Tick,
    Settle,
    Invoice,
    Chase,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    instance: InstanceId,
    disk: DiskId,
    running: bool,
    lease: Option<SpotLease>,
}

/// Everything on stable storage.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    pub records: Records,
    pub machines: BTreeMap<usize, Machine>,
    pub arrears: BTreeMap<AccountId, Arrears>,
    /// Accounts that may start nothing.
    stopped: BTreeSet<AccountId>,
    budgets: BTreeMap<AccountId, Budget>,
    pub alerts: Vec<Alert>,
    market: PriceHistory,
    tariff: usize,
    /// The number of the last request that was answered: it is not done again.
    answered: Option<usize>,
}

#[derive(Clone)]
pub struct Host {
    pub stored: Stored,
    /// What each write was for.
    pub writes: Vec<&'static str>,
    pub deaths: Deaths,
    pub died: usize,
    clock: i64,
    ledger: Ledger,
    settlers: BTreeMap<AccountId, Settler>,
}

pub fn lists() -> [PriceList; 2] {
    [[111_111, 23_457, 1_001], [130_003, 20_000, 999]].map(price_list)
}

fn owner(number: usize) -> AccountId {
    account(&format!("account-{}", number % ACCOUNTS))
}

/// Whether money can be collected. The first account goes all the way to release, the second pays at its third try, the last one
/// after it was stopped.
fn pays(account: &AccountId, clock: i64) -> bool {
    let days = (clock - START) / DAY;
    let bad = match account.to_string().as_str() {
        "account-0" => 3..36,
        "account-1" => 3..12,
        "account-3" => 3..22,
        _ => 0..0,
    };
    !bad.contains(&days)
}

fn plan(cents: i64) -> Plan {
    let month = Decimal::new(cents, 2);
    Plan::new(format!("plan-{cents}"), Currency::CNY, [month; 3]).unwrap()
}

fn memory() -> ByteCount {
    ByteCount::from_gib(4)
}

impl Machine {
    fn disk(&self) -> Usage {
        Usage::DiskAllocated {
            disk: self.disk,
            category: "cloud_essd".to_owned(),
            size: ByteCount::from_gib(40),
        }
    }

    fn running(&self) -> Usage {
        Usage::InstanceRunning {
            instance: self.instance,
            instance_type: "probe".to_owned(),
            vcpus: 2,
            memory: memory(),
        }
    }
}

impl Host {
    pub fn new(deaths: Deaths) -> Self {
        let budget = |number| {
            let owner = owner(number);
            let budget = Budget::new(owner.clone(), cny("100"), &[50, 100]);
            (owner, budget.unwrap())
        };
        let mut host = Self {
            stored: Stored {
                records: Records::default(),
                machines: BTreeMap::new(),
                arrears: BTreeMap::new(),
                stopped: BTreeSet::new(),
                budgets: (0..ACCOUNTS).map(budget).collect(),
                alerts: Vec::new(),
                market: PriceHistory::new(Currency::CNY, vec![(at(0), decimal("0.3"))]).unwrap(),
                tariff: 0,
                answered: None,
            },
            writes: Vec::new(),
            deaths,
            died: 0,
            clock: START,
            ledger: Ledger::default(),
            settlers: BTreeMap::new(),
        };
        host.read();
        host
    }

    /// Does piece `number` of the work at `clock`, however often it dies over it.
    pub fn work(&mut self, number: usize, clock: i64, act: Act) {
        self.clock = clock;
        while self.act(number, act).is_err() {
            self.died += 1;
            self.read();
        }
    }

    /// Intervals that are open or not wholly charged.
    pub fn unsettled(&self) -> usize {
        self.ledger.unsettled().count()
    }

    fn act(&mut self, number: usize, act: Act) -> Lives {
        match act {
            Act::Ask(_) if self.stored.answered >= Some(number) => Ok(()),
            Act::Ask(request) => self.ask(number, request),
            Act::Spot => self.spot(),
            Act::Expire => self.expire(),
            Act::Tick => self.tick(),
            Act::Settle => self.settle(),
            Act::Invoice => self.invoice(),
            Act::Chase => self.chase(),
        }
    }

    fn now(&self) -> Timestamp {
        at(self.clock)
    }

    /// One transaction.
    fn write(&mut self, what: &'static str, change: impl FnOnce(&mut Stored)) -> Lives {
        change(&mut self.stored);
        self.writes.push(what);
        match self.deaths {
            Deaths::AfterEach => Err(Died),
            Deaths::After(write) if write == self.writes.len() => Err(Died),
            _ => Ok(()),
        }
    }

    /// One transaction with entries of the ledger.
    fn enter(
        &mut self,
        what: &'static str,
        changes: Vec<Change>,
        owner: &AccountId,
        change: impl FnOnce(&mut Stored),
    ) -> Lives {
        let used = changes.clone();
        let entries = self.ledger.prepare(changes, self.now()).unwrap();
        self.write(what, |stored| {
            let records = &mut stored.records;
            for (used, entry) in used.into_iter().zip(&entries) {
                match used {
                    Change::Open(usage) => {
                        let key = usage.key();
                        records.owners.insert(key.resource.clone(), owner.clone());
                        records.history.push(UsedSpan {
                            key,
                            from: entry.time,
                            to: None,
                        });
                    }
                    Change::Close(key) => {
                        let mut spans = records.history.iter_mut().rev();
                        let span = spans.find(|span| span.key == key).unwrap();
                        assert_eq!(span.to.replace(entry.time), None);
                    }
                }
            }
            records.entries.extend_from_slice(&entries);
            change(stored);
        })?;
        for entry in &entries {
            self.ledger.append(entry).unwrap();
        }
        Ok(())
    }

    fn ask(&mut self, number: usize, request: Request) -> Lives {
        match request {
            Request::Run(slot) if !self.stored.machines.contains_key(&slot) => {
                let id = number as u128;
                let machine = Machine {
                    instance: InstanceId::generate(id),
                    disk: DiskId::generate(id),
                    running: false,
                    lease: None,
                };
                let opens = vec![Change::Open(machine.disk())];
                self.enter("run", opens, &owner(slot), |stored| {
                    stored.machines.insert(slot, machine);
                    stored.answered = Some(number);
                })
            }
            Request::Start(slot) => self.start(number, slot),
            Request::Stop(slot) => self.stop(slot, "stop", Some(number)),
            Request::Release(slot) => self.release(slot, "release", Some(number)),
            Request::Subscribe(slot) => self.subscribe(number, slot),
            Request::Renew(slot) => {
                let renew = |it: Subscription, now| it.renew(Period::weeks(2).unwrap(), now).ok();
                self.buy("renewal", number, slot, renew)
            }
            Request::ChangePlan(slot, cents) => {
                let change = |it: Subscription, now| it.change_plan(plan(cents), now).ok();
                self.buy("plan change", number, slot, change)
            }
            Request::Swap(tariff) => self.write("swap", |stored| {
                stored.tariff = tariff;
                stored.answered = Some(number);
            }),
            Request::Price(tenths) => {
                let mut market = self.stored.market.clone();
                match market.push(self.now(), Decimal::new(i64::from(tenths), 1)) {
                    Ok(()) => self.write("price", |stored| {
                        stored.market = market;
                        stored.answered = Some(number);
                    }),
                    Err(_) => Ok(()),
                }
            }
            // Refused.
            Request::Run(_) => Ok(()),
        }
    }

    fn start(&mut self, number: usize, slot: usize) -> Lives {
        let may = !self.stored.stopped.contains(&owner(slot));
        let machine = self.stored.machines.get(&slot);
        let Some(machine) = machine.filter(|machine| may && !machine.running) else {
            return Ok(());
        };
        let lease = slot.is_multiple_of(3).then(|| SpotLease {
            instance: machine.instance,
            started: self.now(),
            entry_price: Money::new(self.stored.market.at(self.now()), Currency::CNY),
            strategy: SpotStrategy::SpotWithPriceLimit {
                limit: decimal("0.5"),
            },
            vcpus: 2,
            memory: memory(),
            notice: None,
        });
        let opens = vec![Change::Open(machine.running())];
        self.enter("start", opens, &owner(slot), |stored| {
            let machine = stored.machines.get_mut(&slot).unwrap();
            machine.running = true;
            machine.lease = lease;
            stored.answered = Some(number);
        })
    }

    fn stop(&mut self, slot: usize, what: &'static str, answers: Option<usize>) -> Lives {
        let machine = self.stored.machines.get(&slot);
        let Some(machine) = machine.filter(|machine| machine.running) else {
            return Ok(());
        };
        let closes = vec![Change::Close(machine.running().key())];
        self.enter(what, closes, &owner(slot), |stored| {
            let machine = stored.machines.get_mut(&slot).unwrap();
            machine.running = false;
            // One that was told it is reclaimed is reclaimed.
            machine.lease = machine.lease.take().filter(|lease| lease.notice.is_some());
            stored.answered = answers.or(stored.answered);
        })
    }

    /// Two transactions for what runs: it is stopped, and its disk goes.
    fn release(&mut self, slot: usize, what: &'static str, answers: Option<usize>) -> Lives {
        self.stop(slot, what, None)?;
        let Some(machine) = self.stored.machines.get(&slot) else {
            return Ok(());
        };
        let closes = vec![Change::Close(machine.disk().key())];
        self.enter(what, closes, &owner(slot), |stored| {
            stored.machines.remove(&slot);
            stored.answered = answers.or(stored.answered);
        })
    }

    fn spot(&mut self) -> Lives {
        for slot in 0..SLOTS {
            let machine = self.stored.machines.get(&slot);
            let Some(mut lease) = machine.and_then(|machine| machine.lease.clone()) else {
                continue;
            };
            match lease.verdict(&self.stored.market, self.now()).unwrap() {
                SpotVerdict::Notify { reason } => {
                    lease.give_notice(reason, self.now()).unwrap();
                    self.write("notice", |stored| {
                        stored.machines.get_mut(&slot).unwrap().lease = Some(lease);
                    })?;
                }
                SpotVerdict::Reclaim(_) => self.release(slot, "reclaim", None)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn rater(&self) -> Rater {
        let lists = lists();
        match self.stored.tariff {
            tariff @ (0 | 1) => Rater::built_in(lists[tariff].clone()),
            tariff => Doubled::rater(&lists[0], tariff == 3),
        }
    }

    fn tick(&mut self) -> Lives {
        let due = self.ledger.rate(&self.rater(), self.now()).unwrap();
        for charges in due.chunks(CHARGES_AT_ONCE) {
            let what = match charges[0].fallback {
                Some(_) => "fallback charges",
                None => "charges",
            };
            self.write(what, |stored| {
                stored.records.charges.extend_from_slice(charges);
            })?;
            for charge in charges {
                self.ledger.record(charge).unwrap();
                let owner = &self.stored.records.owners[&charge.resource];
                let settler = self.settlers.get_mut(owner).unwrap();
                assert!(settler.add(charge).unwrap());
            }
        }
        Ok(())
    }

    /// A settlement, the alerts of it, and that it was not paid, are stored together.
    fn settle(&mut self) -> Lives {
        let settlers = self.settlers.values();
        let due: Vec<_> = settlers
            .flat_map(|settler| settler.due(self.now()).unwrap())
            .collect();
        for settlement in due {
            let (owner, now) = (settlement.account.clone(), self.now());
            let month = Month::of(settlement.from);
            let before = self.stored.records.settlements.iter();
            let spent = before
                .filter(|it| it.account == owner && Month::of(it.from) == month)
                .try_fold(settlement.money(), |sum, it| sum.checked_add(it.money()));
            let spent = spent.unwrap();
            let unpaid = !settlement.payable.is_zero() && !pays(&owner, self.clock);
            let alerts = self.stored.budgets[&owner].alerts(month, spent).unwrap();
            let what = match (unpaid, alerts.is_empty()) {
                (true, _) => "unpaid settlement",
                (_, false) => "settlement with alert",
                _ => "settlement",
            };
            self.write(what, |stored| {
                if unpaid {
                    let money = settlement.money();
                    let arrears = stored.arrears.entry(owner.clone());
                    let arrears = arrears.and_modify(|it| it.add(money).unwrap());
                    arrears.or_insert_with(|| Arrears::new(owner.clone(), money, now));
                }
                let budget = stored.budgets.get_mut(&owner).unwrap();
                alerts.iter().for_each(|alert| budget.record(alert));
                stored.alerts.extend(alerts);
                stored.records.settlements.push(settlement.clone());
            })?;
            let settler = self.settlers.get_mut(&owner).unwrap();
            settler.record(&settlement).unwrap();
        }
        Ok(())
    }

    /// The first month that is not invoiced for this account.
    fn month_of(&self, account: &AccountId) -> Month {
        let invoices = self.stored.records.invoices.iter();
        let months = invoices
            .filter(|it| it.account == *account)
            .map(|it| it.month);
        months.max().map_or(Month::of(at(START)), Month::next)
    }

    fn month(&self) -> Month {
        let months = self
            .settlers
            .keys()
            .map(|account| self.month_of(account))
            .min();
        months.unwrap()
    }

    fn invoice(&mut self) -> Lives {
        while self.month().end() <= self.now() {
            let month = self.month();
            for number in 0..ACCOUNTS {
                let owner = owner(number);
                if self.month_of(&owner) > month {
                    continue;
                }
                let records = &self.stored.records;
                let books = Books::new(&records.charges, &records.settlements, &records.purchases);
                let invoice = books.invoice(&owner, Currency::CNY, month).unwrap();
                self.write("invoice", |stored| stored.records.invoices.push(invoice))?;
                let settler = self.settlers.get_mut(&owner).unwrap();
                settler.close(month.end());
                settler.forget_settled();
            }
        }
        Ok(())
    }

    fn chase(&mut self) -> Lives {
        for number in 0..ACCOUNTS {
            let account = owner(number);
            while let Some(mut arrears) = self.stored.arrears.get(&account).cloned() {
                let due = arrears.due(self.now()).first().copied();
                let last = arrears.last_done();
                let tried = match due {
                    Some(due) => matches!(due.action, ArrearsAction::Retry { .. }),
                    None => last >= Some(ArrearsAction::Stop),
                };
                if tried && pays(&account, self.clock) {
                    let owed = arrears.owed();
                    let cleared = Cleared::Wholly {
                        credit: cny("0"),
                        start_again: last == Some(ArrearsAction::Stop),
                    };
                    assert_eq!(arrears.pay(owed).unwrap(), cleared);
                    self.write("cleared", |stored| {
                        stored.arrears.remove(&account);
                        stored.stopped.remove(&account);
                    })?;
                    continue;
                }
                let Some(due) = due else { break };
                let own = (0..SLOTS).filter(|slot| owner(*slot) == account);
                let what = match due.action {
                    ArrearsAction::Retry { .. } => "tried in vain",
                    ArrearsAction::Stop => {
                        if !self.stored.stopped.contains(&account) {
                            self.write("no more starts", |stored| {
                                stored.stopped.insert(account.clone());
                            })?;
                        }
                        for slot in own {
                            self.stop(slot, "stopped in arrears", None)?;
                        }
                        "all stopped"
                    }
                    ArrearsAction::Release => {
                        for slot in own {
                            self.release(slot, "released in arrears", None)?;
                        }
                        "all released"
                    }
                };
                arrears.done(&due).unwrap();
                self.write(what, |stored| {
                    stored.arrears.insert(account.clone(), arrears);
                })?;
            }
        }
        Ok(())
    }

    /// The clock, held back for purchases.
    fn time_of_purchase(&self) -> Timestamp {
        self.now().max(self.month().start())
    }

    fn subscribe(&mut self, number: usize, slot: usize) -> Lives {
        let known = self.stored.records.subscriptions.get(&slot);
        if known.is_some_and(|it| it.stage() != Stage::Released) {
            return Ok(());
        }
        let order = Order {
            id: SubscriptionId::generate(number as u128),
            account: owner(slot),
            resource: InstanceId::generate(number as u128).to_string(),
            plan: plan(4_321),
            period: Period::weeks(1).unwrap(),
            zone: UtcOffset::from_minutes(480).unwrap(),
            auto_renew: slot.is_multiple_of(2).then(|| Period::months(1).unwrap()),
        };
        let (bought, purchase) = Subscription::buy(order, self.time_of_purchase()).unwrap();
        self.write("subscription", |stored| {
            let records = &mut stored.records;
            // A released one stays among the records, under a number of its own.
            if let Some(old) = records.subscriptions.remove(&slot) {
                records.subscriptions.insert(SUBSCRIPTIONS + number, old);
            }
            records.subscriptions.insert(slot, bought);
            records.purchases.push(purchase);
            stored.answered = Some(number);
        })
    }

    fn buy(
        &mut self,
        what: &'static str,
        number: usize,
        slot: usize,
        offer: impl FnOnce(Subscription, Timestamp) -> Option<(Subscription, Purchase)>,
    ) -> Lives {
        let known = self.stored.records.subscriptions.get(&slot).cloned();
        match known.and_then(|it| offer(it, self.time_of_purchase())) {
            Some((next, purchase)) => self.write(what, |stored| {
                stored.records.subscriptions.insert(slot, next);
                stored.records.purchases.push(purchase);
                stored.answered = Some(number);
            }),
            None => Ok(()),
        }
    }

    fn expire(&mut self) -> Lives {
        for slot in 0..SUBSCRIPTIONS {
            while let Some(it) = self.stored.records.subscriptions.get(&slot)
                && let Some(due) = it.due(self.now()).first().copied()
            {
                let renews = matches!(due.action, SubscriptionAction::AutoRenew { .. });
                if renews && pays(it.account(), self.clock) {
                    let (next, purchase) = it.auto_renew(&due, self.time_of_purchase()).unwrap();
                    self.write("auto-renewal", |stored| {
                        stored.records.subscriptions.insert(slot, next);
                        stored.records.purchases.push(purchase);
                    })?;
                    continue;
                }
                let what = match due.action {
                    SubscriptionAction::AutoRenew { .. } => "renewed in vain",
                    SubscriptionAction::Stop => "expiry",
                    SubscriptionAction::Release => "end of subscription",
                };
                self.write(what, |stored| {
                    let it = stored.records.subscriptions.get_mut(&slot).unwrap();
                    it.done(&due).unwrap();
                })?;
            }
        }
        Ok(())
    }

    /// All that is known is made of the store, as a daemon does it: settlements of invoiced months are believed, and their charges
    /// are not kept.
    fn read(&mut self) {
        let all = &mut self.stored;
        all.arrears = stored(&all.arrears);
        all.budgets = stored(&all.budgets);
        all.market = stored(&all.market);
        all.records.subscriptions = stored(&all.records.subscriptions);
        for machine in all.machines.values_mut() {
            machine.lease = stored(&machine.lease);
        }
        let records = &self.stored.records;
        self.ledger = Ledger::replay(&records.entries, &records.charges).unwrap();
        let settler = |number| (owner(number), self.settler(&owner(number)));
        self.settlers = (0..ACCOUNTS).map(settler).collect();
    }

    fn settler(&self, owner: &AccountId) -> Settler {
        let records = &self.stored.records;
        let closed = self.month_of(owner).start();
        let own = records.settlements.iter().filter(|it| it.account == *owner);
        let (before, after): (Vec<_>, Vec<_>) = own.partition(|it| it.to <= closed);
        let settled: BTreeSet<ChargeId> = before
            .iter()
            .flat_map(|it| it.charges.iter().copied())
            .collect();
        let last = before.iter().max_by_key(|it| it.to);
        let mut settler = match last {
            Some(last) => Settler::after(last),
            None => Settler::new(owner.clone(), Currency::CNY),
        };
        settler.forget_settled();
        if records.invoices.iter().any(|it| it.account == *owner) {
            settler.close(closed);
        }
        let charges = records.charges.iter();
        let charges = charges.filter(|charge| records.owners[&charge.resource] == *owner);
        for charge in charges.filter(|charge| !settled.contains(&charge.id)) {
            assert!(settler.add(charge).unwrap());
        }
        for settlement in after {
            settler.record(settlement).unwrap();
        }
        settler
    }

    /// Everything fits, nothing is left open, nothing is charged twice, up to now.
    pub fn check(&self, which: &str) {
        let [first, second] = lists();
        let doubled = Doubled {
            list: first.clone(),
            broken: false,
        };
        let policies: [&dyn RatingPolicy; 3] = [&first, &second, &doubled];
        let records = &self.stored.records;
        let report = records.verify(&policies, self.now());
        assert_eq!(report.violations, [], "{which}");
        assert_eq!(report.unpriced, [], "{which}");
        assert_eq!(self.unsettled(), 0, "{which}: something is left open");
        let entries = records.entries.iter();
        let opened = |event: &Event| matches!(event, Event::Opened { .. });
        let (opened, closed): (Vec<_>, Vec<_>) = entries.partition(|it| opened(&it.event));
        assert_eq!(opened.len(), closed.len(), "{which}");
        let ids: BTreeSet<ChargeId> = records.charges.iter().map(|it: &Charge| it.id).collect();
        assert_eq!(ids.len(), records.charges.len(), "{which}");
        assert!(
            self.settlers.values().all(|it| it.pending() == 0),
            "{which}"
        );
        let alerts: BTreeSet<_> = self
            .stored
            .alerts
            .iter()
            .map(|it| (&it.account, it.month, it.percent))
            .collect();
        assert_eq!(alerts.len(), self.stored.alerts.len(), "{which}");
    }
}
