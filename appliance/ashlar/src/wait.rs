//! Waiting for instances to come to a state, on the host's event stream.

use std::time::Duration;

use api_types::{Instance, InstanceIntent, InstanceState};

use crate::client::{Client, Error, EventStream, encode};

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The instance is in that state.
    State(InstanceState),
    /// The guest wrote its first byte.
    FirstOutput,
}

impl Wanted {
    fn name(self) -> &'static str {
        match self {
            Self::State(state) => state.as_str(),
            Self::FirstOutput => "first output",
        }
    }

    fn holds(self, instance: &Instance) -> bool {
        match self {
            Self::State(state) => instance.state == state,
            Self::FirstOutput => {
                instance.state == InstanceState::Running
                    && instance.api_to_first_guest_output_ms.is_some()
            }
        }
    }
}

/// A view of the event stream, opened before the action that is waited for, so that nothing falls between the two.
pub struct Watch<'a> {
    client: &'a Client,
    events: EventStream,
}

impl<'a> Watch<'a> {
    /// Begins to watch.
    ///
    /// # Errors
    /// The host cannot be reached, or it refused.
    pub async fn open(client: &'a Client) -> Result<Self, Error> {
        let events = client.events().await?;
        Ok(Self { client, events })
    }

    /// Waits until each of `ids` was seen as wanted; returns them in the order of `ids`, as they were last seen.
    ///
    /// # Errors
    /// [`Error::TimedOut`] after `limit`; [`Error::Failed`] when an instance came to rest in `Stopped` instead;
    /// whatever the host refuses.
    pub async fn until(
        mut self,
        ids: &[String],
        wanted: Wanted,
        limit: Duration,
    ) -> Result<Vec<Instance>, Error> {
        let mut seen: Vec<Seen> = ids.iter().map(|id| Seen::nothing_of(id)).collect();
        match tokio::time::timeout(limit, self.watch(&mut seen, wanted)).await {
            Ok(Ok(())) => Ok(seen.into_iter().filter_map(|seen| seen.instance).collect()),
            Ok(Err(error)) => Err(error),
            Err(_) => {
                let late: Vec<String> = seen
                    .iter()
                    .filter(|seen| !seen.reached)
                    .map(Seen::to_string)
                    .collect();
                Err(Error::TimedOut(format!(
                    "waited {} s for {}: {}",
                    limit.as_secs(),
                    wanted.name(),
                    late.join(", ")
                )))
            }
        }
    }

    /// Waits until none of `ids` exists any more.
    ///
    /// # Errors
    /// [`Error::TimedOut`] after `limit`; whatever the host refuses.
    pub async fn until_gone(mut self, ids: &[String], limit: Duration) -> Result<(), Error> {
        let mut left: Vec<&String> = ids.iter().collect();
        let gone = async {
            loop {
                let mut there = Vec::new();
                for id in left.drain(..) {
                    match self.client.get::<Instance>(&path(id)).await {
                        Ok(_) => there.push(id),
                        Err(Error::Refused(problem)) if problem.status == 404 => {}
                        Err(error) => return Err(error),
                    }
                }
                left = there;
                loop {
                    if left.is_empty() {
                        return Ok(());
                    }
                    match self.events.next().await? {
                        Some(event) if event.kind == "instance.released" => {
                            left.retain(|id| **id != event.subject_id);
                        }
                        Some(_) => {}
                        None => break,
                    }
                }
                self.events = self.client.events().await?;
            }
        };
        match tokio::time::timeout(limit, gone).await {
            Ok(result) => result,
            Err(_) => Err(Error::TimedOut(format!(
                "waited {} s for {} to be gone",
                limit.as_secs(),
                ids.join(", ")
            ))),
        }
    }

    async fn watch(&mut self, seen: &mut [Seen], wanted: Wanted) -> Result<(), Error> {
        loop {
            for one in seen.iter_mut().filter(|one| !one.reached) {
                one.look(self.client, wanted).await?;
            }
            loop {
                if seen.iter().all(|one| one.reached) {
                    return Ok(());
                }
                let Some(event) = self.events.next().await? else {
                    break;
                };
                let Some(one) = seen
                    .iter_mut()
                    .find(|one| one.id == event.subject_id && !one.reached)
                else {
                    continue;
                };
                // A state that lasts shorter than a look takes is seen all the same.
                let passed =
                    event.kind == "instance.state" && event.state.as_deref() == Some(wanted.name());
                one.reached |= passed;
                one.look(self.client, wanted).await?;
            }
            // The host ended the stream (it is going down, or the reader was too slow): begin again.
            self.events = self.client.events().await?;
        }
    }
}

fn path(id: &str) -> String {
    format!("/v1/instances/{}", encode(id))
}

/// What was seen of an instance.
struct Seen {
    id: String,
    instance: Option<Instance>,
    reached: bool,
}

impl Seen {
    fn nothing_of(id: &str) -> Self {
        Self {
            id: id.into(),
            instance: None,
            reached: false,
        }
    }

    async fn look(&mut self, client: &Client, wanted: Wanted) -> Result<(), Error> {
        let instance: Instance = client.get(&path(&self.id)).await?;
        self.reached |= wanted.holds(&instance);
        let at_rest =
            instance.state == InstanceState::Stopped && instance.intent != InstanceIntent::Running;
        if at_rest && !self.reached {
            let why = instance
                .state_reason
                .as_ref()
                .map_or("no reason given", |reason| &reason.message);
            return Err(Error::Failed(format!("{} is Stopped: {why}", self.id)));
        }
        self.instance = Some(instance);
        Ok(())
    }
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.instance {
            Some(instance) => write!(f, "{} is {}", self.id, instance.state.as_str()),
            None => write!(f, "{} was not seen", self.id),
        }
    }
}
