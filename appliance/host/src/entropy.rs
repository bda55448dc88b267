//! Randomness that survives a reboot: a seed kept from the last time is mixed in, and a new one taken for the next.

use std::{
    fs::File,
    io::{Read as _, Write as _},
};

use crate::Error;

/// Bytes of a seed.
pub const SEED_BYTES: usize = 64;

/// Mixes a seed into the kernel's pool. It adds to what the processor, the firmware and virtio-rng give; nothing is credited
/// for it, because a copied disk has the same seed.
///
/// # Errors
/// The kernel refused.
pub fn mix_in(seed: &[u8]) -> Result<(), Error> {
    File::options()
        .write(true)
        .open("/dev/urandom")
        .and_then(|mut pool| pool.write_all(seed))
        .map_err(Error::of("mix the kept seed into the random pool"))
}

/// A seed for the next boot; waits until the pool is ready.
///
/// # Errors
/// The kernel refused.
pub fn new_seed() -> Result<[u8; SEED_BYTES], Error> {
    let mut seed = [0; SEED_BYTES];
    File::open("/dev/random")
        .and_then(|mut pool| pool.read_exact(&mut seed))
        .map_err(Error::of("take a seed from the random pool"))?;
    Ok(seed)
}
