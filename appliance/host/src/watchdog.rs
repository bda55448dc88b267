//! The watchdog: a device that resets the machine unless it is told again and again that all is well
//! (Linux, Documentation/watchdog/watchdog-api.rst).

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    time::Duration,
};

use crate::Error;

/// What a device without a readable limit is taken to have.
const USUAL: Duration = Duration::from_secs(30);

/// An armed watchdog. Dropping it without [`disarm`](Self::disarm) leaves it armed.
pub struct Watchdog {
    device: File,
    limit: Duration,
}

impl Watchdog {
    /// Arms the machine's watchdog, if it has one.
    ///
    /// # Errors
    /// It cannot be opened: somebody else has it.
    pub fn arm() -> Result<Option<Self>, Error> {
        let path = Path::new("/dev/watchdog");
        if !path.exists() {
            return Ok(None);
        }
        let device = File::options()
            .write(true)
            .open(path)
            .map_err(Error::of("arm the watchdog"))?;
        let limit = fs::read_to_string("/sys/class/watchdog/watchdog0/timeout")
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .map_or(USUAL, Duration::from_secs);
        let mut watchdog = Self { device, limit };
        watchdog.feed();
        Ok(Some(watchdog))
    }

    /// How long it waits before it resets the machine.
    #[must_use]
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// All is well.
    pub fn feed(&mut self) {
        // A device that takes no word resets the machine: that is what it is for.
        let _ = self.device.write_all(b"\0");
    }

    /// Lets it sleep, where the device allows that: before a power-off that may take its time.
    pub fn disarm(mut self) {
        let _ = self.device.write_all(b"V");
    }
}
