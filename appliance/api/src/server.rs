//! Serving: connections, their limits, and how they end.

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use control::Control;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
};

use crate::{
    listen::{Listener, Socket},
    routes::{self, Shared},
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

/// Serves the interface on `listeners` until `shutdown` is over; then ends streams, lets requests under way finish for
/// as long as the options say, and returns.
///
/// # Errors
/// A listener broke (not: a connection).
pub async fn serve(
    listeners: Vec<Listener>,
    control: Control,
    options: Options,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let (stop, stopping) = watch::channel(false);
    let shared = Shared {
        control,
        stopping,
        upload_stall_timeout: options.upload_stall_timeout,
    };
    let graceful = GracefulShutdown::new();
    let result = {
        let accepting = listeners
            .into_iter()
            .map(|listener| accept(listener, &shared, options, &graceful));
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
    listener: Listener,
    shared: &Shared,
    options: Options,
    graceful: &GracefulShutdown,
) -> io::Result<()> {
    let router = routes::router(shared.clone(), listener.access);
    let connections = Arc::new(Semaphore::new(options.max_connections));
    loop {
        let accepted = async {
            // Never closed: there is always a permit to come.
            let permit = Arc::clone(&connections)
                .acquire_owned()
                .await
                .map_err(io::Error::other)?;
            let stream: Box<dyn Stream> = match &listener.socket {
                Socket::Unix(socket) => Box::new(socket.accept().await?.0),
                Socket::Tcp(socket) => {
                    let stream = socket.accept().await?.0;
                    // Console output is small writes that must not wait for each other.
                    stream.set_nodelay(true)?;
                    Box::new(stream)
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
            () = shared.stopped() => return Ok(()),
        };
        let task = connection(stream, router.clone(), options, permit, graceful);
        tokio::spawn(task);
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

fn connection(
    stream: Box<dyn Stream>,
    router: Router,
    options: Options,
    permit: OwnedSemaphorePermit,
    graceful: &GracefulShutdown,
) -> impl Future<Output = ()> + Send + use<> {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(options.header_timeout)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let watched = graceful.watch(connection);
    async move {
        if let Err(error) = watched.await {
            // The other side went away, or sent something that isn't HTTP.
            tracing::debug!("a connection ended: {error}");
        }
        drop(permit);
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
