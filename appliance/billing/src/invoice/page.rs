//! An invoice as a page of text.

use super::Invoice;
use std::fmt::Write;

/// The longest text shown in a column, in characters.
const MAX_WIDTH: usize = 40;
const HEADER: [&str; 6] = ["resource", "meter", "for", "from", "to", "amount"];

impl Invoice {
    /// As a page that people read: lines in columns, then how they come to what is to be paid.
    #[must_use]
    pub fn to_page(&self) -> String {
        let mut page = format!(
            "Invoice {}\nAccount {}, {} (UTC), in {}\n\n",
            self.id, self.account, self.month, self.currency
        );
        let rows = self.lines.iter().map(|line| {
            let detail = match line.seconds {
                Some(seconds) => format!("{seconds} s, {}", line.detail),
                None => line.detail.clone(),
            };
            [
                shown(&line.resource),
                shown(&line.meter),
                shown(&detail),
                second(&line.from),
                second(&line.to),
                line.amount.to_string(),
            ]
        });
        let rows: Vec<[String; 6]> = rows.collect();
        if rows.is_empty() {
            page.push_str("Nothing was used or bought.\n");
        } else {
            table(&mut page, &rows);
        }
        page.push('\n');
        let sums = [
            ("Usage", self.usage),
            ("+ carried from before", self.carried_in),
            ("- carried on", self.carried_out),
            ("= settled", self.settled),
            ("+ purchases", self.purchases),
            ("- refunds", self.refunds),
            ("= to be paid", self.total),
        ];
        let sums = sums.map(|(name, amount)| (name, amount.to_string()));
        let width = sums.iter().map(|(_, amount)| amount.len()).max();
        let width = width.unwrap_or_default();
        for (name, amount) in sums {
            line(
                &mut page,
                format_args!("{name:<22} {amount:>width$} {}", self.currency),
            );
        }
        page
    }
}

/// Adds a heading, a rule and `rows`; the last column is aligned to the right.
fn table(page: &mut String, rows: &[[String; 6]]) {
    let mut widths = HEADER.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let [a, b, c, d, e, f] = widths;
    let mut row = |[resource, meter, detail, from, to, amount]: [&str; 6]| {
        line(
            page,
            format_args!(
                "{resource:<a$}  {meter:<b$}  {detail:<c$}  {from:<d$}  {to:<e$}  {amount:>f$}"
            ),
        );
    };
    row(HEADER);
    let rules = widths.map(|width| "-".repeat(width));
    row(rules.each_ref().map(String::as_str));
    for cells in rows {
        row(cells.each_ref().map(String::as_str));
    }
}

fn line(page: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(page, "{text}");
}

/// `text` on one line and not too wide: it may come from anyone.
fn shown(text: &str) -> String {
    let escaped = text.chars().flat_map(|c| {
        let control = c.is_control();
        let escaped = control.then(|| c.escape_default());
        escaped.into_iter().flatten().chain((!control).then_some(c))
    });
    let mut shown: String = escaped.take(MAX_WIDTH + 1).collect();
    if shown.chars().count() > MAX_WIDTH {
        shown = shown.chars().take(MAX_WIDTH - 1).collect();
        shown.push('…');
    }
    shown
}

/// A time without its milliseconds.
fn second(time: &types::Timestamp) -> String {
    let text = time.to_string();
    text.split_once('.')
        .map_or(text.clone(), |(second, _)| format!("{second}Z"))
}
