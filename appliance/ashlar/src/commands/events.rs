//! `ashlar events`.

use clap::Args;

use crate::{
    client::{Client, Error},
    output::{Format, Output, print},
};

/// Watch what happens, as it happens.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ashlar events\n  ashlar events --subject i-… -o json | jq .state"
)]
pub struct Events {
    /// Only what happens to this
    #[arg(long, value_name = "ID")]
    subject: Option<String>,
    /// End after this many events
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

impl Events {
    /// Prints events, one per line, until the host goes away or enough were seen.
    pub async fn execute(self, client: &Client, output: &Output) -> Result<(), Error> {
        let mut events = client.events().await?;
        let mut left = self.count.unwrap_or(u64::MAX);
        while left > 0 {
            let Some(event) = events.next().await? else {
                return Err(Error::Failed("the host ended the event stream".into()));
            };
            if self
                .subject
                .as_ref()
                .is_some_and(|subject| *subject != event.subject_id)
            {
                continue;
            }
            left -= 1;
            match output.format {
                Format::Json => print(&serde_json::to_string(&event).map_err(|source| {
                    Error::NotUnderstood {
                        what: "an event".into(),
                        source: source.into(),
                    }
                })?)?,
                Format::Table if output.quiet => print(&event.subject_id)?,
                Format::Table => print(&format!(
                    "{}  {:<22}  {}  {}",
                    event.at, event.kind, event.subject_id, event.message
                ))?,
            }
        }
        Ok(())
    }
}
