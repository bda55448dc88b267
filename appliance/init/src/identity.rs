//! Who the host is: an id, a TLS key with its certificate, and a token with which somebody enrols once.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use boot_disk::Identity;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair,
    PKCS_ECDSA_P256_SHA256,
};
use sha2::{Digest as _, Sha256};
use types::Sha256Digest;

/// Random bytes of an enrolment token.
const TOKEN_BYTES: usize = 10;

/// A new identity, and its enrolment token as text, which is shown and never kept.
///
/// # Errors
/// Key or certificate cannot be made.
pub(crate) fn make(names: &[String]) -> Result<(Identity, String), rcgen::Error> {
    let host_id = format!("ah-{}", hex::encode(rand::random::<[u8; 8]>()));
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(vec![host_id.clone(), "localhost".to_owned()])?;
    for name in names {
        // A name that is none is refused when the configuration is read, or of no use to anyone.
        if let Ok(more) = CertificateParams::new(vec![name.clone()]) {
            params.subject_alt_names.extend(more.subject_alt_names);
        }
    }
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, host_id.clone());
    params.distinguished_name = subject;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // Who talks to a host knows its certificate by digest; that it expires would only lock them out.
    params.not_before = rcgen::date_time_ymd(2024, 1, 1);
    params.not_after = rcgen::date_time_ymd(2124, 1, 1);
    let certificate = params.self_signed(&key)?;
    let token = new_token();
    let identity = Identity {
        host_id,
        key_pem: key.serialize_pem(),
        certificate_pem: certificate.pem(),
        api_token: hex::encode(rand::random::<[u8; 32]>()),
        enrolment_sha256: Some(Sha256Digest::of(token.as_bytes())),
        unknown: Default::default(),
    };
    Ok((identity, token))
}

/// A one-time token that can be read from a screen and typed.
pub(crate) fn new_token() -> String {
    let text = hex::encode(rand::random::<[u8; TOKEN_BYTES]>());
    let groups: Vec<&str> = (0..text.len())
        .step_by(5)
        .map(|at| &text[at..at + 5])
        .collect();
    groups.join("-")
}

/// Whether `offered` is the token with that digest; in a time that does not tell where they differ.
pub(crate) fn is_token(digest: &Sha256Digest, offered: &str) -> bool {
    let offered = Sha256Digest::of(offered.trim().as_bytes());
    let differences = digest
        .bytes()
        .iter()
        .zip(offered.bytes())
        .fold(0, |all, (one, two)| all | (one ^ two));
    std::hint::black_box(differences) == 0
}

/// The SHA-256 digest of the certificate itself (DER), as `sha256:…`; what a client pins.
pub(crate) fn fingerprint(certificate_pem: &str) -> Option<String> {
    let base64: String = certificate_pem
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .collect();
    let der = STANDARD.decode(base64).ok()?;
    Some(format!("sha256:{}", hex::encode(Sha256::digest(der))))
}

/// Where the daemon finds key, certificate and bearer token.
pub(crate) struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub token: PathBuf,
}

impl TlsFiles {
    /// Writes them into a folder that only root may enter.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn write(folder: &Path, identity: &Identity) -> io::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        let files = Self {
            certificate: folder.join("cert.pem"),
            key: folder.join("key.pem"),
            token: folder.join("api-token"),
        };
        for (path, text) in [
            (&files.certificate, &identity.certificate_pem),
            (&files.key, &identity.key_pem),
            (&files.token, &identity.api_token),
        ] {
            let _ = fs::remove_file(path);
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)?;
            file.write_all(text.as_bytes())?;
        }
        Ok(files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn an_identity_is_new_each_time_and_its_token_is_kept_as_a_digest_only() {
        let names = ["host.example.org".to_owned(), "10.0.0.7".to_owned()];
        let (one, token) = make(&names).unwrap();
        let (two, _) = make(&names).unwrap();
        assert_ne!(one.host_id, two.host_id);
        assert_ne!(
            fingerprint(&one.certificate_pem),
            fingerprint(&two.certificate_pem)
        );
        assert!(
            fingerprint(&one.certificate_pem)
                .unwrap()
                .starts_with("sha256:")
        );
        let digest = one.enrolment_sha256.unwrap();
        assert!(is_token(&digest, &format!(" {token}\n")));
        assert!(!is_token(&digest, &token[1..]) && !is_token(&digest, ""));
        let kept = serde_json::to_string(&one).unwrap();
        assert!(!kept.contains(&token), "the token is not kept");
    }

    #[test]
    fn key_and_certificate_are_for_root_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (identity, _) = make(&[]).unwrap();
        for _ in 0..2 {
            let files = TlsFiles::write(&folder.path().join("tls"), &identity).unwrap();
            let mode = fs::metadata(&files.key).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            assert!(
                fs::read_to_string(files.certificate)
                    .unwrap()
                    .contains("BEGIN CERTIFICATE")
            );
        }
    }
}
