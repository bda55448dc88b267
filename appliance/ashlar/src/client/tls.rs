//! TLS to a host whose certificate is known by its digest: hosts sign their own, so no authority could vouch for them.

use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        self, CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
        pki_types::{CertificateDer, ServerName, UnixTime},
    },
};

/// What a handshake came to.
pub enum Handshake {
    /// The host is the one that was meant.
    Done(Box<TlsStream<TcpStream>>),
    /// It has another certificate, or none was expected: its digest, `sha256:…`.
    Unknown(String),
    /// It failed otherwise.
    Failed(std::io::Error),
}

/// Shakes hands with a host whose certificate has that digest (`sha256:` and 64 hexadecimal digits).
pub async fn connect(stream: TcpStream, host: &str, pinned: Option<&str>) -> Handshake {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(Pinned {
        wanted: pinned.map(str::to_ascii_lowercase),
        seen: Mutex::default(),
        provider: provider.clone(),
    });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map(|config| {
            config
                .dangerous()
                .with_custom_certificate_verifier(verifier.clone())
                .with_no_client_auth()
        });
    let name = ServerName::try_from(host.to_owned());
    let (config, name) = match (config, name) {
        (Ok(config), Ok(name)) => (config, name),
        (Err(error), _) => return Handshake::Failed(std::io::Error::other(error)),
        (_, Err(error)) => return Handshake::Failed(std::io::Error::other(error)),
    };
    match TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
    {
        Ok(stream) => Handshake::Done(Box::new(stream)),
        Err(error) => {
            let seen = verifier
                .seen
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            seen.map_or(Handshake::Failed(error), Handshake::Unknown)
        }
    }
}

#[derive(Debug)]
struct Pinned {
    wanted: Option<String>,
    /// The digest of a certificate that was refused.
    seen: Mutex<Option<String>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let digest = format!("sha256:{}", hex::encode(Sha256::digest(end_entity)));
        if self.wanted.as_ref() == Some(&digest) {
            return Ok(ServerCertVerified::assertion());
        }
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(digest);
        Err(CertificateError::UnknownIssuer.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
