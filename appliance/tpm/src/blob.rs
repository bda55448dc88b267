//! A sealed secret, as the caller keeps it.

use crate::wire::{Reader, Writer};
use crate::{Error, Pcrs};

const MAGIC: &[u8; 4] = b"ASTP";
const VERSION: u8 = 1;
/// More than any TPM makes of a secret of 64 bytes.
const LARGEST_PART: usize = 1024;

/// Worthless without the TPM that made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    pub(crate) pcrs: Pcrs,
    /// TPM2B_PRIVATE and TPM2B_PUBLIC without their lengths; what is in them is for the TPM alone.
    pub(crate) private: Vec<u8>,
    pub(crate) public: Vec<u8>,
}

impl Blob {
    /// The registers it is sealed to.
    #[must_use]
    pub fn pcrs(&self) -> Pcrs {
        self.pcrs
    }

    /// To be kept anywhere: some hundred bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let writer = Writer::default()
            .bytes(MAGIC)
            .u8(VERSION)
            .u32(self.pcrs.mask());
        writer.sized(&self.private).sized(&self.public).finish()
    }

    /// From what [`Self::to_bytes`] made.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        let mut read = || {
            if reader.take(MAGIC.len(), "its mark")? != MAGIC
                || reader.u8("its version")? != VERSION
            {
                return Err("its mark or version");
            }
            let pcrs = Pcrs::from_mask(reader.u32("its PCRs")?).ok_or("its PCRs")?;
            let mut part = |what| {
                let part = reader.sized(what)?;
                Some(part.to_vec())
                    .filter(|p| (1..=LARGEST_PART).contains(&p.len()))
                    .ok_or(what)
            };
            let (private, public) = (part("its private part")?, part("its public part")?);
            if reader.rest().is_empty() {
                Ok(Self {
                    pcrs,
                    private,
                    public,
                })
            } else {
                Err("its end")
            }
        };
        read().map_err(|what| Error::Damaged { what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn blob() -> Blob {
        Blob {
            pcrs: Pcrs::DEFAULT,
            private: vec![1; 200],
            public: vec![2; 80],
        }
    }

    #[test]
    fn a_blob_is_read_as_it_was_written() {
        let bytes = blob().to_bytes();
        assert_eq!(Blob::from_bytes(&bytes).expect("sound"), blob());
        for length in 0..bytes.len() {
            assert!(
                Blob::from_bytes(&bytes[..length]).is_err(),
                "{length} bytes"
            );
        }
        assert!(
            Blob::from_bytes(&[&bytes[..], &[0]].concat()).is_err(),
            "trailing bytes"
        );
        for at in 0..9 {
            let mut bytes = bytes.clone();
            bytes[at] = 0xee;
            assert!(Blob::from_bytes(&bytes).is_err() || at >= 6, "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = Blob::from_bytes(&[&MAGIC[..], &[VERSION], &bytes].concat());
            let _ = Blob::from_bytes(&bytes);
        }
    }
}
