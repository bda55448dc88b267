//! The way to a TPM.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use crate::Error;

/// The resource manager of the kernel: commands of several programs do not disturb each other, and what a program leaves in
/// the TPM goes with it.
pub const DEVICE: &str = "/dev/tpmrm0";
/// No command and no response is longer, in bytes: the kernel's own bound.
pub const LARGEST_MESSAGE: usize = 4096;

/// Carries one command to a TPM and its response back.
pub trait Transport {
    /// The response to a command, whole. What is longer than [`LARGEST_MESSAGE`] may be cut off.
    ///
    /// # Errors
    /// When the TPM cannot be reached. A TPM that refuses the command has answered it.
    fn transact(&mut self, command: &[u8]) -> io::Result<Vec<u8>>;
}

/// The TPM of this machine.
#[derive(Debug)]
pub struct Device(File);

impl Device {
    /// Opens a device file, usually [`DEVICE`].
    ///
    /// # Errors
    /// [`Error::NoTpm`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = OpenOptions::new().read(true).write(true).open(path);
        file.map(Self).map_err(|source| Error::NoTpm {
            path: path.to_owned(),
            source,
        })
    }
}

impl Transport for Device {
    fn transact(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        self.0.write_all(command)?;
        let mut response = vec![0; LARGEST_MESSAGE];
        let length = self.0.read(&mut response)?;
        response.truncate(length);
        Ok(response)
    }
}
