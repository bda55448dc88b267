//! Guest memory as the kernel wants it for vectored transfers.

use libc::iovec;
use virtio::Segment;
use vm_memory::{GuestAddress, GuestMemory, GuestMemoryMmap, Permissions};

/// The kernel takes at most this many runs at once (UIO_MAXIOV).
pub(crate) const MAX_RUNS: usize = 1024;

/// A reusable vector of runs of guest memory.
#[derive(Default)]
pub(crate) struct GuestIov {
    runs: Vec<iovec>,
}

impl GuestIov {
    /// Empties it.
    pub(crate) fn clear(&mut self) {
        self.runs.clear();
    }

    /// Appends `segments`; `false` if they are not memory or too many.
    pub(crate) fn extend(
        &mut self,
        mem: &GuestMemoryMmap,
        segments: &[Segment],
        access: Permissions,
    ) -> bool {
        for segment in segments {
            let Ok(len) = usize::try_from(segment.len) else {
                return false;
            };
            let Ok(slices) = mem.get_slices(GuestAddress(segment.address), len, access) else {
                return false;
            };
            for slice in slices {
                let Ok(slice) = slice else { return false };
                self.runs.push(iovec {
                    iov_base: slice.ptr_guard_mut().as_ptr().cast(),
                    iov_len: slice.len(),
                });
            }
        }
        self.runs.len() <= MAX_RUNS
    }

    /// The runs. They stay mapped as long as the guest memory they were made from.
    pub(crate) fn runs(&self) -> &[iovec] {
        &self.runs
    }
}
