//! An invoice as comma-separated values.

use super::{Invoice, InvoiceError};
use std::borrow::Cow;
use types::Decimal;

const HEADER: [&str; 12] = [
    "invoice", "account", "month", "currency", "kind", "resource", "meter", "detail", "from", "to",
    "seconds", "amount",
];

impl Invoice {
    /// As CSV (RFC 4180, with a header): its lines, then `carried-in`, `carried-out` and `total`. The amounts of all rows
    /// before `total` add up to it.
    ///
    /// Names come from anyone, and spreadsheets run what begins with `=`, `+`, `-` or `@`: such a text gets a `'` before it.
    ///
    /// # Errors
    /// [`InvoiceError::Unwritable`].
    pub fn to_csv(&self) -> Result<String, InvoiceError> {
        let unwritable =
            |error: &dyn std::fmt::Display| InvoiceError::Unwritable(error.to_string());
        let mut table = csv::Writer::from_writer(Vec::new());
        table
            .write_record(HEADER)
            .map_err(|error| unwritable(&error))?;
        for row in self.rows() {
            table
                .write_record(&row)
                .map_err(|error| unwritable(&error))?;
        }
        let bytes = table.into_inner().map_err(|error| unwritable(&error))?;
        String::from_utf8(bytes).map_err(|error| unwritable(&error))
    }

    fn rows(&self) -> Vec<[String; HEADER.len()]> {
        let row = |kind: &str,
                   [resource, meter, detail]: [&str; 3],
                   time: [String; 3],
                   amount: Decimal| {
            let [from, to, seconds] = time;
            [
                self.id.to_string(),
                self.account.to_string(),
                self.month.to_string(),
                self.currency.to_string(),
                kind.to_owned(),
                harmless(resource).into_owned(),
                harmless(meter).into_owned(),
                harmless(detail).into_owned(),
                from,
                to,
                seconds,
                amount.to_string(),
            ]
        };
        let lines = self.lines.iter().map(|line| {
            let seconds = line.seconds.map(|seconds| seconds.to_string());
            row(
                line.kind.name(),
                [&line.resource, &line.meter, &line.detail],
                [
                    line.from.to_string(),
                    line.to.to_string(),
                    seconds.unwrap_or_default(),
                ],
                line.amount,
            )
        });
        let sums = [
            ("carried-in", self.carried_in),
            ("carried-out", Decimal::ZERO - self.carried_out),
            ("total", self.total),
        ];
        let sums = sums.map(|(kind, amount)| row(kind, [""; 3], Default::default(), amount));
        lines.chain(sums).collect()
    }
}

/// `text` as a spreadsheet only shows it.
fn harmless(text: &str) -> Cow<'_, str> {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        Cow::Owned(format!("'{text}"))
    } else {
        Cow::Borrowed(text)
    }
}
