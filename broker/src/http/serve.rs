//! The plain server: connections, TLS, limits, and a stop that lets requests end.

use std::convert::Infallible;
use std::fs;
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use crate::config::TlsFiles;
use crate::per_key_limit::{PerKeyLimit, network};
use stile_core::audit::Network;

/// Connections at once; past that the next ones wait in the system's queue.
const CONNECTIONS: usize = 1024;

/// Connections of one address at once, where it is the client's: with TLS. Plain HTTP is spoken to a proxy or on this machine,
/// where all who come have one address.
const SHARE: usize = CONNECTIONS / 4;

/// How long to leave the system alone that could not give us a connection.
const REFUSED: Duration = Duration::from_secs(1);

/// Bytes of an answer that wait in the system for a connection; a reader of 10 kB/s takes a third of them in time.
const WAITING: usize = 256 * 1024;

/// Most bytes of a request's line and headers, which are at most 100, hyper's own limit.
const MAX_HEADER_BYTES: usize = 32 * 1024;

/// Why the server cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is taken or not ours.
    #[error("cannot listen on {0}")]
    Listen(SocketAddr, #[source] std::io::Error),
    /// A PEM file cannot be read.
    #[error("`{0}` is not a PEM file with a certificate chain or a private key")]
    Pem(String, #[source] rustls::pki_types::pem::Error),
    /// Certificate and key cannot be used.
    #[error("the certificate and the key cannot be used together")]
    Tls(#[source] rustls::Error),
    /// The key can be read by anyone on the machine.
    #[error("`{0}` can be read by everybody; hint: `chmod 600 {0}`")]
    Exposed(String),
}

/// Time limits of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionTimeouts {
    /// How long a client may take for its request line and headers, and for a TLS handshake: a slow one holds a connection
    /// for this long and no longer.
    pub head: Duration,
    /// How long a client may take nothing of what it is sent: one that asks and never reads would hold a connection for ever.
    pub taking: Duration,
    /// How long requests may go on after the order to stop.
    pub drain: Duration,
}

impl Default for ConnectionTimeouts {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            taking: Duration::from_secs(20),
            drain: Duration::from_secs(20),
        }
    }
}

/// A server that has its address.
pub struct Server {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    timeouts: ConnectionTimeouts,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Server")
            .field("listener", &self.listener)
            .field("tls", &self.tls.is_some())
            .finish()
    }
}

/// Reads a certificate chain and its key.
pub fn tls(files: &TlsFiles) -> Result<Arc<ServerConfig>, ServeError> {
    let pem = |path: &Path| {
        let shown = path.display().to_string();
        move |error| ServeError::Pem(shown, error)
    };
    refuse_exposed(&files.key)?;
    let chain = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(pem(&files.cert))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(pem(&files.key))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(ServeError::Tls)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn refuse_exposed(key: &Path) -> Result<(), ServeError> {
    use std::os::unix::fs::PermissionsExt;
    match fs::metadata(key) {
        Ok(metadata) if metadata.permissions().mode() & 0o007 != 0 => {
            Err(ServeError::Exposed(key.display().to_string()))
        }
        _ => Ok(()),
    }
}

/// Systems give a process 1,024 files by habit, which is fewer than our connections, database and archives together.
fn raise_file_limit() {
    let wanted = (CONNECTIONS * 2) as u64;
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum.map_or(Some(wanted), |most| Some(most.min(wanted))),
        maximum: limit.maximum,
    };
    if limit.current.is_some_and(|current| current < wanted)
        && setrlimit(Resource::Nofile, raised).is_err()
    {
        tracing::warn!("the limit of open files could not be raised to {wanted}");
    }
}

impl Server {
    /// Takes the address, and as many files as that many connections need.
    pub async fn bind(
        address: SocketAddr,
        tls: Option<Arc<ServerConfig>>,
    ) -> Result<Self, ServeError> {
        raise_file_limit();
        let listener =
            TcpListener::bind(address).await.map_err(|error| ServeError::Listen(address, error))?;
        Ok(Self {
            listener,
            tls: tls.map(TlsAcceptor::from),
            timeouts: ConnectionTimeouts::default(),
        })
    }

    /// The same server with other time limits.
    #[must_use]
    pub fn with_timeouts(self, timeouts: ConnectionTimeouts) -> Self {
        Self { timeouts, ..self }
    }

    /// The address it has, with the port the system chose where none was asked for.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop`, then lets requests in the works end, within the time limit.
    pub async fn run(self, router: Router, stop: impl Future<Output = ()>) {
        let graceful = GracefulShutdown::new();
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        let shares = self.tls.is_some().then(|| PerKeyLimit::new(SHARE));
        tokio::pin!(stop);
        loop {
            let accepted = async {
                let place = Arc::clone(&room).acquire_owned().await;
                (place, self.listener.accept().await)
            };
            let (place, (stream, peer)) = tokio::select! {
                () = &mut stop => break,
                (place, accepted) = accepted => match (place, accepted) {
                    (Ok(place), Ok(accepted)) => (place, accepted),
                    (_, Err(error)) => {
                        // Out of file descriptors, say. Tried again at once it would take a processor and fill the log.
                        tracing::warn!(error = &error as &dyn std::error::Error, "a connection was not accepted; trying again in a second");
                        tokio::time::sleep(REFUSED).await;
                        continue;
                    }
                    (Err(_), _) => break,
                },
            };
            let share = shares.as_ref().map(|shares| shares.take(network(peer.ip())));
            if matches!(share, Some(None)) {
                tracing::debug!(%peer, "an address has its share of the connections");
                continue;
            }
            let (router, tls, watcher) = (router.clone(), self.tls.clone(), graceful.watcher());
            let timeouts = self.timeouts;
            // When it gets overloaded, a connection is for one request: whoever keeps one open keeps others out.
            let keep_alive = room.available_permits() > CONNECTIONS / 4;
            tokio::spawn(async move {
                let limits = Limits { timeouts, network: Network::of(peer.ip()), keep_alive };
                connection(stream, tls, router, watcher, limits).await;
                drop((place, share));
            });
        }
        drop(self.listener);
        let drain = self.timeouts.drain;
        if tokio::time::timeout(drain, graceful.shutdown()).await.is_err() {
            tracing::warn!(
                "some requests were still in the works after {} seconds",
                drain.as_secs()
            );
        }
    }
}

/// What holds for one connection.
#[derive(Clone, Copy)]
struct Limits {
    timeouts: ConnectionTimeouts,
    network: Network,
    keep_alive: bool,
}

async fn connection(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    router: Router,
    watcher: Watcher,
    limits: Limits,
) {
    let _ = stream.set_nodelay(true);
    // The system says that more can be taken when a third of what waits has gone: of its own 4 MB that is a minute for a
    // slow reader, which would look as if nothing were taken.
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(&stream, WAITING);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.timeouts.taking));
    let stream = Box::pin(stream);
    match tls {
        None => serve(stream, router, watcher, limits).await,
        Some(tls) => match tokio::time::timeout(limits.timeouts.head, tls.accept(stream)).await {
            Ok(Ok(stream)) => serve(stream, router, watcher, limits).await,
            Ok(Err(error)) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "a TLS handshake failed");
            }
            Err(_) => tracing::debug!("a TLS handshake took too long"),
        },
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    watcher: Watcher,
    limits: Limits,
) {
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        let router = router.clone();
        request.extensions_mut().insert(limits.network);
        async move {
            Ok::<_, Infallible>(
                router.oneshot(request.map(Body::new)).await.unwrap_or_else(|never| match never {}),
            )
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.timeouts.head)
        .keep_alive(limits.keep_alive)
        .max_buf_size(MAX_HEADER_BYTES)
        .max_header_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(error = &error as &dyn std::error::Error, "a connection ended early");
    }
}
