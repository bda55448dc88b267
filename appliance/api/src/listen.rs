//! Where the interface is served.

use std::{
    fmt, fs, io,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};

use crate::access::{Access, Token};

/// One place where the interface is served.
pub struct Listener {
    pub(crate) socket: Socket,
    pub(crate) access: Access,
}

pub(crate) enum Socket {
    Unix(UnixListener),
    Tcp(TcpListener),
    Tls(TcpListener, TlsAcceptor),
}

/// A place cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The unix socket cannot be made.
    #[error("cannot listen on the unix socket {path}")]
    Unix {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something else is in the unix socket's place.
    #[error("cannot listen on {path}: something that is no socket is there")]
    Occupied {
        /// The path.
        path: PathBuf,
    },
    /// Another daemon listens there.
    #[error("cannot listen on {path}: another daemon listens there")]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// The TCP address cannot be had.
    #[error("cannot listen on TCP {address}")]
    Tcp {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Key or certificate cannot be used.
    #[error("cannot use the TLS {what} {path}: {problem}")]
    Tls {
        /// `key` or `certificate`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The TCP address is not loopback.
    #[error(
        "{0} is not a loopback address: without TLS the interface is served on this machine only"
    )]
    NotLoopback(SocketAddr),
}

impl Listener {
    /// A unix socket at `path` with mode 0660: root and its group (`group`, or else that of the process) may use it,
    /// without a token. A socket that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// The path is taken, or the socket cannot be made.
    pub fn unix(path: &Path, group: Option<u32>) -> Result<Self, ListenError> {
        let failed = |source| ListenError::Unix {
            path: path.to_owned(),
            source,
        };
        match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.file_type().is_socket() => {
                if std::os::unix::net::UnixStream::connect(path).is_ok() {
                    return Err(ListenError::InUse {
                        path: path.to_owned(),
                    });
                }
                fs::remove_file(path).map_err(failed)?;
            }
            Ok(_) => {
                return Err(ListenError::Occupied {
                    path: path.to_owned(),
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        // Bound under another name and moved into place with its mode set, so that it is never open to others.
        let new = path.with_extension("new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let socket = UnixListener::bind(&new).map_err(failed)?;
        let placed = std::os::unix::fs::chown(&new, None, group)
            .and_then(|()| fs::set_permissions(&new, fs::Permissions::from_mode(0o660)))
            .and_then(|()| fs::rename(&new, path));
        if let Err(error) = placed {
            let _ = fs::remove_file(&new);
            return Err(failed(error));
        }
        Ok(Self {
            socket: Socket::Unix(socket),
            access: Access::Open,
        })
    }

    /// A loopback address, for those who have the token.
    ///
    /// # Errors
    /// The address is not loopback, or it is taken.
    pub async fn tcp(address: SocketAddr, token: Token) -> Result<Self, ListenError> {
        if !address.ip().is_loopback() {
            return Err(ListenError::NotLoopback(address));
        }
        let socket = TcpListener::bind(address)
            .await
            .map_err(|source| ListenError::Tcp { address, source })?;
        Ok(Self {
            socket: Socket::Tcp(socket),
            access: Access::Token {
                token,
                enroll: false,
            },
        })
    }

    /// Any address, with TLS (1.2 and 1.3) by the certificate and key in these PEM files, for those who have the token or enrol.
    ///
    /// # Errors
    /// The files cannot be read or do not fit, or the address is taken.
    pub async fn tls(
        address: SocketAddr,
        certificate: &Path,
        key: &Path,
        token: Token,
    ) -> Result<Self, ListenError> {
        let acceptor = tls_acceptor(certificate, key)?;
        let socket = TcpListener::bind(address)
            .await
            .map_err(|source| ListenError::Tcp { address, source })?;
        Ok(Self {
            socket: Socket::Tls(socket, acceptor),
            access: Access::Token {
                token,
                enroll: true,
            },
        })
    }

    /// Whether it speaks TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        matches!(self.socket, Socket::Tls(..))
    }

    /// The address of a TCP listener: its port, when it was bound with port 0.
    #[must_use]
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        match &self.socket {
            Socket::Tcp(socket) | Socket::Tls(socket, _) => socket.local_addr().ok(),
            Socket::Unix(_) => None,
        }
    }
}

fn tls_acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor, ListenError> {
    let failed = |what, path: &Path, problem: &dyn std::fmt::Display| ListenError::Tls {
        what,
        path: path.to_owned(),
        problem: problem.to_string(),
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| failed("certificate", certificate, &error))?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| failed("key", key, &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(chain, secret))
        .map_err(|error| failed("certificate", certificate, &error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.socket {
            Socket::Unix(_) => "unix",
            Socket::Tcp(_) => "tcp",
            Socket::Tls(..) => "tls",
        };
        f.debug_struct("Listener")
            .field("socket", &kind)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_unix_socket_is_for_its_group_and_replaces_a_dead_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("api.sock");
        let listener = Listener::unix(&path, None).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o660
        );
        assert!(matches!(
            Listener::unix(&path, None),
            Err(ListenError::InUse { .. })
        ));
        drop(listener);
        Listener::unix(&path, None).unwrap();
        let file = folder.path().join("file.sock");
        fs::write(&file, "").unwrap();
        assert!(matches!(
            Listener::unix(&file, None),
            Err(ListenError::Occupied { .. })
        ));
        assert!(matches!(
            Listener::unix(&folder.path().join("no/where"), None),
            Err(ListenError::Unix { .. })
        ));
    }

    #[tokio::test]
    async fn tcp_is_loopback_only() {
        let token = Token::new("t");
        let error = Listener::tcp("0.0.0.0:0".parse().unwrap(), token.clone())
            .await
            .unwrap_err();
        assert!(matches!(error, ListenError::NotLoopback(_)));
        let listener = Listener::tcp("127.0.0.1:0".parse().unwrap(), token)
            .await
            .unwrap();
        assert_ne!(listener.tcp_address().unwrap().port(), 0);
    }
}
