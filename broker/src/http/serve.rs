//! The HTTP server: connections, limits and graceful shutdown.

use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use super::malformed;
use super::tls::Tls;
use crate::authn::sigv4::SourceNetwork;
use crate::client_source::{ClientAddress, ClientSource, FORWARDED_FOR};
use crate::metrics::Connections;
use crate::per_key_limit::PerNetworkLimit;
use stile_core::audit::Network;

/// The number of concurrent connections. Above it, new connections wait in the queue of the system.
const CONNECTIONS: usize = 1024;

/// The number of concurrent connections to the endpoint of metrics. So a process on this machine
/// cannot use the file descriptors that clients need.
const METRICS_CONNECTIONS: usize = 8;

/// The number of concurrent connections from one address, with TLS.
///
/// Plain HTTP has no such limit: behind a proxy, all clients have the same address.
const CONNECTIONS_PER_ADDRESS: usize = CONNECTIONS / 4;

/// The number of concurrent connections from one IPv6 /48, with TLS.
const CONNECTIONS_PER_SITE: usize = CONNECTIONS / 2;

/// The delay before the next attempt, if the system cannot accept a connection.
const RETRY_ACCEPT: Duration = Duration::from_secs(1);

/// The size of the send buffer of a connection, in bytes.
///
/// A client that reads 10 kB/s reads a third of it within the write timeout.
const SEND_BUFFER: usize = 256 * 1024;

/// The longest request line with headers, in bytes. Hyper itself limits a request to 100 headers.
const MAX_HEADER_BYTES: usize = 32 * 1024;

/// The reason why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is in use, or is not an address of this machine.
    #[error("cannot listen on {0}")]
    Listen(SocketAddr, #[source] std::io::Error),
}

/// The time limits of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionTimeouts {
    /// The longest time for the request line and headers, and for a TLS handshake. So a slow client
    /// cannot hold a connection for longer.
    pub head: Duration,
    /// The longest time in which a client reads nothing of the answer. Otherwise a client that
    /// never reads would hold its connection forever.
    pub write: Duration,
    /// The longest time for open requests after the signal to stop.
    pub drain: Duration,
}

impl Default for ConnectionTimeouts {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            write: Duration::from_secs(20),
            drain: Duration::from_secs(20),
        }
    }
}

/// A server with a listening socket.
pub struct Server {
    listener: TcpListener,
    tls: Option<Tls>,
    timeouts: ConnectionTimeouts,
    clients: ClientSource,
    most_connections: usize,
    open: Connections,
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

/// Raises the limit of open files.
///
/// The usual limit of 1,024 is too low for all connections together with the database and archives.
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
        tracing::warn!("cannot raise the limit of open files to {wanted}");
    }
}

impl Server {
    /// Listens on the address, and raises the limit of open files for the connections.
    pub async fn bind(address: SocketAddr, tls: Option<Tls>) -> Result<Self, ServeError> {
        raise_file_limit();
        let listener =
            TcpListener::bind(address).await.map_err(|error| ServeError::Listen(address, error))?;
        Ok(Self {
            listener,
            tls,
            timeouts: ConnectionTimeouts::default(),
            clients: ClientSource::Connection,
            most_connections: CONNECTIONS,
            open: Connections::default(),
        })
    }

    /// Allows only as many connections as the endpoint of metrics needs.
    #[must_use]
    pub fn for_metrics(self) -> Self {
        Self { most_connections: METRICS_CONNECTIONS, ..self }
    }

    /// Counts the open connections there.
    #[must_use]
    pub fn counting(self, open: Connections) -> Self {
        Self { open, ..self }
    }

    /// Replaces the place where the server finds the address of a client.
    #[must_use]
    pub fn with_clients(self, clients: ClientSource) -> Self {
        Self { clients, ..self }
    }

    /// Replaces the time limits.
    #[must_use]
    pub fn with_timeouts(self, timeouts: ConnectionTimeouts) -> Self {
        Self { timeouts, ..self }
    }

    /// Returns the address of the server. For port 0, it contains the port that the system
    /// selected.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop`, then waits for open requests within the time limit.
    pub async fn run(self, router: Router, stop: impl Future<Output = ()>) {
        let graceful = GracefulShutdown::new();
        let connections = Arc::new(Semaphore::new(self.most_connections));
        let per_network = self
            .tls
            .is_some()
            .then(|| PerNetworkLimit::new(CONNECTIONS_PER_ADDRESS, CONNECTIONS_PER_SITE));
        tokio::pin!(stop);
        loop {
            let accepted = async {
                let permit = Arc::clone(&connections).acquire_owned().await;
                (permit, self.listener.accept().await)
            };
            let (permit, (stream, peer)) = tokio::select! {
                () = &mut stop => break,
                (permit, accepted) = accepted => match (permit, accepted) {
                    (Ok(permit), Ok(accepted)) => (permit, accepted),
                    (_, Err(error)) => {
                        // For example, the process has no more file descriptors. An immediate retry
                        // would use a whole processor and fill the log.
                        tracing::warn!(error = &error as &dyn std::error::Error, "cannot accept a connection; trying again in one second");
                        tokio::time::sleep(RETRY_ACCEPT).await;
                        continue;
                    }
                    (Err(_), _) => break,
                },
            };
            let network_permit = per_network.as_ref().map(|limit| limit.take(peer.ip()));
            if matches!(network_permit, Some(None)) {
                tracing::debug!(%peer, "closed a connection: its network has too many connections");
                continue;
            }
            let (router, watcher) = (router.clone(), graceful.watcher());
            // Each connection gets the certificate that is in service now.
            let tls = self.tls.as_ref().map(Tls::acceptor);
            let (timeouts, clients) = (self.timeouts, self.clients);
            // Under high load, a connection serves only one request, so that idle connections do
            // not block other clients.
            let keep_alive = connections.available_permits() > self.most_connections / 4;
            let open = OpenConnection::of(&self.open);
            tokio::spawn(async move {
                let limits = Limits { timeouts, clients, peer: peer.ip(), keep_alive };
                connection(stream, tls, router, watcher, limits).await;
                drop((permit, network_permit, open));
            });
        }
        drop(self.listener);
        let drain = self.timeouts.drain;
        if tokio::time::timeout(drain, graceful.shutdown()).await.is_err() {
            tracing::warn!("some requests were still open after {} seconds", drain.as_secs());
        }
    }
}

/// One of the open connections, until it is dropped.
struct OpenConnection(Connections);

impl OpenConnection {
    fn of(open: &Connections) -> Self {
        open.inc();
        Self(open.clone())
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The limits and the other end of one connection.
#[derive(Clone, Copy)]
struct Limits {
    timeouts: ConnectionTimeouts,
    clients: ClientSource,
    peer: IpAddr,
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
    // A socket becomes writable again when a third of its send buffer is free. With the usual
    // buffer of 4 MB, a slow reader needs a minute for that, and would run into the write timeout.
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(&stream, SEND_BUFFER);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.timeouts.write));
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
        let forwarded = request.headers().get_all(FORWARDED_FOR).iter().map(HeaderValue::as_bytes);
        let client = limits.clients.address(forwarded, limits.peer);
        request.extensions_mut().insert(Network::of(client.unwrap_or(limits.peer)));
        if let Some(client) = client {
            request.extensions_mut().insert(SourceNetwork(Network::of(client)));
            request.extensions_mut().insert(ClientAddress(client));
        }
        let malformed = malformed::check_host(&request).err();
        if let Some(malformed) = malformed {
            request.extensions_mut().insert(malformed);
        }
        async move {
            let answered = router.oneshot(request.map(Body::new)).await;
            let mut response = answered.unwrap_or_else(|never| match never {});
            if malformed.is_some() {
                // A proxy that found another host in the request may also see another end of it.
                response
                    .headers_mut()
                    .insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
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
