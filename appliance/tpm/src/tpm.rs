//! Sealing, unsealing and reading registers.

use std::collections::BTreeMap;
use std::path::Path;

use crate::command::{Auth, Command, Response, code};
use crate::wire::{Missing, Reader, Writer};
use crate::{Blob, DEVICE, Device, Error, PCR_COUNT, Pcrs, Transport};

/// Bytes of the longest secret: a key of 512 bits.
pub const LARGEST_SECRET: usize = 64;

/// Permanent handles, Part 2 §7.4.
const OWNER: u32 = 0x4000_0001;
const NULL: u32 = 0x4000_0007;
/// Algorithms, Part 2 §6.3.
const AES: u16 = 0x0006;
const KEYEDHASH: u16 = 0x0008;
const SHA256: u16 = 0x000b;
const NO_ALGORITHM: u16 = 0x0010;
const ECC: u16 = 0x0023;
const CFB: u16 = 0x0043;
const P256: u16 = 0x0003;
/// Session kinds, Part 2 §6.11.
const POLICY_SESSION: u8 = 1;
const TRIAL_SESSION: u8 = 3;
/// Attributes of objects, Part 2 §8.3.
const FIXED_TPM: u32 = 1 << 1;
const FIXED_PARENT: u32 = 1 << 4;
const SENSITIVE_DATA_ORIGIN: u32 = 1 << 5;
const USER_WITH_AUTH: u32 = 1 << 6;
const ADMIN_WITH_POLICY: u32 = 1 << 7;
const NO_DA: u32 = 1 << 10;
const RESTRICTED: u32 = 1 << 16;
const DECRYPT: u32 = 1 << 17;

/// A TPM 2.0 that has been started up, as firmware and the kernel do.
#[derive(Debug)]
pub struct Tpm<T> {
    transport: T,
}

impl Tpm<Device> {
    /// The TPM of this machine.
    ///
    /// # Errors
    /// [`Error::NoTpm`].
    pub fn open() -> Result<Self, Error> {
        Ok(Self::new(Device::open(Path::new(DEVICE))?))
    }
}

impl<T: Transport> Tpm<T> {
    /// One that is reached by other means.
    pub fn new(transport: T) -> Self {
        Self { transport }
    }

    /// The registers of the SHA-256 bank; empty when the TPM has no such bank.
    ///
    /// # Errors
    /// When the TPM cannot be reached or refuses.
    pub fn pcrs(&mut self) -> Result<BTreeMap<u8, [u8; 32]>, Error> {
        let mut values = BTreeMap::new();
        let mut wanted = (1 << PCR_COUNT) - 1;
        // A TPM gives as many as it likes at once, Part 3 §22.4, but at least one.
        while let Some(pcrs) = Pcrs::from_mask(wanted) {
            const NAME: &str = "read the PCRs";
            let response = self.run(
                NAME,
                0x17e,
                &[],
                Auth::None,
                pcrs.write(Writer::default()),
                false,
            )?;
            let given = read(NAME, &response.parameters, |reader| {
                reader.u32("its update counter")?;
                let given = Pcrs::read(reader)?;
                let count = reader.u32("its number of values")?;
                let registers: Vec<u8> = given.iter().flat_map(|g| g.iter()).collect();
                if usize::try_from(count) != Ok(registers.len()) {
                    return Err("its number of values");
                }
                for register in registers {
                    let value = reader.sized("a value")?.try_into().map_err(|_| "a value")?;
                    values.insert(register, value);
                }
                Ok(given.map_or(0, Pcrs::mask))
            })?;
            if given & wanted == 0 {
                break;
            }
            wanted &= !given;
        }
        Ok(values)
    }

    /// Seals a secret of 1–[`LARGEST_SECRET`] bytes to the values that registers have now.
    ///
    /// # Errors
    /// When the secret is too long or the TPM cannot be reached or refuses.
    pub fn seal(&mut self, secret: &[u8], pcrs: Pcrs) -> Result<Blob, Error> {
        const NAME: &str = "seal the secret";
        if !(1..=LARGEST_SECRET).contains(&secret.len()) {
            return Err(Error::SecretLength {
                length: secret.len(),
            });
        }
        let policy = self.policy_session(TRIAL_SESSION, pcrs, |tpm, session| {
            const NAME: &str = "get the policy's digest";
            let response = tpm.run(
                NAME,
                0x189,
                &[session],
                Auth::None,
                Writer::default(),
                false,
            )?;
            read(NAME, &response.parameters, |r| {
                r.sized("the digest").map(<[u8]>::to_vec)
            })
        })?;
        let public = Writer::default()
            .u16(KEYEDHASH)
            .u16(SHA256)
            .u32(FIXED_TPM | FIXED_PARENT | ADMIN_WITH_POLICY | NO_DA)
            .sized(&policy)
            .u16(NO_ALGORITHM)
            .sized(&[]);
        self.with_root_key(|tpm, parent| {
            let parameters = creation(secret, &public.finish());
            let response = tpm.run(
                NAME,
                0x153,
                &[parent],
                Auth::EmptyPassword,
                parameters,
                false,
            )?;
            read(NAME, &response.parameters, |reader| {
                let private = reader.sized("the private part")?.to_vec();
                let public = reader.sized("the public part")?.to_vec();
                Ok(Blob {
                    pcrs,
                    private,
                    public,
                })
            })
        })
    }

    /// The secret in a blob.
    ///
    /// # Errors
    /// [`Error::PcrsChanged`] when its registers have other values than at sealing, [`Error::Foreign`] when another TPM sealed it, and
    /// when the TPM cannot be reached or refuses.
    pub fn unseal(&mut self, blob: &Blob) -> Result<Vec<u8>, Error> {
        let changed = |e| match e {
            Error::Refused { code, .. }
                if [code::POLICY_FAIL, code::PCR_CHANGED].contains(&code::plain(code)) =>
            {
                Error::PcrsChanged { pcrs: blob.pcrs }
            }
            other => other,
        };
        self.with_root_key(|tpm, parent| {
            let object = tpm.load(parent, blob)?;
            let secret = tpm.policy_session(POLICY_SESSION, blob.pcrs, |tpm, session| {
                const NAME: &str = "unseal the secret";
                let auth = Auth::Policy(session);
                let response = tpm.run(NAME, 0x15e, &[object], auth, Writer::default(), false)?;
                read(NAME, &response.parameters, |r| {
                    r.sized("the secret").map(<[u8]>::to_vec)
                })
            });
            tpm.flush(object);
            secret.map_err(changed)
        })
    }

    fn load(&mut self, parent: u32, blob: &Blob) -> Result<u32, Error> {
        const NAME: &str = "load the sealed secret";
        let parameters = Writer::default().sized(&blob.private).sized(&blob.public);
        let loaded = self.run(
            NAME,
            0x157,
            &[parent],
            Auth::EmptyPassword,
            parameters,
            true,
        );
        match loaded {
            Err(Error::Refused { code, .. }) if code::plain(code) == code::INTEGRITY => {
                Err(Error::Foreign)
            }
            loaded => handle(NAME, &loaded?),
        }
    }

    /// Works with the storage root key: the ECC template of the TCG's provisioning guidance (v2.0 §7.5.1), no password.
    fn with_root_key<R>(
        &mut self,
        work: impl FnOnce(&mut Self, u32) -> Result<R, Error>,
    ) -> Result<R, Error> {
        const NAME: &str = "make the storage root key";
        let attributes = FIXED_TPM
            | FIXED_PARENT
            | SENSITIVE_DATA_ORIGIN
            | USER_WITH_AUTH
            | NO_DA
            | RESTRICTED
            | DECRYPT;
        let public = Writer::default()
            .u16(ECC)
            .u16(SHA256)
            .u32(attributes)
            .sized(&[])
            .u16(AES)
            .u16(128)
            .u16(CFB)
            .u16(NO_ALGORITHM)
            .u16(P256)
            .u16(NO_ALGORITHM)
            .sized(&[])
            .sized(&[]);
        let parameters = creation(&[], &public.finish());
        let made = self.run(NAME, 0x131, &[OWNER], Auth::EmptyPassword, parameters, true);
        let key = match made {
            Err(Error::Refused { code, .. })
                if [code::AUTH_FAIL, code::BAD_AUTH].contains(&code::plain(code)) =>
            {
                return Err(Error::Owned);
            }
            made => handle(NAME, &made?)?,
        };
        let result = work(self, key);
        self.flush(key);
        result
    }

    /// Works with a session whose policy says that registers have the values they have now.
    fn policy_session<R>(
        &mut self,
        kind: u8,
        pcrs: Pcrs,
        work: impl FnOnce(&mut Self, u32) -> Result<R, Error>,
    ) -> Result<R, Error> {
        const NAME: &str = "start a policy session";
        let nonce: [u8; 32] = rand::random();
        let parameters = Writer::default()
            .sized(&nonce)
            .sized(&[])
            .u8(kind)
            .u16(NO_ALGORITHM)
            .u16(SHA256);
        let response = self.run(NAME, 0x176, &[NULL, NULL], Auth::None, parameters, true)?;
        let session = handle(NAME, &response)?;
        // No digest: the TPM takes the values as they are, Part 3 §23.7.
        let parameters = pcrs.write(Writer::default().sized(&[]));
        let bound = self.run(
            "bind the policy to the PCRs",
            0x17f,
            &[session],
            Auth::None,
            parameters,
            false,
        );
        let result = bound.and_then(|_| work(self, session));
        self.flush(session);
        result
    }

    /// Best effort: what stays is removed when the device is closed, and a session that was used up is gone already.
    fn flush(&mut self, handle: u32) {
        let _ = self.run(
            "flush",
            0x165,
            &[handle],
            Auth::None,
            Writer::default(),
            false,
        );
    }

    fn run(
        &mut self,
        name: &'static str,
        code: u32,
        handles: &[u32],
        auth: Auth,
        parameters: Writer,
        gives_handle: bool,
    ) -> Result<Response, Error> {
        Command {
            name,
            code,
            handles,
            auth,
            parameters,
            gives_handle,
        }
        .run(&mut self.transport)
    }
}

/// Parameters of Create and CreatePrimary, Part 3 §12.1, §24.1: no password, the data, the template, no outside information, no
/// registers for the creation data.
fn creation(data: &[u8], public: &[u8]) -> Writer {
    let sensitive = Writer::default().sized(&[]).sized(data).finish();
    Writer::default()
        .sized(&sensitive)
        .sized(public)
        .sized(&[])
        .u32(0)
}

fn handle(command: &'static str, response: &Response) -> Result<u32, Error> {
    response.handle.ok_or(Error::Malformed {
        command,
        what: "its handle",
    })
}

fn read<R>(
    command: &'static str,
    parameters: &[u8],
    fields: impl FnOnce(&mut Reader<'_>) -> Result<R, Missing>,
) -> Result<R, Error> {
    fields(&mut Reader::new(parameters)).map_err(|what| Error::Malformed { command, what })
}
