//! Big-endian fields as TPM messages have them (TPM 2.0 Library, Part 1 §18, Part 2).

/// Builds a message.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    pub(crate) fn u16(mut self, value: u16) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    /// With its length in front, a TPM2B. What is longer than its length can say never leaves: the message is too long then.
    pub(crate) fn sized(self, bytes: &[u8]) -> Self {
        let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        self.u16(length).bytes(bytes)
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// What was expected in a message and was not there.
pub(crate) type Missing = &'static str;

/// Reads a message, whoever wrote it.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn take(&mut self, length: usize, what: Missing) -> Result<&'a [u8], Missing> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(what)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn u8(&mut self, what: Missing) -> Result<u8, Missing> {
        self.take(1, what).map(|b| b[0])
    }

    pub(crate) fn u16(&mut self, what: Missing) -> Result<u16, Missing> {
        self.take(2, what).map(|b| u16::from_be_bytes([b[0], b[1]]))
    }

    pub(crate) fn u32(&mut self, what: Missing) -> Result<u32, Missing> {
        self.take(4, what)
            .map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
    }

    pub(crate) fn sized(&mut self, what: Missing) -> Result<&'a [u8], Missing> {
        let length = self.u16(what)?;
        self.take(usize::from(length), what)
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.0
    }
}
