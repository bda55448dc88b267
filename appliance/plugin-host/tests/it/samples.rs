//! The sample policies, as they are built: the basic ones say what the built-in policies say, the others what their pages say.

use crate::{
    components::{Host, hosts, parameters, request},
    questions::{debt, instances, leases, now, offers, purchase, term},
};
use billing::{
    ArrearsStep, ChargeType, CommercialPolicy, Period, Quote, Renewal, SpotLease, SpotStrategy,
    StandardTerms, StockNeed,
};
use instance::admission::{AdmissionPolicy, Answer, Holdings};
use ledger::{PriceList, Prices, RatingInput, RatingPolicy, Usage};
use placement::{
    BuiltIn, DeploymentSet, HostRow, HostTable, PlacementRequest, SchedulingPolicy,
    Strategy as Built,
};
use plugin_host::{Limits, LoadError};
use proptest::{
    collection::{btree_map, vec},
    option,
    prelude::*,
    test_runner::{Config, TestRunner},
};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use types::{ByteCount, Currency, Decimal, DiskId, HostId, InstanceId, Timestamp, UsageId};

/// The built component: in the folder named by ASHLAR_PLUGINS, or where `cargo xtask targets` puts it.
fn sample(name: &str) -> Vec<u8> {
    let folder = std::env::var_os("ASHLAR_PLUGINS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/ashlar/plugins"),
        PathBuf::from,
    );
    let name = format!("{name}.wasm");
    let paths = [folder.join(&name), folder.join("other").join(&name)];
    let path = paths.iter().find(|path| path.exists()).unwrap_or(&paths[0]);
    std::fs::read(path).unwrap_or_else(|error| {
        panic!(
            "{}: {error}; build the sample policies with `cargo xtask targets`",
            path.display()
        )
    })
}

fn host() -> Host {
    // A busy machine must not decide whether policies agree.
    Host::new(Limits {
        deadline: Duration::from_secs(10),
        ..Limits::default()
    })
}

fn runner() -> TestRunner {
    TestRunner::new(Config {
        cases: 256,
        failure_persistence: None,
        ..Config::default()
    })
}

fn a_host() -> impl Strategy<Value = HostRow> {
    let size = (0_u32..64, 0_u32..64, 0_u64..256, 0_u64..256);
    let sets = btree_map("set-[ab]", 1_u32..4, 0..3);
    let rest = ("zone-[abc]", any::<bool>(), 0_u64..100, 0_u64..100, sets);
    (any::<u128>(), size, rest).prop_map(|(id, size, rest)| {
        let (vcpus, vcpus_used, memory, memory_used) = size;
        let (zone, accepting, disk, disk_used, deployment_sets) = rest;
        HostRow {
            accepting,
            vcpus_used,
            memory_used: ByteCount::from_gib(memory_used),
            local_disk_total: ByteCount::from_gib(disk),
            local_disk_used: ByteCount::from_gib(disk_used),
            deployment_sets,
            ..HostRow::new(
                HostId::generate(id),
                &zone,
                vcpus,
                ByteCount::from_gib(memory),
            )
        }
    })
}

fn a_request() -> impl Strategy<Value = PlacementRequest> {
    let size = (1_u32..16, 1_u64..64, 0_u64..20);
    let set = option::of(("set-[abc]", 1_u32..4));
    (any::<u128>(), size, option::of("zone-[abcd]"), set).prop_map(|(id, size, zone, set)| {
        PlacementRequest {
            instance: InstanceId::generate(id),
            vcpus: size.0,
            memory: ByteCount::from_gib(size.1),
            local_disk: ByteCount::from_gib(size.2),
            zone,
            deployment_set: set.map(|(id, max_per_host)| DeploymentSet { id, max_per_host }),
            ..request()
        }
    })
}

#[test]
fn scheduler_basic_agrees_with_the_built_in_policy() {
    let (host, bytes) = (host(), sample("scheduler-basic"));
    for strategy in [Built::Spread, Built::BinPack] {
        let name = strategy.to_string();
        let policy = host
            .host
            .load_scheduler("sample", &bytes, &parameters(&[("strategy", &name)]))
            .unwrap();
        let built_in = BuiltIn::new(strategy);
        let cases = (a_request(), vec(a_host(), 0..40));
        let outcome = runner().run(&cases, |(request, rows)| {
            let Ok(hosts) = HostTable::new(rows) else {
                return Err(TestCaseError::reject("an id twice"));
            };
            let said = policy.evaluate(&request, &hosts);
            prop_assert_eq!(said, Ok(built_in.verdicts(&request, &hosts)));
            Ok(())
        });
        outcome.unwrap();
        assert_eq!(policy.status().failures, 0);
    }
}

/// From 0 to a million, with so many decimal places at most.
fn a_price(places: u32) -> impl Strategy<Value = Decimal> {
    let digits = 0_i64..=1_000_000_000_000;
    (digits, 6..=places).prop_map(|(digits, scale)| Decimal::new(digits, scale))
}

fn a_usage() -> impl Strategy<Value = Usage> {
    // Up to 64 TiB, at up to a million per GiB and hour, for months: below what a price may be.
    let size = || 0_u64..1 << 46;
    let instance = ("type-[abc]", 1_u32..512, size(), any::<u128>());
    let disk = ("cloud-[abc]", size(), any::<u128>());
    let other = (
        "meter-[abc]",
        (0_i64..10_000_000).prop_map(|digits| Decimal::new(digits, 4)),
    );
    prop_oneof![
        instance.prop_map(
            |(instance_type, vcpus, memory, id)| Usage::InstanceRunning {
                instance: InstanceId::generate(id),
                instance_type,
                vcpus,
                memory: ByteCount::new(memory),
            }
        ),
        disk.prop_map(|(category, size, id)| Usage::DiskAllocated {
            disk: DiskId::generate(id),
            category,
            size: ByteCount::new(size),
        }),
        other.prop_map(|(name, quantity)| Usage::Other {
            resource: "r-1".to_owned(),
            name,
            quantity,
        }),
    ]
}

fn prices(places: u32) -> impl Strategy<Value = Prices> {
    let single = (a_price(places), a_price(places), a_price(places));
    let named = |pattern| btree_map(pattern, a_price(places), 0..3);
    let lists = (
        named("type-[abc]"),
        named("cloud-[abc]"),
        named("meter-[abc]"),
    );
    (single, lists).prop_map(|(single, lists)| Prices {
        currency: Currency::CNY,
        vcpu: single.0,
        memory_gib: single.1,
        disk_gib: single.2,
        instance_types: lists.0,
        disk_categories: lists.1,
        meters: lists.2,
    })
}

fn an_input() -> impl Strategy<Value = RatingInput> {
    let input = (a_usage(), any::<u128>(), 1_u64..10_000_000);
    input.prop_map(|(usage, id, seconds)| RatingInput {
        interval: UsageId::generate(id),
        usage,
        from: Timestamp::UNIX_EPOCH,
        seconds,
    })
}

#[test]
fn billing_payg_agrees_with_the_built_in_price_list() {
    let (host, bytes) = (host(), sample("billing-payg"));
    let cases = (prices(12), vec(an_input(), 0..20));
    let outcome = runner().run(&cases, |(prices, usage)| {
        let list = PriceList::new(prices).unwrap();
        let parameters = list.parameters().into_iter().collect();
        let policy = host.host.load_billing("sample", &bytes, &parameters);
        let policy = policy.map_err(|error| TestCaseError::fail(error.to_string()))?;
        let said = policy.rate(Currency::CNY, &usage);
        prop_assert_eq!(said, list.rate(Currency::CNY, &usage));
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn a_wrong_parameter_is_refused_in_the_policy_s_own_words() {
    let host = host();
    let wrong = parameters(&[("strategy", "sprad")]);
    let error = host
        .host
        .load_scheduler("sample", &sample("scheduler-basic"), &wrong)
        .err()
        .unwrap();
    assert!(matches!(error, LoadError::Configuration { .. }));
    let text = error.to_string();
    assert!(
        text.contains("`strategy` is `sprad`; it must be `spread` or `bin-pack`"),
        "{text}"
    );
    let error = host
        .host
        .load_billing("sample", &sample("billing-payg"), &parameters(&[]))
        .err()
        .unwrap();
    assert!(
        error
            .to_string()
            .contains("parameter `currency` is missing")
    );
}

#[test]
fn a_table_of_ten_thousand_hosts_fits_the_default_limits() {
    let host = host();
    let policy = host
        .host
        .load_scheduler("sample", &sample("scheduler-basic"), &parameters(&[]))
        .unwrap();
    let hosts = hosts(10_000);
    let verdicts = policy.evaluate(&request(), &hosts).unwrap();
    assert_eq!(verdicts, BuiltIn::default().verdicts(&request(), &hosts));
}

#[test]
fn a_currency_it_does_not_know_is_refused() {
    let host = host();
    let list = parameters(&[
        ("currency", "EUR"),
        ("vcpu", "1"),
        ("memory-gib", "1"),
        ("disk-gib", "1"),
    ]);
    let policy = host
        .host
        .load_billing("sample", &sample("billing-payg"), &list)
        .unwrap();
    let failure = policy.rate(Currency::CNY, &[]).unwrap_err();
    assert!(
        failure
            .message
            .contains("asked for in CNY, but are set in EUR"),
        "{failure}"
    );
}

/// One step of a sequence: what happens to the hosts, then what is asked.
fn a_step() -> impl Strategy<Value = (Vec<(usize, bool)>, Vec<PlacementRequest>, usize)> {
    let changes = vec((any::<usize>(), any::<bool>()), 0..6);
    (changes, vec(a_request(), 1..8), any::<usize>())
}

/// Whatever an instance was told and asked before, it gives the verdicts and the winners of a naive scan in native code, and of
/// an instance that was made for the question.
#[test]
fn a_kept_instance_answers_like_a_full_scan_and_like_a_new_instance() {
    let (kept, bytes) = (host(), sample("scheduler-basic"));
    let fresh = Host::new(Limits {
        deadline: Duration::from_secs(10),
        kept: 0,
        ..Limits::default()
    });
    for strategy in [Built::Spread, Built::BinPack] {
        let name = strategy.to_string();
        let load = |host: &Host| {
            let parameters = parameters(&[("strategy", &name)]);
            host.host
                .load_scheduler("sample", &bytes, &parameters)
                .unwrap()
        };
        let (kept, fresh) = (load(&kept), load(&fresh));
        let built_in = BuiltIn::new(strategy);
        let cases = (vec(a_host(), 0..40), vec(a_step(), 1..10));
        let outcome = runner().run(&cases, |(rows, steps)| {
            let Ok(mut hosts) = HostTable::new(rows) else {
                return Err(TestCaseError::reject("an id twice"));
            };
            for (changes, requests, asked) in steps {
                for (position, accepting) in changes {
                    if let Some(host) = hosts.ids().get(position % hosts.len().max(1)).copied() {
                        hosts.set_accepting(host, accepting).unwrap();
                    }
                }
                let one = &requests[asked % requests.len()];
                prop_assert_eq!(
                    kept.evaluate(one, &hosts),
                    Ok(built_in.verdicts(one, &hosts))
                );
                let placed = kept.place(&requests, &hosts).unwrap();
                prop_assert_eq!(&placed, &built_in.place(&requests, &hosts).unwrap());
                prop_assert_eq!(&placed, &fresh.place(&requests, &hosts).unwrap());
                // Some of them are really placed, so that the instance is sometimes ahead of the table.
                for (request, place) in requests.iter().zip(placed).take(asked % 4) {
                    if let Some(place) = place {
                        let host = hosts.ids()[place];
                        // Without those that weren't placed there is room.
                        let _ = hosts.reserve(host, &request.footprint());
                    }
                }
            }
            Ok(())
        });
        outcome.unwrap();
    }
}

/// Whatever is bought: a policy that only rates quotes what the standard terms quote, and follows the rules in the rest.
#[test]
fn a_policy_that_only_rates_makes_the_built_in_commercial_decisions() {
    makes_the_built_in_commercial_decisions("billing-payg", 12);
}

/// With prices of so many decimal places at most.
fn makes_the_built_in_commercial_decisions(name: &str, places: u32) {
    let (host, bytes) = (host(), sample(name));
    let period = prop_oneof![
        (1_u8..=4).prop_map(Period::weeks),
        (1_u8..=60).prop_map(Period::months),
        (1_u8..=5).prop_map(Period::years),
    ];
    let charge = prop_oneof![
        Just(ChargeType::PayAsYouGo),
        period.prop_map(|period| ChargeType::Subscription {
            period: period.unwrap()
        }),
        (option::of(a_price(12)), option::of(a_price(12)))
            .prop_map(|(limit, market)| ChargeType::Preemptible { limit, market }),
    ];
    // A hundred for five years at the highest price: below what a quote may be.
    let cases = (
        prices(places),
        charge,
        1_u32..100,
        1_u64..100,
        vec(a_lease(), 0..8),
    );
    let outcome = runner().run(&cases, |(prices, charge, count, gib, leases)| {
        let list = PriceList::new(prices).unwrap();
        let parameters = list.parameters().into_iter().collect();
        let policy = host
            .host
            .load_billing("sample", &bytes, &parameters)
            .unwrap();
        let mut asked = purchase();
        asked.instance_type = "type-a".to_owned();
        asked.charge = charge;
        asked.count = count;
        asked.disks[0].size = ByteCount::from_gib(gib);
        let standard = StandardTerms::new(list);
        let said = policy.quote(Currency::CNY, &asked);
        prop_assert_eq!(said, standard.quote(Currency::CNY, &asked));
        prop_assert_eq!(policy.renewal(&term()), standard.renewal(&term()));
        prop_assert_eq!(policy.arrears(&debt()), standard.arrears(&debt()));
        let need = StockNeed::default();
        let order = policy.preempt(&leases, need, now());
        prop_assert_eq!(order, standard.preempt(&leases, need, now()));
        Ok(())
    });
    outcome.unwrap();
}

/// One of a few limits, so that some are equal, written in more than one way; a few are in their first hour.
fn a_lease() -> impl Strategy<Value = SpotLease> {
    let limit = option::of((0_i64..20, 0_u32..3));
    (any::<u128>(), limit, 0_i64..4).prop_map(|(id, limit, minutes)| SpotLease {
        instance: InstanceId::generate(id),
        started: Timestamp::from_unix_millis(minutes * 60_000).unwrap(),
        strategy: limit.map_or(SpotStrategy::SpotAsPriceGo, |(digits, scale)| {
            SpotStrategy::SpotWithPriceLimit {
                limit: Decimal::new(digits, scale),
            }
        }),
        ..leases().remove(0)
    })
}

/// Its prices have nine decimal places at most, and it computes exactly what the price list rounds to 28 digits on the way.
#[test]
fn a_policy_in_c_agrees_with_the_built_in_price_list() {
    let (host, bytes) = (host(), sample("billing-flat-c"));
    let cases = (prices(9), vec(an_input(), 0..20));
    let outcome = runner().run(&cases, |(prices, usage)| {
        let list = PriceList::new(prices).unwrap();
        let parameters = list.parameters().into_iter().collect();
        let policy = host.host.load_billing("sample", &bytes, &parameters);
        let policy = policy.map_err(|error| TestCaseError::fail(error.to_string()))?;
        let said = policy.rate(Currency::CNY, &usage).unwrap();
        let listed = list.rate(Currency::CNY, &usage).unwrap();
        prop_assert_eq!(said.len(), listed.len());
        for (said, listed) in said.iter().zip(&listed) {
            let off = (said.amount - listed.amount).abs();
            prop_assert!(off <= Decimal::new(1, 9), "{} {}", said, listed);
        }
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn a_policy_in_c_makes_the_built_in_commercial_decisions() {
    makes_the_built_in_commercial_decisions("billing-flat-c", 9);
}

#[test]
fn a_policy_in_c_imports_nothing_else_and_refuses_wrong_parameters() {
    let (host, bytes) = (host(), sample("billing-flat-c"));
    let facts = host.host.inspect("sample", &bytes).unwrap();
    let other = |import: &&String| {
        !["ashlar:policy/log@", "ashlar:policy/random@"]
            .iter()
            .any(|known| import.starts_with(known))
    };
    assert_eq!(facts.imports.iter().find(other), None);
    let list = [
        ("currency", "CNY"),
        ("vcpu", "0.10"),
        ("memory-gib", "0.05"),
        ("disk-gib", "0"),
    ];
    let load = |more: &[(&str, &str)]| {
        let list = parameters(&[&list[..], more].concat());
        host.host.load_billing("sample", &bytes, &list)
    };
    let policy = load(&[]).unwrap();
    let prices = policy.rate(Currency::CNY, &[hours(1), hours(24)]).unwrap();
    let prices = prices.iter().map(|price| price.amount.to_string());
    assert_eq!(prices.collect::<Vec<_>>(), ["1.2", "28.8"]);
    let failure = policy.rate(Currency::EUR, &[]).unwrap_err();
    assert!(
        failure
            .message
            .contains("asked for in EUR, but are set in CNY"),
        "{failure}"
    );
    for (name, value, said) in [
        ("vpcu", "1", "unknown parameter `vpcu`"),
        ("instance-type.x", "-1", "`instance-type.x` is `-1`"),
        ("meter.x", "1000000.1", "from 0 to 1000000"),
        ("meter.x", "0.0000000001", "at most nine decimal places"),
        ("vcpu", "", "parameter `vcpu` is ``"),
    ] {
        let error = load(&[(name, value)]).err().unwrap().to_string();
        assert!(error.contains(said), "{error}");
    }
}

/// Six hosts in three zones.
fn zones() -> HostTable {
    let host = |id: u32| {
        let zone = ["zone-a", "zone-b", "zone-c"][usize::try_from(id % 3).unwrap()];
        HostRow::new(
            HostId::generate(id.into()),
            zone,
            16,
            ByteCount::from_gib(64),
        )
    };
    HostTable::new((0..6).map(host).collect()).unwrap()
}

/// How many of these places are in each zone.
fn by_zone(hosts: &HostTable, places: &[Option<usize>]) -> Vec<usize> {
    let zone = |place: &Option<usize>| hosts.columns().zone[place.unwrap()];
    let zones: Vec<u32> = places.iter().map(zone).collect();
    let of = |wanted: u32| zones.iter().filter(|zone| **zone == wanted).count();
    (0..3).map(of).collect()
}

#[test]
fn spread_domains_gives_each_zone_and_each_host_as_many_members_of_a_set() {
    let host = host();
    let policy = host
        .host
        .load_scheduler(
            "sample",
            &sample("scheduler-spread-domains"),
            &parameters(&[("max-skew", "1")]),
        )
        .unwrap();
    let hosts = zones();
    let member = |id: u128| PlacementRequest {
        instance: InstanceId::generate(id),
        deployment_set: Some(DeploymentSet {
            id: "ds-1".to_owned(),
            max_per_host: 2,
        }),
        ..request()
    };
    let requests: Vec<PlacementRequest> = (0..6).map(member).collect();
    let places = policy.place(&requests, &hosts).unwrap();
    assert_eq!(by_zone(&hosts, &places), [2, 2, 2]);
    let mut used: Vec<usize> = places.into_iter().flatten().collect();
    used.sort_unstable();
    assert_eq!(used, [0, 1, 2, 3, 4, 5]);
}

#[test]
fn carbon_aware_fills_the_clean_zone_first() {
    let host = host();
    let power = [
        ("carbon.zone-a", "500"),
        ("carbon.zone-b", "20"),
        ("carbon.zone-c", "500"),
        ("weight-carbon", "4"),
    ];
    let policy = host
        .host
        .load_scheduler(
            "sample",
            &sample("scheduler-carbon-aware"),
            &parameters(&power),
        )
        .unwrap();
    let hosts = zones();
    let one = |id: u128| PlacementRequest {
        instance: InstanceId::generate(id),
        ..request()
    };
    // Two hosts of the clean zone take eight each.
    let requests: Vec<PlacementRequest> = (0..18).map(one).collect();
    let places = policy.place(&requests, &hosts).unwrap();
    assert_eq!(by_zone(&hosts, &places[..16]), [0, 16, 0]);
    assert_eq!(by_zone(&hosts, &places)[1], 16);
}

/// An hour or more of an instance of 4 vCPUs and 16 GiB.
fn hours(hours: u64) -> RatingInput {
    RatingInput {
        interval: UsageId::generate(1),
        usage: Usage::InstanceRunning {
            instance: InstanceId::generate(1),
            instance_type: "ecs.g6.xlarge".to_owned(),
            vcpus: 4,
            memory: ByteCount::from_gib(16),
        },
        from: Timestamp::UNIX_EPOCH,
        seconds: hours * 3600,
    }
}

fn total(quote: &Quote) -> String {
    quote.total().unwrap().amount.normalize().to_string()
}

#[test]
fn tiered_prices_begin_after_the_free_quota() {
    let host = host();
    let tiers = [
        ("currency", "CNY"),
        ("tiers.vcpu", "0: 0.10; 100: 0.05"),
        ("free.vcpu", "40"),
    ];
    let policy = host
        .host
        .load_billing("sample", &sample("billing-tiered"), &parameters(&tiers))
        .unwrap();
    let usage = [10, 20, 60].map(hours);
    let prices = policy.rate(Currency::CNY, &usage).unwrap();
    let prices: Vec<String> = prices
        .iter()
        .map(|price| price.amount.normalize().to_string())
        .collect();
    // 240 vCPU-hours: 40 free, 100 at 0.10, 100 at 0.05.
    assert_eq!(prices, ["0", "4", "15"]);
    let quote = policy.quote(Currency::CNY, &purchase()).unwrap();
    assert_eq!(total(&quote), "0.4");
    assert!(quote.lines[0].item.contains("beyond the free quota"));
}

#[test]
fn committed_use_is_cheaper_and_ends() {
    let host = host();
    let commitment = [
        ("currency", "CNY"),
        ("vcpu", "0.10"),
        ("memory-gib", "0.05"),
        ("disk-gib", "0"),
        ("committed-vcpus", "2"),
        ("committed-memory-gib", "8"),
        ("discount", "0.5"),
        ("until", "1970-01-02"),
    ];
    let policy = host
        .host
        .load_billing(
            "sample",
            &sample("billing-committed-use"),
            &parameters(&commitment),
        )
        .unwrap();
    let prices = policy.rate(Currency::CNY, &[hours(1), hours(25)]).unwrap();
    // 1.2 on demand, of which half is committed; a day of that, and an hour after it.
    assert_eq!(prices[0].amount.normalize().to_string(), "0.9");
    assert_eq!(prices[1].amount.normalize().to_string(), "22.8");
    let quote = policy.quote(Currency::CNY, &purchase()).unwrap();
    assert_eq!(total(&quote), "0.6");
    assert_eq!(
        quote.lines[0].discount.as_deref(),
        Some("committed use, 50 % off")
    );
    let mut late = term();
    assert!(matches!(
        policy.renewal(&late).unwrap(),
        Renewal::Renew { .. }
    ));
    late.expires = Timestamp::from_unix_millis(48 * 3_600_000).unwrap();
    assert!(matches!(
        policy.renewal(&late).unwrap(),
        Renewal::Refuse { .. }
    ));
    assert_eq!(policy.arrears(&debt()), Ok(ArrearsStep::Wait));
}

#[test]
fn guard_rails_refuse_and_fill_in() {
    let host = host();
    let rails = [
        ("max-account-vcpus", "8"),
        ("required-tags", "team"),
        ("default-tag.cost-centre", "42"),
        ("disk-category", "cloud_essd"),
    ];
    let policy = host
        .host
        .load_admission(
            "sample",
            &sample("admission-guard-rails"),
            &parameters(&rails),
        )
        .unwrap();
    let admit = |vcpus: u32| {
        let holdings = Holdings {
            vcpus,
            ..Holdings::default()
        };
        policy.admit(&instances(), &holdings, &offers()).unwrap()
    };
    let Answer::Amend(amendment) = admit(6) else {
        panic!("it is amended");
    };
    assert_eq!(
        amendment.add_tags,
        [("cost-centre".to_owned(), "42".to_owned())]
    );
    assert_eq!(amendment.disk_category.as_deref(), Some("cloud_essd"));
    let Answer::Refuse { reason, message } = admit(7) else {
        panic!("it is refused");
    };
    assert_eq!(reason, "account-limit");
    assert!(message.contains("may have 8 vCPUs; it has 7"), "{message}");
    let wrong = parameters(&[("max-vcpus", "many")]);
    let error = host
        .host
        .load_admission("sample", &sample("admission-guard-rails"), &wrong)
        .err()
        .unwrap();
    assert!(error.to_string().contains("`max-vcpus` is `many`"));
}

#[test]
fn quotas_refuse_what_is_beyond_an_accounts_own() {
    let host = host();
    let quotas = [("max-vcpus", "4"), ("account.team-a.max-vcpus", "8")];
    let policy = host
        .host
        .load_admission("sample", &sample("admission-quotas"), &parameters(&quotas))
        .unwrap();
    let admit = |vcpus: u32| {
        let holdings = Holdings {
            vcpus,
            ..Holdings::default()
        };
        policy.admit(&instances(), &holdings, &offers()).unwrap()
    };
    assert_eq!(admit(6), Answer::Admit);
    let Answer::Refuse { reason, message } = admit(7) else {
        panic!("it is refused");
    };
    assert_eq!(reason, "vcpu-quota");
    assert!(
        message.contains("has 7 of 8 vCPUs: 1 left, 2 asked for"),
        "{message}"
    );
    let wrong = parameters(&[("account.team-a.max-vcpus", "many")]);
    let error = host
        .host
        .load_admission("sample", &sample("admission-quotas"), &wrong)
        .err()
        .unwrap();
    assert!(
        error
            .to_string()
            .contains("`account.team-a.max-vcpus` is `many`")
    );
}

#[test]
fn tags_are_added_and_names_and_protection_follow_from_them() {
    let host = host();
    let rules = [
        ("account.team-a.tag.env", "production"),
        ("values.team", "a, b"),
        ("protect-if", "env=production"),
        ("name", "{tag.team}-{tag.env}"),
    ];
    let policy = host
        .host
        .load_admission("sample", &sample("admission-tags"), &parameters(&rules))
        .unwrap();
    let mut asked = instances();
    asked.deletion_protection = false;
    let answer = policy.admit(&asked, &Holdings::default(), &offers());
    let Answer::Amend(amendment) = answer.unwrap() else {
        panic!("it is amended");
    };
    assert_eq!(
        amendment.add_tags,
        [("env".to_owned(), "production".to_owned())]
    );
    assert_eq!(amendment.name.as_deref(), Some("a-production"));
    assert_eq!(amendment.deletion_protection, Some(true));
    asked.tags.insert("team".to_owned(), "z".to_owned());
    let answer = policy.admit(&asked, &Holdings::default(), &offers());
    let Answer::Refuse { reason, message } = answer.unwrap() else {
        panic!("it is refused");
    };
    assert_eq!(reason, "tag-value-not-allowed");
    assert!(message.contains("it may be `a`, `b`"), "{message}");
    let wrong = parameters(&[("protect-if", "production")]);
    let error = host
        .host
        .load_admission("sample", &sample("admission-tags"), &wrong)
        .err()
        .unwrap();
    assert!(error.to_string().contains("`protect-if` has `production`"));
}
