//! Serving: connections, their limits, and how they end.

use std::{io, sync::Arc, time::Duration};

use api_types::HealthCheck;
use axum::Router;
use control::{Control, HostSystem};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{Semaphore, watch},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    access::Access,
    listen::{Listener, Socket},
    routes::{self, HostShared, Shared},
};

/// The limits of the interface.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Connections at a time per listener; more wait to be accepted.
    pub max_connections: usize,
    /// How long a client may take to send a request's head, and how long a connection may idle between requests.
    pub header_timeout: Duration,
    /// How long an upload may stall.
    pub upload_stall_timeout: Duration,
    /// How long requests under way may take to end once the interface is to stop.
    pub shutdown_grace: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_connections: 256,
            header_timeout: Duration::from_secs(30),
            upload_stall_timeout: Duration::from_secs(60),
            shutdown_grace: Duration::from_secs(5),
        }
    }
}

/// Largest head of a request, bytes.
const MAX_HEAD: usize = 64 << 10;

/// The machine under the daemon, where its first process is ours.
#[derive(Clone, Default)]
pub struct Host {
    /// Its use cases.
    pub system: Option<HostSystem>,
    /// The bearer token that those who enrol are given.
    pub api_token: Option<Arc<str>>,
}

/// Serves the interface on `listeners` until `shutdown` is over; then ends streams, lets requests under way finish for
/// as long as the options say, and returns.
///
/// # Errors
/// A listener broke (not: a connection).
pub async fn serve(
    listeners: Vec<Listener>,
    control: Control,
    host: Host,
    options: Options,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let (stop, stopping) = watch::channel(false);
    let shared = Shared {
        host: HostShared::new(host.system, host.api_token, Some(control.clone())),
        control,
        stopping: stopping.clone(),
        upload_stall_timeout: options.upload_stall_timeout,
    };
    let router = |access| routes::router(shared.clone(), access);
    serve_routers(listeners, router, stop, stopping, options, shutdown).await
}

/// Serves only what works without a store and a pool: the host's own machine, and `faults` as the reason for the rest.
///
/// # Errors
/// A listener broke (not: a connection).
pub async fn serve_maintenance(
    listeners: Vec<Listener>,
    host: Host,
    faults: Vec<HealthCheck>,
    options: Options,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let (stop, stopping) = watch::channel(false);
    let shared = HostShared::new(host.system, host.api_token, None);
    let router = |access| routes::maintenance(shared.clone(), faults.clone(), access);
    serve_routers(listeners, router, stop, stopping, options, shutdown).await
}

async fn serve_routers(
    listeners: Vec<Listener>,
    router: impl Fn(Access) -> Router,
    stop: watch::Sender<bool>,
    stopping: watch::Receiver<bool>,
    options: Options,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let graceful = GracefulShutdown::new();
    let result = {
        let accepting = listeners.into_iter().map(|listener| {
            let router = router(listener.access.clone());
            accept(
                listener.socket,
                router,
                stopping.clone(),
                options,
                &graceful,
            )
        });
        tokio::select! {
            result = futures_util::future::try_join_all(accepting) => result.map(drop),
            () = shutdown => Ok(()),
        }
    };
    // Streams (events, consoles) end, idle connections close, requests under way finish.
    stop.send_replace(true);
    if tokio::time::timeout(options.shutdown_grace, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("requests were still under way when the interface was closed");
    }
    result
}

/// Accepts connections, each in a task of its own, until told to stop.
async fn accept(
    socket: Socket,
    router: Router,
    mut stopping: watch::Receiver<bool>,
    options: Options,
    graceful: &GracefulShutdown,
) -> io::Result<()> {
    let connections = Arc::new(Semaphore::new(options.max_connections));
    let socket_acceptor = match &socket {
        Socket::Tls(_, acceptor) => Some(acceptor.clone()),
        _ => None,
    };
    loop {
        let accepted = async {
            // Never closed: there is always a permit to come.
            let permit = Arc::clone(&connections)
                .acquire_owned()
                .await
                .map_err(io::Error::other)?;
            let stream = match &socket {
                Socket::Unix(socket) => Accepted::Plain(Box::new(socket.accept().await?.0)),
                Socket::Tcp(socket) | Socket::Tls(socket, _) => {
                    let stream = socket.accept().await?.0;
                    // Console output is small writes that must not wait for each other.
                    stream.set_nodelay(true)?;
                    match &socket_acceptor {
                        Some(acceptor) => Accepted::Tls(acceptor.clone(), stream),
                        None => Accepted::Plain(Box::new(stream)),
                    }
                }
            };
            Ok((stream, permit))
        };
        let (stream, permit) = tokio::select! {
            accepted = accepted => match accepted {
                Ok(accepted) => accepted,
                Err(error) if is_passing(&error) => {
                    tracing::warn!("a connection was not accepted: {error}");
                    // Out of descriptors or memory: let connections under way end first.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
                Err(error) => return Err(error),
            },
            () = stopped(&mut stopping) => return Ok(()),
        };
        let (router, watcher) = (router.clone(), graceful.watcher());
        // A slow or senseless handshake keeps nobody else waiting.
        tokio::spawn(async move {
            if let Some(stream) = stream.open(options.header_timeout).await {
                connection(stream, router, options, watcher).await;
            }
            drop(permit);
        });
    }
}

/// Is over when the interface is to stop.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // The sender going away is a stop, too.
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// A connection whose handshake may still be to come.
enum Accepted {
    Plain(Box<dyn Stream>),
    Tls(TlsAcceptor, TcpStream),
}

impl Accepted {
    async fn open(self, limit: Duration) -> Option<Box<dyn Stream>> {
        match self {
            Self::Plain(stream) => Some(stream),
            Self::Tls(acceptor, stream) => {
                match tokio::time::timeout(limit, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => Some(Box::new(stream)),
                    Ok(Err(error)) => {
                        tracing::debug!("a TLS handshake failed: {error}");
                        None
                    }
                    Err(_) => None,
                }
            }
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn connection(stream: Box<dyn Stream>, router: Router, options: Options, watcher: Watcher) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(options.header_timeout)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = watcher.watch(connection).await {
        // The other side went away, or sent something that isn't HTTP.
        tracing::debug!("a connection ended: {error}");
    }
}

/// Errors of one connection, or of a moment, that say nothing about the listener.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, InvalidInput};
    const EMFILE: i32 = 24;
    const ENFILE: i32 = 23;
    const ENOMEM: i32 = 12;
    const ENOBUFS: i32 = 105;
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | InvalidInput
    ) || matches!(
        error.raw_os_error(),
        Some(EMFILE | ENFILE | ENOMEM | ENOBUFS)
    )
}
