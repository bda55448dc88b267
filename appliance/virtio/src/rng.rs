//! The entropy device (virtio 1.2 §5.4): one queue whose buffers are filled with random bytes.

use vm_memory::GuestMemory;

use crate::Chain;
use crate::queue::write_bytes;

/// Size of the request queue.
pub const QUEUE_SIZE: u16 = 64;

/// The most bytes one request is given; the driver sees the true length in the used ring and asks again.
pub const MAX_BYTES: u32 = 4096;

/// How many bytes the request may get, at most [`MAX_BYTES`].
pub fn wanted(chain: &Chain) -> u32 {
    if chain.defect.is_some() {
        return 0;
    }
    u32::try_from(Chain::total(&chain.writable))
        .unwrap_or(MAX_BYTES)
        .min(MAX_BYTES)
}

/// Hands `bytes` to the guest; returns how many were written, for the used ring.
pub fn fill<M: GuestMemory>(mem: &M, chain: &Chain, bytes: &[u8]) -> u32 {
    let room = usize::try_from(wanted(chain)).unwrap_or(0).min(bytes.len());
    u32::try_from(write_bytes(mem, &chain.writable, &bytes[..room])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use vm_memory::{Bytes, GuestAddress};

    use super::*;
    use crate::Segment;
    use crate::testing::*;

    #[test]
    fn answers_are_no_longer_than_asked_or_allowed() {
        let mem = memory();
        let ask = |len| Chain {
            writable: vec![Segment { address: DATA, len }],
            ..Chain::default()
        };
        assert_eq!(
            (
                wanted(&ask(10)),
                wanted(&ask(100_000)),
                wanted(&Chain::default())
            ),
            (10, MAX_BYTES, 0)
        );
        assert_eq!(fill(&mem, &ask(4), &[1, 2, 3, 4, 5]), 4);
        assert_eq!(
            mem.read_obj::<[u8; 5]>(GuestAddress(DATA)).expect("memory"),
            [1, 2, 3, 4, 0]
        );
        assert_eq!(fill(&mem, &ask(8), &[9]), 1);
    }
}
