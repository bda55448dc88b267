//! The two slots, and how the boot loader chooses between them.
//!
//! The state of a slot is the name of its file, as systemd-boot counts boots (systemd, "Automatic Boot Assessment"):
//!
//! ```text
//!              update                 boot loader, at each boot           health check passed
//!  (empty) ──────────▶ ashlar-b+3.efi ───▶ ashlar-b+2-1.efi ──────────────────────▶ ashlar-b.efi   good
//!                       trial                │       trial
//!                                            │ tries used up, or judged bad
//!                                            ▼
//!                                      ashlar-b+0-3.efi   bad: sorted last, so the other one boots
//! ```

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use types::ParseError;

/// One of the two places an image can be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    /// The first, which a freshly flashed host boots.
    A,
    /// The second.
    B,
}

impl Slot {
    /// Both.
    pub const ALL: [Self; 2] = [Self::A, Self::B];

    /// The one an update goes to while this one runs.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    fn letter(self) -> char {
        match self {
            Self::A => 'a',
            Self::B => 'b',
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::A => "A",
            Self::B => "B",
        })
    }
}

/// Boots that are left to an image on trial, and those it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter {
    /// Boots it still gets, 0–99.
    pub left: u32,
    /// Boots it had without being found good, 0–99.
    pub done: u32,
}

/// What a slot's file name says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotState {
    /// Found good: boots whenever it is preferred.
    Good,
    /// On trial for so many boots more.
    Trial {
        /// Boots it still gets, from 1.
        left: u32,
    },
    /// Its tries are used up, or it was found bad: boots only if nothing else does.
    Bad,
}

/// The file of a slot in `EFI/Linux`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotFile {
    /// Whose file.
    pub slot: Slot,
    /// Its counter; none when it is good.
    pub counter: Option<Counter>,
}

impl SlotFile {
    /// The file of a slot that was found good.
    #[must_use]
    pub fn good(slot: Slot) -> Self {
        Self {
            slot,
            counter: None,
        }
    }

    /// The file of a slot that gets `tries` boots (1–99) to be found good.
    #[must_use]
    pub fn trial(slot: Slot, tries: u32) -> Self {
        let left = tries.clamp(1, 99);
        Self {
            slot,
            counter: Some(Counter { left, done: 0 }),
        }
    }

    /// This file's name once the slot was found bad.
    #[must_use]
    pub fn bad(self) -> Self {
        let done = self.counter.map_or(0, |counter| counter.done).max(1);
        Self {
            slot: self.slot,
            counter: Some(Counter { left: 0, done }),
        }
    }

    /// What the name says.
    #[must_use]
    pub fn state(self) -> SlotState {
        match self.counter {
            None => SlotState::Good,
            Some(Counter { left: 0, .. }) => SlotState::Bad,
            Some(Counter { left, .. }) => SlotState::Trial { left },
        }
    }
}

impl fmt::Display for SlotFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ashlar-{}", self.slot.letter())?;
        match self.counter {
            None => {}
            Some(Counter { left, done: 0 }) => write!(f, "+{left}")?,
            Some(Counter { left, done }) => write!(f, "+{left}-{done}")?,
        }
        f.write_str(".efi")
    }
}

impl FromStr for SlotFile {
    type Err = ParseError;

    /// Reads a file name in any case: FAT keeps the case of some names and not of others.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let error = || ParseError::new("a slot's file", "ashlar-a.efi or ashlar-b+3-1.efi", text);
        let name = text.to_ascii_lowercase();
        let stem = name
            .strip_suffix(".efi")
            .and_then(|name| name.strip_prefix("ashlar-"))
            .ok_or_else(error)?;
        let (letter, counter) = match stem.split_once('+') {
            None => (stem, None),
            Some((letter, counter)) => (letter, Some(counter)),
        };
        let slot = Slot::ALL
            .into_iter()
            .find(|slot| letter == slot.letter().to_string())
            .ok_or_else(error)?;
        let number = |digits: &str| -> Option<u32> {
            let plain = matches!(digits.len(), 1..=2) && digits.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| digits.parse().ok())?
        };
        let counter = match counter {
            None => None,
            Some(counter) => {
                let (left, done) = counter.split_once('-').unwrap_or((counter, "0"));
                Some(Counter {
                    left: number(left).ok_or_else(error)?,
                    done: number(done).ok_or_else(error)?,
                })
            }
        };
        Ok(Self { slot, counter })
    }
}

/// What `loader.conf` prefers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoaderDefault {
    /// That slot, once it is good.
    Good(Slot),
    /// That slot, as long as it has tries left.
    Trial(Slot),
}

impl LoaderDefault {
    /// The slot preferred.
    #[must_use]
    pub fn slot(self) -> Slot {
        match self {
            Self::Good(slot) | Self::Trial(slot) => slot,
        }
    }

    /// The whole `loader.conf` (loader.conf(5)). The pattern of a trial matches only while the counter's first digit is not 0;
    /// where nothing matches, systemd-boot takes the first of its list, at whose end are entries without tries.
    #[must_use]
    pub fn loader_conf(self) -> String {
        let pattern = match self {
            Self::Good(slot) => SlotFile::good(slot).to_string(),
            Self::Trial(slot) => format!("ashlar-{}+[1-9]*.efi", slot.letter()),
        };
        format!("timeout 0\neditor no\nauto-firmware no\ndefault {pattern}\n")
    }

    /// What a `loader.conf` prefers; none if it says nothing that [`loader_conf`](Self::loader_conf) writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let pattern = text
            .lines()
            .find_map(|line| line.strip_prefix("default "))?;
        Slot::ALL
            .into_iter()
            .flat_map(|slot| [Self::Good(slot), Self::Trial(slot)])
            .find(|default| {
                default
                    .loader_conf()
                    .lines()
                    .any(|line| line == format!("default {}", pattern.trim()))
            })
    }

    fn matches(self, file: SlotFile) -> bool {
        match self {
            Self::Good(slot) => file == SlotFile::good(slot),
            Self::Trial(slot) => {
                file.slot == slot && matches!(file.state(), SlotState::Trial { .. })
            }
        }
    }
}

/// Which of the files there are systemd-boot starts: the preferred one if it is there, else the first that has tries left or
/// needs none (where both do, the newer version, which the caller knows: `newer`), else a bad one.
#[must_use]
pub fn chosen(
    files: &[SlotFile],
    preferred: Option<LoaderDefault>,
    newer: Slot,
) -> Option<SlotFile> {
    let preferred =
        preferred.and_then(|preferred| files.iter().find(|file| preferred.matches(**file)));
    let rank = |file: &&SlotFile| (file.state() == SlotState::Bad, file.slot != newer);
    preferred.or_else(|| files.iter().min_by_key(rank)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str) -> SlotFile {
        name.parse().unwrap()
    }

    #[test]
    fn names_come_back_and_say_their_state() {
        for (name, state) in [
            ("ashlar-a.efi", SlotState::Good),
            ("ashlar-b+3.efi", SlotState::Trial { left: 3 }),
            ("ashlar-b+2-1.efi", SlotState::Trial { left: 2 }),
            ("ashlar-a+0-3.efi", SlotState::Bad),
            ("ashlar-a+0.efi", SlotState::Bad),
            ("ashlar-b+12-7.efi", SlotState::Trial { left: 12 }),
        ] {
            assert_eq!(file(name).state(), state, "{name}");
            assert_eq!(file(name).to_string(), name);
            assert_eq!(file(&name.to_ascii_uppercase()), file(name));
        }
        for bad in [
            "",
            "ashlar-c.efi",
            "ashlar-a",
            "ashlar-a.efi.part",
            "ashlar-a+.efi",
            "ashlar-a+x.efi",
            "ashlar-a+1-.efi",
            "ashlar-a+-1.efi",
            "ashlar-a+100.efi",
            "ashlar-ab.efi",
            "other.efi",
            "ashlar-a++1.efi",
        ] {
            assert!(bad.parse::<SlotFile>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_slot_on_trial_becomes_bad_or_good_by_name() {
        let trial = SlotFile::trial(Slot::B, 3);
        assert_eq!(trial.to_string(), "ashlar-b+3.efi");
        assert_eq!(
            file("ashlar-b+2-1.efi").bad().to_string(),
            "ashlar-b+0-1.efi"
        );
        assert_eq!(SlotFile::good(Slot::B).bad().state(), SlotState::Bad);
    }

    #[test]
    fn what_the_loader_prefers_comes_back() {
        for slot in Slot::ALL {
            for default in [LoaderDefault::Good(slot), LoaderDefault::Trial(slot)] {
                assert_eq!(LoaderDefault::parse(&default.loader_conf()), Some(default));
            }
        }
        for text in ["", "timeout 0\n", "default other.efi\n", "\0\0\0"] {
            assert_eq!(LoaderDefault::parse(text), None);
        }
    }

    #[test]
    fn the_loader_chooses_a_trial_until_its_tries_are_used_up() {
        let trial = Some(LoaderDefault::Trial(Slot::B));
        let good = Some(LoaderDefault::Good(Slot::A));
        for (names, preferred, newer, slot) in [
            (&["ashlar-a.efi"][..], good, Slot::A, Slot::A),
            (&["ashlar-a.efi", "ashlar-b+3.efi"], trial, Slot::A, Slot::B),
            (
                &["ashlar-a.efi", "ashlar-b+1-2.efi"],
                trial,
                Slot::B,
                Slot::B,
            ),
            (
                &["ashlar-a.efi", "ashlar-b+0-3.efi"],
                trial,
                Slot::B,
                Slot::A,
            ),
            (
                &["ashlar-a.efi", "ashlar-b+0-3.efi"],
                None,
                Slot::B,
                Slot::A,
            ),
            // The file was renamed and loader.conf not yet written.
            (&["ashlar-a.efi", "ashlar-b.efi"], trial, Slot::B, Slot::B),
            (&["ashlar-a.efi", "ashlar-b.efi"], good, Slot::B, Slot::A),
            (&["ashlar-b+0-3.efi"], good, Slot::B, Slot::B),
        ] {
            let files: Vec<_> = names.iter().map(|name| file(name)).collect();
            let found = chosen(&files, preferred, newer).map(|file| file.slot);
            assert_eq!(found, Some(slot), "{names:?}");
        }
        assert_eq!(chosen(&[], good, Slot::A), None);
    }
}
