//! A year of a host's commerce in a few seconds: machines that come and go, some preemptible, 40 subscriptions, accounts that do
//! not pay, clocks that jump, prices that change, a daemon that dies, also between a write and taking note of it. At the end all
//! machines are released. Then the records hold together and come to what whole numbers come to that were reckoned beside them.

mod naive;

use crate::{
    common::{DAY, Dice, HOUR, MINUTE, account, at, cny, decimal, stored},
    shop::{Doubled, Shop, price_list},
};
use billing::{
    Alert, Arrears, ArrearsAction, Budget, Cleared, Order, Period, Plan, PriceHistory, Purchase,
    SpotLease, SpotStrategy, SpotVerdict, Stage, Subscription, SubscriptionAction, UsedSpan,
};
use ledger::{Change, PriceList, Rater, RatingPolicy, Usage, UsageKey};
use naive::{Meters, Prepaid};
use std::collections::{BTreeMap, BTreeSet};
use types::{
    AccountId, ByteCount, Currency, Decimal, DiskId, InstanceId, Money, Month, SubscriptionId,
    UtcOffset,
};

const ACCOUNTS: usize = 12;
const SUBSCRIPTIONS: usize = 40;
/// Once in how many writes of charges, settlements and invoices the daemon dies right after it.
const DEATHS: u64 = 1500;
const YEAR: i64 = 365 * DAY;
const PRICES: [[i64; 3]; 2] = [[111_111, 23_457, 1_001], [130_003, 20_000, 999]];

/// A place that machines come and go in.
struct Machine {
    account: usize,
    /// What it is, while there is one.
    now: Option<Instance>,
}

struct Instance {
    id: InstanceId,
    disk: Usage,
    vcpus: u32,
    gib: u64,
    running: bool,
    /// Whether it is stopped and keeps its virtual CPUs and memory.
    kept: bool,
    lease: Option<SpotLease>,
}

impl Instance {
    fn usage(&self) -> Usage {
        Usage::InstanceRunning {
            instance: self.id,
            instance_type: "probe".to_owned(),
            vcpus: self.vcpus,
            memory: ByteCount::from_gib(self.gib),
        }
    }

    /// What is used of it while it is stopped and keeps what it has.
    fn kept(&self) -> Usage {
        Usage::InstanceStopped {
            instance: self.id,
            instance_type: "probe".to_owned(),
            vcpus: self.vcpus,
            memory: ByteCount::from_gib(self.gib),
            hourly: None,
        }
    }
}

/// What an hour costs by each tariff, in millionths: the two lists, and the first one doubled.
fn hourly(usage: &Usage) -> Vec<i128> {
    let gib = |size: &ByteCount| i64::try_from(size.bytes() >> 30).unwrap();
    let price = |[vcpu, memory, disk]: [i64; 3]| match usage {
        Usage::InstanceRunning {
            vcpus,
            memory: size,
            ..
        }
        | Usage::InstanceStopped {
            vcpus,
            memory: size,
            ..
        } => vcpu * i64::from(*vcpus) + memory * gib(size),
        Usage::DiskAllocated { size, .. } => disk * gib(size),
        Usage::InstancePreemptible { .. } | Usage::Other { .. } => 0,
    };
    let [first, second] = PRICES.map(|list| i128::from(price(list)));
    vec![first, second, first * 2]
}

fn plan(cents: i128) -> Plan {
    let month = Decimal::from_i128_with_scale(cents, 2);
    Plan::new(format!("plan-{cents}"), Currency::CNY, [month; 3]).unwrap()
}

/// How often things happened that must happen for the year to be worth anything.
#[derive(Debug, Default)]
struct Seen {
    restarts: u64,
    jumps: u64,
    swaps: u64,
    failures: u64,
    reclaims: u64,
    stops: u64,
    releases: u64,
    cleared: u64,
    auto_renewals: u64,
    expiries: u64,
    plan_changes: u64,
    alerts: u64,
    deaths: u64,
    pauses: u64,
    /// Instances that lived.
    lives: usize,
    /// The most that there were at a time.
    at_once: usize,
}

struct Year {
    dice: Dice,
    /// What the clock shows, in milliseconds after the start of 2026. It jumps.
    clock: i64,
    shop: Shop,
    meters: Meters,
    lists: [PriceList; 2],
    /// 0 and 1 are the lists, 2 doubles the first, 3 is 2 while it is broken.
    tariff: usize,
    market: PriceHistory,
    market_changed: i64,
    accounts: Vec<AccountId>,
    machines: Vec<Machine>,
    prepaid: BTreeMap<usize, (usize, Prepaid)>,
    /// What each account paid for subscriptions that are no more, in cents.
    past: Vec<i128>,
    arrears: BTreeMap<usize, Arrears>,
    /// Accounts whose machines are stopped.
    stopped: BTreeSet<usize>,
    budgets: Vec<Budget>,
    spent: BTreeMap<(usize, Month), Money>,
    alerts: Vec<Alert>,
    last_id: u128,
    seen: Seen,
}

impl Year {
    fn new(seed: u64, machines: usize) -> Self {
        let accounts: Vec<AccountId> = (0..ACCOUNTS)
            .map(|number| account(&format!("account-{number}")))
            .collect();
        let machine = |number| Machine {
            account: number % ACCOUNTS,
            now: None,
        };
        let budget = |account: &AccountId| Budget::new(account.clone(), cny("2000"), &[50, 100]);
        Self {
            dice: Dice(seed),
            clock: 0,
            shop: Shop::new(&accounts, at(0)).dying(Dice(!seed), DEATHS),
            meters: Meters::default(),
            lists: PRICES.map(price_list),
            tariff: 0,
            market: PriceHistory::new(Currency::CNY, vec![(at(0), decimal("0.3"))]).unwrap(),
            market_changed: 0,
            budgets: accounts.iter().map(|it| budget(it).unwrap()).collect(),
            accounts,
            machines: (0..machines).map(machine).collect(),
            prepaid: BTreeMap::new(),
            past: vec![0; ACCOUNTS],
            arrears: BTreeMap::new(),
            stopped: BTreeSet::new(),
            spent: BTreeMap::new(),
            alerts: Vec::new(),
            last_id: 0,
            seen: Seen::default(),
        }
    }

    fn id(&mut self) -> u128 {
        self.last_id += 1;
        self.last_id
    }

    fn open(&mut self, account: usize, usage: Usage) {
        let key = usage.key();
        let owner = self.accounts[account].clone();
        self.shop.records.owners.insert(key.resource.clone(), owner);
        self.meters
            .open(key.to_string(), account, hourly(&usage), self.clock);
        self.shop.enter(Change::Open(usage), at(self.clock));
    }

    fn close(&mut self, key: UsageKey) {
        let (from, to) = self.meters.close(&key.to_string(), self.clock);
        self.shop.records.history.push(UsedSpan {
            key: key.clone(),
            from: at(from),
            to: Some(at(to)),
        });
        self.shop.enter(Change::Close(key), at(self.clock));
    }

    /// What an instance kept while it was stopped it keeps no longer.
    fn give_up(&mut self, number: usize) {
        let instance = self.machines[number].now.as_mut();
        if let Some(instance) = instance.filter(|instance| instance.kept) {
            instance.kept = false;
            let key = instance.kept().key();
            self.close(key);
        }
    }

    fn start(&mut self, number: usize) {
        if self.stopped.contains(&self.machines[number].account) {
            return;
        }
        self.give_up(number);
        let machine = &mut self.machines[number];
        let instance = machine.now.as_mut().unwrap();
        instance.running = true;
        if number.is_multiple_of(5) {
            let limit = Decimal::from(1 + number as u64 % 7) / Decimal::TEN;
            instance.lease = Some(SpotLease {
                instance: instance.id,
                started: at(self.clock),
                entry_price: Money::new(self.market.at(at(self.clock)), Currency::CNY),
                strategy: SpotStrategy::SpotWithPriceLimit { limit },
                vcpus: instance.vcpus,
                memory: ByteCount::from_gib(instance.gib),
                notice: None,
            });
        }
        let (account, usage) = (machine.account, instance.usage());
        self.open(account, usage);
    }

    /// A machine stops and keeps what it has, if it is one of those that do.
    fn pause(&mut self, number: usize) {
        self.stop(number);
        if !number.is_multiple_of(3) {
            return;
        }
        let machine = &mut self.machines[number];
        let Some(instance) = &mut machine.now else {
            return;
        };
        instance.kept = true;
        let (account, usage) = (machine.account, instance.kept());
        self.seen.pauses += 1;
        self.open(account, usage);
    }

    fn stop(&mut self, number: usize) {
        self.give_up(number);
        let instance = self.machines[number].now.as_mut();
        if let Some(instance) = instance.filter(|instance| instance.running) {
            instance.running = false;
            instance.lease = None;
            let key = instance.usage().key();
            self.close(key);
        }
    }

    fn release(&mut self, number: usize) {
        self.stop(number);
        if let Some(instance) = self.machines[number].now.take() {
            self.close(instance.disk.key());
        }
    }

    /// Something happens to a machine.
    fn live(&mut self) {
        let number = self.dice.below(self.machines.len() as u64);
        let number = usize::try_from(number).unwrap();
        match &self.machines[number].now {
            None => {
                let (id, disk) = (self.id(), self.id());
                let disk = Usage::DiskAllocated {
                    disk: DiskId::generate(disk),
                    category: "cloud_essd".to_owned(),
                    size: ByteCount::from_gib(20 + self.dice.below(200)),
                };
                self.open(self.machines[number].account, disk.clone());
                self.seen.lives += 1;
                self.machines[number].now = Some(Instance {
                    id: InstanceId::generate(id),
                    disk,
                    vcpus: *self.dice.pick(&[1, 2, 4, 8]),
                    gib: *self.dice.pick(&[1, 4, 16]),
                    running: false,
                    kept: false,
                    lease: None,
                });
                self.start(number);
            }
            Some(instance) if instance.running => self.pause(number),
            Some(_) if self.dice.once_in(3) => self.release(number),
            Some(_) => self.start(number),
        }
    }

    /// The market's price moves, and preemptible machines are told, and go.
    fn spot(&mut self) {
        if self.dice.once_in(8) && self.clock > self.market_changed {
            self.market_changed = self.clock;
            let price = Decimal::from(1 + self.dice.below(8)) / Decimal::TEN;
            self.market.push(at(self.clock), price).unwrap();
        }
        for number in (0..self.machines.len()).step_by(5) {
            let instance = self.machines[number].now.as_mut();
            let Some(lease) = instance.and_then(|instance| instance.lease.as_mut()) else {
                continue;
            };
            match lease.verdict(&self.market, at(self.clock)).unwrap() {
                SpotVerdict::Notify { reason } => {
                    assert!(at(self.clock) >= lease.protected_until());
                    lease.give_notice(reason, at(self.clock)).unwrap();
                }
                SpotVerdict::Reclaim(notice) => {
                    let given = notice.given.unix_millis();
                    assert!(at(self.clock).unix_millis() >= given + 5 * MINUTE);
                    self.seen.reclaims += 1;
                    self.release(number);
                }
                _ => {}
            }
        }
    }

    fn rater(&self) -> Rater {
        match self.tariff {
            0 | 1 => Rater::built_in(self.lists[self.tariff].clone()),
            tariff => Doubled::rater(&self.lists[0], tariff == 3),
        }
    }

    fn tick(&mut self) {
        let rater = self.rater();
        if self.dice.once_in(120) {
            // The daemon dies before what it charged is stored.
            self.restart(false);
        }
        self.shop.tick(&rater, at(self.clock));
        // While the policy is broken, the first list sets the prices.
        self.meters.tick(self.tariff % 3, self.clock);
        self.seen.failures += u64::from(self.tariff == 3);
    }

    /// Tries to collect money; whether that worked. Some accounts have bad months.
    fn pays(&mut self, account: usize) -> bool {
        let month = usize::try_from(self.clock / (30 * DAY)).unwrap_or_default();
        let bad = account < 4 && month % 6 == account + 1;
        !bad && !self.dice.once_in(200)
    }

    fn collect(&mut self, account: usize, money: Money) {
        if money.amount.is_zero() || self.pays(account) {
            return;
        }
        let owner = self.accounts[account].clone();
        match self.arrears.get_mut(&account) {
            Some(arrears) => arrears.add(money).unwrap(),
            None => {
                let arrears = Arrears::new(owner, money, at(self.clock));
                self.arrears.insert(account, arrears);
            }
        }
    }

    fn chase(&mut self) {
        for account in 0..ACCOUNTS {
            // After each action it is asked again.
            while let Some(arrears) = self.arrears.get(&account)
                && let Some(due) = arrears.due(at(self.clock)).first().copied()
            {
                match due.action {
                    ArrearsAction::Retry { .. } => {
                        if self.pays(account) {
                            self.clear(account);
                            continue;
                        }
                    }
                    ArrearsAction::Stop => {
                        self.seen.stops += 1;
                        self.stopped.insert(account);
                        self.for_machines_of(account, Self::stop);
                    }
                    ArrearsAction::Release => {
                        self.seen.releases += 1;
                        self.for_machines_of(account, Self::release);
                    }
                }
                self.arrears.get_mut(&account).unwrap().done(&due).unwrap();
            }
            if self.arrears.contains_key(&account) && self.dice.once_in(300) && self.pays(account) {
                self.clear(account);
            }
        }
    }

    fn clear(&mut self, account: usize) {
        let arrears = self.arrears.remove(&account).unwrap();
        let owed = arrears.owed();
        let stop = arrears.last_done() == Some(ArrearsAction::Stop);
        let cleared = arrears.pay(owed).unwrap();
        let wholly = Cleared::Wholly {
            credit: cny("0"),
            start_again: stop,
        };
        assert_eq!(cleared, wholly);
        self.seen.cleared += 1;
        self.stopped.remove(&account);
    }

    fn for_machines_of(&mut self, account: usize, act: fn(&mut Self, usize)) {
        for number in 0..self.machines.len() {
            if self.machines[number].account == account {
                act(self, number);
            }
        }
    }

    fn settle(&mut self) {
        for settlement in self.shop.settle(at(self.clock)) {
            let account = self
                .accounts
                .iter()
                .position(|it| *it == settlement.account);
            let account = account.unwrap();
            self.collect(account, settlement.money());
            let month = Month::of(settlement.from);
            let spent = self.spent.entry((account, month));
            let spent = spent.or_insert_with(|| cny("0"));
            *spent = spent.checked_add(settlement.money()).unwrap();
            for alert in self.budgets[account].alerts(month, *spent).unwrap() {
                self.budgets[account].record(&alert);
                self.alerts.push(alert);
                self.seen.alerts += 1;
            }
        }
        let _ = self.shop.invoice(at(self.clock));
    }

    /// Takes over what a subscription has become.
    fn bought(&mut self, slot: usize, (next, purchase): (Subscription, Purchase)) {
        self.shop.records.purchases.push(purchase);
        self.shop.records.subscriptions.insert(slot, next);
    }

    fn subscribe(&mut self, slot: usize) {
        let account = slot % ACCOUNTS;
        let number = self.id();
        let months = 1 + self.dice.below(3);
        let months = u8::try_from(months).unwrap();
        let price = i128::from(self.dice.below(90_000));
        let now = self.now();
        let auto_renew = self.dice.once_in(2);
        let order = Order {
            id: SubscriptionId::generate(number),
            account: self.accounts[account].clone(),
            resource: InstanceId::generate(number).to_string(),
            plan: plan(price),
            period: Period::months(months).unwrap(),
            zone: UtcOffset::from_minutes(480).unwrap(),
            auto_renew: auto_renew.then(|| Period::months(1).unwrap()),
        };
        let slots = SUBSCRIPTIONS + self.shop.records.subscriptions.len();
        // A released one stays among the records, under a number of its own.
        if let Some(old) = self.shop.records.subscriptions.remove(&slot) {
            self.shop.records.subscriptions.insert(slots, old);
        }
        if let Some((account, old)) = self.prepaid.remove(&slot) {
            self.past[account] += old.paid;
        }
        let bought = Subscription::buy(order, at(now)).unwrap();
        let naive = Prepaid::buy(usize::from(months), price, now);
        self.prepaid.insert(slot, (account, naive));
        self.bought(slot, bought);
    }

    /// The clock, held back for purchases.
    fn now(&self) -> i64 {
        self.shop.time_of_purchase(at(self.clock)).unix_millis() - at(0).unix_millis()
    }

    fn subscriptions(&mut self) {
        let slot = usize::try_from(self.dice.below(SUBSCRIPTIONS as u64)).unwrap();
        let now = self.now();
        let Some(it) = self.shop.records.subscriptions.get(&slot).cloned() else {
            return self.subscribe(slot);
        };
        if it.stage() == Stage::Released {
            return self.subscribe(slot);
        }
        let naive = &mut self.prepaid.get_mut(&slot).unwrap().1;
        assert_eq!(at(naive.expires()), it.expires());
        // What it was last changed at: nothing is before that.
        let last = self.shop.records.purchases.iter().rev();
        let last = last
            .filter(|purchase| purchase.subscription == it.id())
            .map(|it| it.at)
            .next();
        let now = now.max(last.unwrap().unix_millis() - at(0).unix_millis());
        if self.dice.once_in(12) {
            let running = it.stage() == Stage::Active && now < naive.expires();
            if let Ok(bought) = it.renew(Period::months(2).unwrap(), at(now)) {
                assert!(now < naive.expires() + 15 * DAY);
                if running {
                    naive.extend(2);
                } else {
                    naive.begin(2, now);
                }
                self.bought(slot, bought);
            } else {
                assert!(now >= naive.expires() + 15 * DAY);
            }
        } else if self.dice.once_in(12) {
            let price = i128::from(self.dice.below(90_000));
            let changed = it.change_plan(plan(price), at(now));
            assert_eq!(
                changed.is_ok(),
                it.stage() == Stage::Active && now < naive.expires()
            );
            if let Ok(changed) = changed {
                naive.change(price, now);
                self.seen.plan_changes += 1;
                self.bought(slot, changed);
            }
        }
    }

    fn expire(&mut self) {
        let slots: Vec<usize> = self.prepaid.keys().copied().collect();
        for slot in slots {
            loop {
                let it = self.shop.records.subscriptions[&slot].clone();
                let Some(due) = it.due(at(self.clock)).first().copied() else {
                    break;
                };
                let naive = &mut self.prepaid.get_mut(&slot).unwrap().1;
                if matches!(due.action, SubscriptionAction::AutoRenew { .. })
                    && self.dice.once_in(6)
                {
                    naive.extend(1);
                    self.seen.auto_renewals += 1;
                    let now = self.now();
                    let renewed = it.auto_renew(&due, at(now)).unwrap();
                    self.bought(slot, renewed);
                    continue;
                }
                self.seen.expiries += u64::from(due.action == SubscriptionAction::Stop);
                let subscription = self.shop.records.subscriptions.get_mut(&slot).unwrap();
                subscription.done(&due).unwrap();
            }
        }
    }

    /// Everything but the records is gone; states that are records themselves are read again.
    fn restart(&mut self, read: bool) {
        self.seen.restarts += 1;
        self.shop.restart(read);
        self.arrears = stored(&self.arrears);
        self.budgets = stored(&self.budgets);
        self.market = stored(&self.market);
        for machine in &mut self.machines {
            if let Some(instance) = &mut machine.now {
                instance.lease = stored(&instance.lease);
            }
        }
    }

    fn jump(&mut self) {
        self.seen.jumps += 1;
        let far = if self.dice.once_in(5) {
            2 * DAY
        } else {
            3 * HOUR
        };
        self.clock = (self.clock + self.dice.range(-far, far)).max(0);
    }

    fn run(&mut self) {
        while self.clock < YEAR {
            let step = if self.clock % (60 * DAY) < 12 * HOUR {
                HOUR
            } else {
                12 * HOUR
            };
            self.clock += self.dice.range(1, step);
            for _ in 0..self.dice.below(8 + self.machines.len() as u64 / 80) {
                self.live();
            }
            let now = self.machines.iter().filter(|it| it.now.is_some());
            self.seen.at_once = self.seen.at_once.max(now.count());
            self.spot();
            self.subscriptions();
            self.expire();
            if self.dice.once_in(30) {
                self.jump();
            }
            if self.dice.once_in(40) {
                self.seen.swaps += 1;
                self.tariff = usize::try_from(self.dice.below(4)).unwrap();
            }
            if self.dice.once_in(8) {
                self.tick();
            }
            self.settle();
            self.chase();
            if self.dice.once_in(160) {
                let read = self.seen.restarts.is_multiple_of(4);
                self.restart(read);
            }
        }
        for number in 0..self.machines.len() {
            self.release(number);
        }
        // The clock is right again: all that was charged late is settled, and its month is over.
        self.clock = YEAR + 59 * DAY;
        self.expire();
        self.tick();
        self.settle();
        self.seen.deaths = self.shop.deaths;
    }
}

/// Runs the year of that seed with so many places for machines, and compares.
fn check(seed: u64, machines: usize) -> Seen {
    let mut year = Year::new(seed, machines);
    year.run();
    let doubled = Doubled {
        list: year.lists[0].clone(),
        broken: false,
    };
    let policies: [&dyn RatingPolicy; 3] = [&year.lists[0], &year.lists[1], &doubled];
    // The year's last month with settlements is over and invoiced.
    let through = at(year.clock);
    let report = year.shop.records.verify(&policies, through);
    assert_eq!(report.violations, [], "seed {seed}");

    let records = &year.shop.records;
    assert_eq!(year.meters.running(), 0, "seed {seed}");
    assert_eq!(year.shop.unsettled(), 0, "seed {seed}");
    let intervals = ledger::intervals(&records.entries).unwrap();
    assert!(
        intervals.iter().all(|it| it.to.is_some()),
        "seed {seed}: something is open although everything was released"
    );
    let ids: BTreeSet<_> = records.charges.iter().map(|charge| charge.id).collect();
    assert_eq!(ids.len(), records.charges.len(), "seed {seed}");
    let mut fired: Vec<_> = year
        .alerts
        .iter()
        .map(|it| (&it.account, it.month, it.percent))
        .collect();
    fired.sort();
    assert!(fired.is_sorted_by(|a, b| a < b), "an alert was given twice");
    for (number, account) in year.accounts.iter().enumerate() {
        let charged: Decimal = records
            .charges
            .iter()
            .filter(|charge| records.owners[&charge.resource] == *account)
            .map(|charge| charge.money.amount)
            .sum();
        let used = year.meters.cost(number);
        assert_eq!(
            charged,
            Decimal::from_i128_with_scale(used, 6),
            "seed {seed}, {account}"
        );

        let own = year
            .prepaid
            .values()
            .filter(|(account, _)| *account == number);
        let paid = year.past[number] + own.map(|(_, naive)| naive.paid).sum::<i128>();
        let invoices = records.invoices.iter().filter(|it| it.account == *account);
        let total: Decimal = invoices.clone().map(|invoice| invoice.total).sum();
        let open = records.settlements.iter();
        let mut open = open.filter(|it| it.account == *account && it.to > year.shop.month.start());
        assert_eq!(open.next(), None, "seed {seed}, {account}");
        let later = records.purchases.iter().filter(|it| it.account == *account);
        let later = later.filter(|it| it.at >= year.shop.month.start());
        let later: Decimal = later.map(|purchase| purchase.money.amount).sum();
        // Whole cents of what was used, and what was paid in advance.
        let expected = Decimal::from_i128_with_scale(used / 10_000 + paid, 2);
        assert_eq!(total + later, expected, "seed {seed}, {account}");
    }
    year.seen
}

#[test]
fn a_year_of_a_thousand_instances_comes_to_what_it_should() {
    let seen = check(20_260_101, 1_400);
    assert!(seen.at_once >= 1_000 && seen.lives >= 2_000, "{seen:?}");
    let least = [
        (seen.restarts, 5),
        (seen.deaths, 3),
        (seen.pauses, 100),
        (seen.jumps, 10),
        (seen.swaps, 10),
        (seen.failures, 5),
        (seen.reclaims, 20),
        (seen.stops, 2),
        (seen.releases, 1),
        (seen.cleared, 5),
        (seen.auto_renewals, 10),
        (seen.expiries, 10),
        (seen.plan_changes, 10),
        (seen.alerts, 12),
    ];
    for (index, (count, least)) in least.into_iter().enumerate() {
        assert!(
            count >= least,
            "number {index} of {seen:?} should be {least} or more"
        );
    }
}

#[test]
fn so_do_other_years_of_smaller_hosts() {
    for seed in 1..=5 {
        check(seed, 15);
    }
}
