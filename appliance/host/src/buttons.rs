//! The machine's power button, an input device like a keyboard (Linux, Documentation/input/input.rst).

use std::{
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
    thread,
};

use crate::Error;

/// linux/input-event-codes.h, EV_KEY.
const KEY_EVENT: u16 = 1;
/// linux/input-event-codes.h, KEY_POWER.
const POWER: u16 = 116;
/// linux/input.h: the value of a key that goes down.
const PRESSED: i32 = 1;
/// linux/input.h, struct input_event: a time of two words, then type, code and value.
const EVENT_BYTES: usize = 24;

/// Calls `pressed` when a power button is, from a thread for each button, until it returns false. Returns how many buttons there are.
///
/// # Errors
/// A button cannot be listened to.
pub fn listen(pressed: impl Fn() -> bool + Clone + Send + 'static) -> Result<usize, Error> {
    let buttons = with_power_key(Path::new("/sys/class/input"));
    for button in &buttons {
        let doing = format!("listen to the power button {}", button.display());
        let mut events = File::open(button).map_err(Error::of(&doing))?;
        let pressed = pressed.clone();
        let listener = thread::Builder::new()
            .name("power-button".into())
            .stack_size(64 << 10);
        let listen = move || {
            let mut event = [0; EVENT_BYTES];
            // Ends with the device, or with whoever listens.
            while events.read_exact(&mut event).is_ok() {
                if is_power(&event) && !pressed() {
                    return;
                }
            }
        };
        listener.spawn(listen).map_err(Error::of(&doing))?;
    }
    Ok(buttons.len())
}

/// The device files of those input devices that have a power key.
fn with_power_key(class: &Path) -> Vec<PathBuf> {
    let devices = fs::read_dir(class).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = devices
        .filter(|device| {
            let keys = device.path().join("device/capabilities/key");
            device.file_name().to_string_lossy().starts_with("event")
                && fs::read_to_string(keys).is_ok_and(|keys| has_key(&keys, POWER))
        })
        .map(|device| Path::new("/dev/input").join(device.file_name()))
        .collect();
    found.sort();
    found
}

/// Whether a key is in a set as sysfs shows it: hexadecimal words of 64 bits, the highest first.
fn has_key(keys: &str, key: u16) -> bool {
    let word = keys
        .split_whitespace()
        .rev()
        .nth(usize::from(key / 64))
        .and_then(|word| u64::from_str_radix(word, 16).ok());
    word.is_some_and(|word| word >> (key % 64) & 1 == 1)
}

fn is_power(event: &[u8; EVENT_BYTES]) -> bool {
    let [.., t0, t1, c0, c1, v0, v1, v2, v3] = *event;
    u16::from_ne_bytes([t0, t1]) == KEY_EVENT
        && u16::from_ne_bytes([c0, c1]) == POWER
        && i32::from_ne_bytes([v0, v1, v2, v3]) == PRESSED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_devices_with_a_power_key_are_listened_to() {
        let class = tempfile::tempdir().unwrap();
        for (name, keys) in [
            ("event0", "10000000000000 0\n"),
            (
                "event1",
                "402000000 3803078f800d001 feffffdfffefffff fffffffffffffffe\n",
            ),
            ("event2", "1f0000 0 0 0 0\n"),
            ("mouse0", "10000000000000 0\n"),
        ] {
            let device = class.path().join(name).join("device/capabilities");
            fs::create_dir_all(&device).unwrap();
            fs::write(device.join("key"), keys).unwrap();
        }
        let found = with_power_key(class.path());
        assert_eq!(
            found,
            [
                Path::new("/dev/input/event0"),
                Path::new("/dev/input/event1")
            ]
        );
        assert!(with_power_key(Path::new("/nonexistent")).is_empty());
    }

    #[test]
    fn only_a_power_key_that_goes_down_counts() {
        let event = |kind: u16, code: u16, value: i32| {
            let mut event = [0; EVENT_BYTES];
            event[16..18].copy_from_slice(&kind.to_ne_bytes());
            event[18..20].copy_from_slice(&code.to_ne_bytes());
            event[20..].copy_from_slice(&value.to_ne_bytes());
            event
        };
        assert!(is_power(&event(KEY_EVENT, POWER, PRESSED)));
        for other in [
            event(0, POWER, 1),
            event(KEY_EVENT, 30, 1),
            event(KEY_EVENT, POWER, 0),
        ] {
            assert!(!is_power(&other));
        }
    }
}
