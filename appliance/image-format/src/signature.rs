//! Who signed: minisign signatures (ed25519, prehashed) and the keys that count.

use minisign_verify::{PublicKey, Signature};

/// The most keys a host trusts.
const MAX_KEYS: usize = 16;

/// The public keys that releases may be signed with.
#[derive(Clone, Debug)]
pub struct TrustedKeys(Vec<PublicKey>);

/// A list of keys, or a signature, that does not hold.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// A line of the list is no key.
    #[error(
        "line {line} of the trusted keys is no minisign public key: expected one line like `RWQ…` per key"
    )]
    Key {
        /// Which, from 1.
        line: usize,
    },
    /// There is no key in the list.
    #[error("no key is trusted: give the minisign public key of who signs the releases")]
    NoKeys,
    /// There are too many keys in the list.
    #[error("more than {MAX_KEYS} keys are trusted: remove those that are not used")]
    TooManyKeys,
    /// The signature cannot be read.
    #[error("the signature is no minisign signature")]
    Malformed,
    /// None of the keys made the signature of these bytes.
    #[error("the signature is not by a trusted key, or what was signed has been changed since")]
    Refused,
}

impl TrustedKeys {
    /// The keys in a text: one per line; empty lines and lines of comment (`untrusted comment: …`, `# …`) are skipped, so that
    /// minisign's own `.pub` files are lists of one.
    ///
    /// # Errors
    /// A line is no key, or there are none or too many.
    pub fn parse(text: &str) -> Result<Self, SignatureError> {
        let mut keys = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') || line.starts_with("untrusted comment:") {
                continue;
            }
            keys.push(
                PublicKey::from_base64(line)
                    .map_err(|_| SignatureError::Key { line: index + 1 })?,
            );
            if keys.len() > MAX_KEYS {
                return Err(SignatureError::TooManyKeys);
            }
        }
        if keys.is_empty() {
            return Err(SignatureError::NoKeys);
        }
        Ok(Self(keys))
    }

    /// Whether one of the keys signed `bytes`. `signature` is the text of a `.minisig` file. Returns its trusted comment.
    ///
    /// # Errors
    /// The signature cannot be read, or no key made it.
    pub fn verify(&self, bytes: &[u8], signature: &str) -> Result<String, SignatureError> {
        let signature = Signature::decode(signature).map_err(|_| SignatureError::Malformed)?;
        let made = |key: &PublicKey| key.verify(bytes, &signature, false).is_ok();
        if !self.0.iter().any(made) {
            return Err(SignatureError::Refused);
        }
        Ok(signature.trusted_comment().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use minisign::KeyPair;
    use std::io::Cursor;

    fn sign(pair: &KeyPair, bytes: &[u8]) -> String {
        minisign::sign(None, &pair.sk, Cursor::new(bytes), Some("what"), None)
            .unwrap()
            .into_string()
    }

    #[test]
    fn only_a_trusted_key_over_the_same_bytes_counts() {
        let (ours, theirs) = (
            KeyPair::generate_unencrypted_keypair().unwrap(),
            KeyPair::generate_unencrypted_keypair().unwrap(),
        );
        let list = format!("# ours\n{}\n\n", ours.pk.to_base64());
        let keys = TrustedKeys::parse(&list).unwrap();
        assert_eq!(
            keys.verify(b"manifest", &sign(&ours, b"manifest")).unwrap(),
            "what"
        );
        assert!(matches!(
            keys.verify(b"manifesT", &sign(&ours, b"manifest")),
            Err(SignatureError::Refused)
        ));
        assert!(matches!(
            keys.verify(b"manifest", &sign(&theirs, b"manifest")),
            Err(SignatureError::Refused)
        ));
        assert!(matches!(
            keys.verify(b"manifest", "no signature"),
            Err(SignatureError::Malformed)
        ));
        let both = format!("{list}{}", theirs.pk.to_box().unwrap().into_string());
        let keys = TrustedKeys::parse(&both).unwrap();
        assert!(
            keys.verify(b"manifest", &sign(&theirs, b"manifest"))
                .is_ok()
        );
    }

    #[test]
    fn a_list_without_a_key_or_with_nonsense_is_refused() {
        assert!(matches!(
            TrustedKeys::parse("\n# none\n"),
            Err(SignatureError::NoKeys)
        ));
        assert!(matches!(
            TrustedKeys::parse("# a\nnonsense"),
            Err(SignatureError::Key { line: 2 })
        ));
    }
}
