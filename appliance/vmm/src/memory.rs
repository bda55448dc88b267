//! Guest memory: a sealed memfd that the daemon makes and the vmm maps.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap, GuestRegionMmap, MmapRegion};

use crate::layout;

/// The least memory a machine can have, in bytes.
pub const MINIMUM_BYTES: u64 = 2 << 20;
/// Guest memory comes in multiples of this many bytes.
pub const GRANULE_BYTES: u64 = 4096;

const SIZE_SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);

/// Makes the memory of a guest: `bytes` of zeroes that take room as they are touched; the size is sealed.
///
/// # Errors
/// The system refuses (out of descriptors, over a limit).
pub fn create(bytes: u64) -> io::Result<OwnedFd> {
    let fd = rustix::fs::memfd_create(
        c"guest-memory",
        MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
    )?;
    rustix::fs::ftruncate(&fd, bytes)?;
    rustix::fs::fcntl_add_seals(&fd, SIZE_SEALS | SealFlags::SEAL)?;
    Ok(fd)
}

/// Checks that `file` is `bytes` long and cannot change its size: a mapping of it can then always be accessed.
pub(crate) fn check(file: &File, bytes: u64) -> io::Result<()> {
    let length = file.metadata()?.len();
    let sealed = rustix::fs::fcntl_get_seals(file)?.contains(SIZE_SEALS);
    if length != bytes || !sealed {
        let problem =
            format!("guest memory of {length} bytes (sealed: {sealed}), expected {bytes}, sealed");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
    }
    Ok(())
}

/// Maps the memory at the guest's addresses.
pub(crate) fn map(file: &Arc<File>, bytes: u64) -> io::Result<GuestMemoryMmap> {
    let mut offset = 0;
    let mut regions = Vec::new();
    for (address, length) in layout::ram(bytes) {
        let size = usize::try_from(length).map_err(io::Error::other)?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_NORESERVE;
        let place = FileOffset::from_arc(Arc::clone(file), offset);
        let mapping =
            MmapRegion::build(Some(place), size, protection, flags).map_err(io::Error::other)?;
        let region = GuestRegionMmap::new(mapping, GuestAddress(address));
        regions
            .push(region.ok_or_else(|| io::Error::other("guest memory beyond the address space"))?);
        offset += length;
    }
    GuestMemoryMmap::from_regions(regions).map_err(io::Error::other)
}

/// Makes all of it zeroes again and gives the room back. No vCPU and no device may be running.
pub(crate) fn clear(file: &File, bytes: u64) -> io::Result<()> {
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    Ok(rustix::fs::fallocate(file, hole, 0, bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::Bytes;

    #[test]
    fn memory_is_zero_again_after_clearing() {
        let file = Arc::new(File::from(create(MINIMUM_BYTES).expect("memfd")));
        check(&file, MINIMUM_BYTES).expect("as made");
        let memory = map(&file, MINIMUM_BYTES).expect("mapped");
        memory
            .write_obj(0x55_u64, GuestAddress(0x1000))
            .expect("inside");
        clear(&file, MINIMUM_BYTES).expect("cleared");
        assert_eq!(
            memory
                .read_obj::<u64>(GuestAddress(0x1000))
                .expect("inside"),
            0
        );
    }

    #[test]
    fn memory_of_another_size_or_unsealed_is_refused() {
        let sealed = File::from(create(MINIMUM_BYTES).expect("memfd"));
        let problem = check(&sealed, MINIMUM_BYTES * 2)
            .expect_err("too short")
            .to_string();
        assert!(problem.contains("2097152 bytes"), "{problem}");
        let plain = rustix::fs::memfd_create(c"plain", MemfdFlags::CLOEXEC).expect("memfd");
        rustix::fs::ftruncate(&plain, MINIMUM_BYTES).expect("sized");
        assert!(check(&File::from(plain), MINIMUM_BYTES).is_err());
    }
}
