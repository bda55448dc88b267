//! Whether an updated slot is good.
//!
//! ```text
//!  staged ──switch──▶ trial ──boots, healthy in time──────────────▶ good
//!                       │
//!                       ├─ boots, not healthy in time: marked bad ─┐
//!                       └─ does not get that far: tries used up ───┴▶ the other slot boots ─▶ failed, with the reason
//! ```

use boot_disk::{UpdatePhase, UpdateRecord};
use image_format::{Slot, SlotState};

/// What this boot means for an update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Boot {
    /// Nothing.
    Ordinary,
    /// The booted slot is on trial: it must become healthy.
    Trial,
    /// The trial is over and failed: this is the other slot. With the reason.
    FellBack(String),
}

/// Judges a boot: `booted` is the slot that runs, if the boot loader tells; `tried` what is in the slot of the update; `panic` the
/// last words of a kernel that died since the last boot.
pub(crate) fn at_boot(
    update: Option<&UpdateRecord>,
    booted: Option<Slot>,
    tried: Option<SlotState>,
    panic: Option<&str>,
) -> Boot {
    let (Some(update), Some(booted)) = (update, booted) else {
        return Boot::Ordinary;
    };
    if update.phase != UpdatePhase::Trial {
        return Boot::Ordinary;
    }
    if booted == update.slot {
        // Also when it is marked good and the power went before that was written down, or bad and the loader had nothing better.
        return Boot::Trial;
    }
    let reason = match (&update.reason, panic, tried) {
        (Some(reason), _, _) => reason.clone(),
        (None, Some(panic), _) => format!("its kernel died: {panic}"),
        (None, None, None) => "its image is gone from the slot".to_owned(),
        (None, None, Some(_)) => format!("{} did not come up in any of its tries", update.to),
    };
    Boot::FellBack(reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::Timestamp;

    fn update(phase: UpdatePhase, reason: Option<&str>) -> UpdateRecord {
        UpdateRecord {
            id: "u".into(),
            from: "1".into(),
            to: "2".into(),
            slot: Slot::B,
            phase,
            minimum_security_version: 0,
            reason: reason.map(str::to_owned),
            begun: Timestamp::from_unix_millis(0).unwrap(),
            ended: None,
            unknown: Default::default(),
        }
    }

    #[test]
    fn every_boot_is_judged() {
        use UpdatePhase::{Failed, Good, Staged, Trial};
        let (left, bad) = (SlotState::Trial { left: 2 }, SlotState::Bad);
        let told = |text: &str| Boot::FellBack(text.to_owned());
        for (record, booted, tried, panic, expected) in [
            (None, Some(Slot::A), None, None, Boot::Ordinary),
            (
                Some(update(Trial, None)),
                None,
                Some(left),
                None,
                Boot::Ordinary,
            ),
            (
                Some(update(Trial, None)),
                Some(Slot::B),
                Some(left),
                None,
                Boot::Trial,
            ),
            (
                Some(update(Trial, None)),
                Some(Slot::B),
                Some(SlotState::Good),
                None,
                Boot::Trial,
            ),
            (
                Some(update(Trial, None)),
                Some(Slot::A),
                Some(bad),
                None,
                told("2 did not come up in any of its tries"),
            ),
            (
                Some(update(Trial, Some("no API"))),
                Some(Slot::A),
                Some(bad),
                None,
                told("no API"),
            ),
            (
                Some(update(Trial, None)),
                Some(Slot::A),
                Some(bad),
                Some("Oops"),
                told("its kernel died: Oops"),
            ),
            (
                Some(update(Trial, None)),
                Some(Slot::A),
                None,
                None,
                told("its image is gone from the slot"),
            ),
            (
                Some(update(Staged, None)),
                Some(Slot::A),
                None,
                None,
                Boot::Ordinary,
            ),
            (
                Some(update(Good, None)),
                Some(Slot::B),
                Some(SlotState::Good),
                None,
                Boot::Ordinary,
            ),
            (
                Some(update(Failed, Some("x"))),
                Some(Slot::A),
                Some(bad),
                None,
                Boot::Ordinary,
            ),
        ] {
            assert_eq!(
                at_boot(record.as_ref(), booted, tried, panic),
                expected,
                "{record:?} {booted:?}"
            );
        }
    }
}
