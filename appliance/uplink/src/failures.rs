//! Steps that failed, and when each is tried again: one that always fails must not keep the others from coming to rest.

use std::time::Duration;

use crate::Error;
use crate::action::Action;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(crate) struct Failures(Vec<Failure>);

#[derive(Debug)]
struct Failure {
    action: Action,
    message: String,
    tries: u32,
    again: Duration,
}

impl Failures {
    /// Steps that are not to be tried now.
    pub(crate) fn held_back(&self, now: Duration) -> Vec<Action> {
        let waiting = self.0.iter().filter(|f| f.again > now);
        waiting.map(|f| f.action.clone()).collect()
    }

    pub(crate) fn failed(&mut self, action: Action, error: &Error, now: Duration) {
        let before = self.0.iter().find(|f| f.action.is_again(&action));
        let tries = before.map_or(0, |f| f.tries);
        let pause = FIRST_PAUSE * 2_u32.pow(tries.min(10));
        self.succeeded(&action);
        self.0.push(Failure {
            action,
            message: error.chain(),
            tries: tries + 1,
            again: now + pause.min(LONGEST_PAUSE),
        });
    }

    pub(crate) fn succeeded(&mut self, action: &Action) {
        self.0.retain(|f| !f.action.is_again(action));
    }

    /// Forgets those that nobody wants any more.
    pub(crate) fn keep(&mut self, wanted: &[Action]) {
        self.0
            .retain(|f| wanted.iter().any(|w| w.is_again(&f.action)));
    }

    /// When the next one is due.
    pub(crate) fn due(&self) -> Option<Duration> {
        self.0.iter().map(|f| f.again).min()
    }

    /// Why an interface is not as it shall be.
    pub(crate) fn of(&self, interface: &str) -> Option<&str> {
        let failure = self.0.iter().find(|f| f.action.interface() == interface);
        failure.map(|f| f.message.as_str())
    }

    pub(crate) fn messages(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|f| f.message.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn what_fails_again_and_again_is_tried_ever_more_rarely() {
        let step = |mtu| Action::Mtu {
            index: 2,
            name: "lan".into(),
            mtu,
        };
        let error = Error::Step {
            step: "set its MTU to 9000".into(),
            interface: "lan".into(),
            source: io::ErrorKind::InvalidInput.into(),
        };
        let mut failures = Failures::default();
        let mut now = Duration::from_secs(100);
        for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
            failures.failed(step(9000), &error, now);
            assert_eq!(failures.held_back(now), [step(9000)]);
            let due = failures.due().expect("one");
            assert_eq!(due - now, Duration::from_secs(pause));
            now = due;
            assert_eq!(failures.held_back(now), []);
        }
        assert_eq!(failures.messages().count(), 1);
        let message = failures.of("lan").expect("one");
        assert_eq!(
            message,
            "set its MTU to 9000 (interface lan): invalid input parameter"
        );
        failures.failed(step(8000), &error, now);
        failures.keep(&[step(8000)]);
        assert_eq!(failures.held_back(now), [step(8000)]);
        failures.succeeded(&step(8000));
        assert_eq!((failures.due(), failures.of("lan")), (None, None));
    }
}
