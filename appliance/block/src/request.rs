//! Operations and their completions.

/// Names one operation between its submission and its completion; chosen by the submitter, opaque to the channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// A run of guest physical memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Guest physical address of the first byte.
    pub address: u64,
    /// Length in bytes.
    pub len: u32,
}

impl Segment {
    /// The bytes of all `segments` together.
    pub fn total(segments: &[Segment]) -> u64 {
        segments.iter().map(|s| u64::from(s.len)).sum()
    }
}

/// One thing to do with a disk. Offsets and lengths are in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation<'a> {
    /// Fill the segments, in order, from the disk.
    Read {
        /// Where on the disk.
        offset: u64,
        /// Where to in guest memory.
        segments: &'a [Segment],
    },
    /// Store the segments, in order, on the disk.
    Write {
        /// Where on the disk.
        offset: u64,
        /// Where from in guest memory.
        segments: &'a [Segment],
        /// Complete only once the bytes survive a power cut.
        durable: bool,
    },
    /// Make every completed write survive a power cut.
    Flush,
    /// Tell that the range's content is no longer needed.
    Discard {
        /// Where on the disk.
        offset: u64,
        /// How much.
        len: u64,
    },
    /// Make the range read as zeroes.
    WriteZeroes {
        /// Where on the disk.
        offset: u64,
        /// How much.
        len: u64,
        /// The space may be given back.
        unmap: bool,
        /// Complete only once the zeroes survive a power cut.
        durable: bool,
    },
}

impl Operation<'_> {
    /// First byte and length of the disk range touched; a flush touches none.
    pub fn range(&self) -> Option<(u64, u64)> {
        match *self {
            Operation::Read { offset, segments }
            | Operation::Write {
                offset, segments, ..
            } => Some((offset, Segment::total(segments))),
            Operation::Discard { offset, len } | Operation::WriteZeroes { offset, len, .. } => {
                Some((offset, len))
            }
            Operation::Flush => None,
        }
    }
}

/// The end of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion {
    /// As given to `submit`.
    pub token: Token,
    /// How it went.
    pub outcome: Outcome,
}

/// How an operation went. There is no partial success: channels continue short transfers themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All of it was done.
    Done,
    /// It failed; see the crate's notes on what a failed write leaves behind.
    Failed(ErrorKind),
}

/// Why an operation failed; the device model decides by it what to tell the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ErrorKind {
    /// The range does not lie within the disk.
    #[error("the range lies outside the disk")]
    OutOfRange,
    /// A segment is not guest memory.
    #[error("a segment lies outside guest memory")]
    BadAddress,
    /// The disk is read-only.
    #[error("the disk is read-only")]
    ReadOnly,
    /// The disk cannot do this operation at all.
    #[error("the disk does not support the operation")]
    Unsupported,
    /// The file system or pool has no space left for a write.
    #[error("no space left where the disk is stored")]
    NoSpace,
    /// The backing file is shorter than the disk: it was truncated behind our back.
    #[error("the disk's file has become shorter than the disk")]
    Truncated,
    /// Any other failure, by its `errno`.
    #[error("I/O error (errno {0})")]
    Io(i32),
}
