//! A TPM 2.0 through the kernel's resource manager: keys sealed to what was measured at boot, and what was measured.

#![forbid(unsafe_code)]
