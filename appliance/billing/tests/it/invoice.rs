use crate::common::{DAY, HOUR, account, at, charge, cny, decimal, stored};
use billing::{
    Books, Invoice, InvoiceError, LineKind, Purchase, PurchaseKind, Settlement, Settler,
};
use ledger::Charge;
use proptest::{collection::vec, prelude::*};
use types::{Currency, Decimal, Month, PurchaseId, SubscriptionId};

fn january() -> Month {
    "2026-01".parse().unwrap()
}

fn purchase(number: u128, day: i64, amount: &str) -> Purchase {
    Purchase {
        id: PurchaseId::generate(number),
        subscription: SubscriptionId::generate(1),
        account: account("a"),
        resource: "i-00000000000000009".to_owned(),
        kind: match amount.starts_with('-') {
            true => PurchaseKind::Downgrade,
            false => PurchaseKind::Upgrade,
        },
        plan: "large".to_owned(),
        at: at(day * DAY),
        from: at(day * DAY),
        to: at(60 * DAY),
        money: cny(amount),
    }
}

fn settled(charges: &[Charge]) -> Vec<Settlement> {
    let mut settler = Settler::new(account("a"), Currency::CNY);
    for charge in charges {
        settler.add(charge).unwrap();
    }
    settler.due(at(400 * DAY)).unwrap()
}

fn invoice(charges: &[Charge], purchases: &[Purchase], month: Month) -> Invoice {
    let settlements = settled(charges);
    let books = Books::new(charges, &settlements, purchases);
    books.invoice(&account("a"), Currency::CNY, month).unwrap()
}

fn january_invoice() -> Invoice {
    let charges = [
        charge(0, HOUR, 1_234_567),
        charge(1, HOUR, 10_000),
        charge(3, 31 * DAY, 5_000_009),
        charge(6, 31 * DAY + 1, 777),
    ];
    let purchases = [
        purchase(1, 3, "350.00"),
        purchase(2, 4, "-300.00"),
        purchase(3, 31, "9.00"),
    ];
    invoice(&charges, &purchases, january())
}

#[test]
fn a_month_has_its_hours_its_purchases_and_its_refunds() {
    let invoice = january_invoice();
    let lines: Vec<_> = invoice
        .lines
        .iter()
        .map(|line| (line.kind, line.seconds, line.amount.to_string()))
        .collect();
    assert_eq!(
        lines,
        [
            (LineKind::Usage, Some(2), "6.234576".to_owned()),
            (LineKind::Usage, Some(1), "0.010000".to_owned()),
            (LineKind::Purchase, None, "350.00".to_owned()),
            (LineKind::Refund, None, "-300.00".to_owned()),
        ]
    );
    assert_eq!(invoice.usage, decimal("6.244576"));
    assert_eq!(invoice.settled.to_string(), "6.24");
    assert_eq!(invoice.carried_out, decimal("0.004576"));
    assert_eq!(
        (invoice.purchases, invoice.refunds),
        (350.into(), 300.into())
    );
    assert_eq!(invoice.total.to_string(), "56.24");
    assert_eq!(stored(&invoice), invoice);
}

#[test]
fn an_empty_month_carries_on() {
    let charges = [charge(0, HOUR, 1_234_567)];
    let march = invoice(&charges, &[], "2026-03".parse().unwrap());
    assert_eq!(march.lines, []);
    assert_eq!(march.carried_in, decimal("0.004567"));
    assert_eq!(march.carried_out, march.carried_in);
    assert_eq!(march.total.to_string(), "0.00");
    assert!(march.to_page().contains("Nothing was used or bought."));
}

#[test]
fn a_settlement_without_its_charge_is_named() {
    let charges = [charge(0, HOUR, 5), charge(1, HOUR, 5)];
    let settlements = settled(&charges);
    let books = Books::new(&charges[..1], &settlements, []);
    let error = books.invoice(&account("a"), Currency::CNY, january());
    let (settlement, charge) = (settlements[0].id, charges[1].id);
    assert_eq!(
        error,
        Err(InvoiceError::UnknownCharge { settlement, charge })
    );
}

#[test]
fn the_page_reads_well() {
    let page = january_invoice().to_page();
    let expected = "\
resource             meter             for              from                  to                      amount
-------------------  ----------------  ---------------  --------------------  --------------------  --------
i-00000000000000000  instance-running  2 s, 2 charges   2026-01-01T00:59:59Z  2026-02-01T00:00:00Z  6.234576
i-00000000000000001  instance-running  1 s, 1 charge    2026-01-01T00:59:59Z  2026-01-01T01:00:00Z  0.010000
i-00000000000000009  subscription      upgrade large    2026-01-04T00:00:00Z  2026-03-02T00:00:00Z    350.00
i-00000000000000009  subscription      downgrade large  2026-01-05T00:00:00Z  2026-03-02T00:00:00Z   -300.00

Usage                  6.244576 CNY
+ carried from before  0.000000 CNY
- carried on           0.004576 CNY
= settled                  6.24 CNY
+ purchases              350.00 CNY
- refunds                300.00 CNY
= to be paid              56.24 CNY
";
    assert!(page.starts_with("Invoice inv-"), "{page}");
    assert!(
        page.contains("\nAccount a, 2026-01 (UTC), in CNY\n\n"),
        "{page}"
    );
    assert!(page.ends_with(expected), "{page}");
}

#[test]
fn names_from_anyone_stay_text() {
    let mut evil = charge(0, HOUR, 10_000);
    evil.meter = "=cmd|'/c calc'!A1".to_owned();
    evil.resource = "a\"b,\nc\u{1b}[2J".repeat(9);
    let invoice = invoice(&[evil.clone()], &[], january());
    let csv = invoice.to_csv().unwrap();
    let mut table = csv::Reader::from_reader(csv.as_bytes());
    let row = table.records().next().unwrap().unwrap();
    assert_eq!((&row[5], &row[6]), (&*evil.resource, "'=cmd|'/c calc'!A1"));
    let page = invoice.to_page();
    assert!(
        !page.contains('\u{1b}') && page.contains("a\"b,\\nc\\u{1b}[2J"),
        "{page}"
    );
    assert!(
        page.lines().all(|line| line.chars().count() < 200),
        "{page}"
    );
}

proptest! {
    #[test]
    fn months_come_to_what_was_settled_and_tables_add_up(
        used in vec((0..90 * DAY, 0..3_000_000_i64), 0..60),
        bought in vec((0..90_i64, -500..500_i64), 0..10),
    ) {
        let charges: Vec<Charge> = (0..).zip(&used).map(|(number, (to, micros))| charge(number, *to, *micros)).collect();
        let purchases: Vec<Purchase> = (0..).zip(&bought)
            .map(|(number, (day, cents))| purchase(number, *day, &Decimal::new(*cents, 2).to_string()))
            .collect();
        let settlements = settled(&charges);
        let books = Books::new(&charges, &settlements, &purchases);
        let mut month = january();
        let (mut total, mut carried) = (Decimal::ZERO, Decimal::ZERO);
        for _ in 0..5 {
            let invoice = books.invoice(&account("a"), Currency::CNY, month).unwrap();
            prop_assert_eq!(invoice.carried_in, carried);
            carried = invoice.carried_out;
            total += invoice.total;
            let csv = invoice.to_csv().unwrap();
            let mut table = csv::Reader::from_reader(csv.as_bytes());
            let rows: Vec<_> = table.records().map(Result::unwrap).collect();
            let amount = |row: &csv::StringRecord| row[11].parse::<Decimal>().unwrap();
            let (last, lines) = rows.split_last().unwrap();
            prop_assert_eq!((&last[4], amount(last)), ("total", invoice.total));
            prop_assert_eq!(lines.iter().map(amount).sum::<Decimal>(), invoice.total);
            prop_assert_eq!(lines.len(), invoice.lines.len() + 2);
            prop_assert!(rows.iter().all(|row| !amount(row).is_zero() || !row[11].starts_with('-')));
            month = month.next();
        }
        let used: Decimal = charges.iter().map(|charge| charge.money.amount).sum();
        let bought: Decimal = purchases.iter().map(|purchase| purchase.money.amount).sum();
        prop_assert_eq!(total + carried, used + bought);
        prop_assert!(carried < decimal("0.01") && carried >= Decimal::ZERO);
    }
}
