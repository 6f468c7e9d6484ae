//! The ports of page and metrics: few connections, none of which may be slow.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// How long a request, and the beginning of TLS, may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a connection may be there: whoever asks and never reads the answers would keep its place for ever.
const LONGEST: Duration = Duration::from_secs(60);
/// Wait before a port is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// Most bytes of the head of a request.
const HEAD: usize = 16 << 10;

/// An open port, and what is needed for TLS.
pub struct Door {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
}

impl Door {
    /// Opens a port, which errors call `what`.
    pub fn open(what: &str, address: SocketAddr, tls: Option<TlsAcceptor>) -> Result<Self, String> {
        let bind = || {
            let listener = std::net::TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        };
        let listener = bind().map_err(|error| format!("{what} {address}: {error}"))?;
        Ok(Self { listener, tls })
    }
}

/// Where a port could not be opened at the first try, tries until it is, and says when what is in the way changes. The address may
/// be one that the network gives this machine later; a file may be mended.
pub(crate) async fn opened<T: Send + 'static>(
    without: &str,
    first: Result<T, String>,
    again: impl Fn() -> Result<T, String> + Clone + Send + 'static,
) -> T {
    let (mut tried, mut told) = (first, String::new());
    loop {
        match tried {
            Ok(open) => return open,
            Err(error) if error != told => {
                tracing::error!("{without}: {error}; trying again");
                told = error;
            }
            Err(_) => {}
        }
        tokio::time::sleep(RETRY).await;
        // Files are read for it.
        tried = match tokio::task::spawn_blocking(again.clone()).await {
            Ok(tried) => tried,
            Err(error) => Err(error.to_string()),
        };
    }
}

/// Answers for ever, as many at once as there is room for.
pub(crate) async fn serve(door: Door, router: Router, room: Arc<Semaphore>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = door.listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // No more descriptors, perhaps: it does not get better by asking at once.
                tracing::debug!("port: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // Too many: this one is closed.
        let Ok(permit) = room.clone().try_acquire_owned() else { continue };
        let (tls, router) = (door.tls.clone(), router.clone());
        connections.spawn(async move {
            let _permit = permit;
            match tls {
                None => answer(stream, router).await,
                Some(acceptor) => greet(acceptor, stream, router).await,
            }
        });
    }
}

async fn greet(acceptor: TlsAcceptor, stream: TcpStream, router: Router) {
    if let Ok(Ok(stream)) = timeout(PATIENCE, acceptor.accept(stream)).await {
        answer(stream, router).await;
    }
}

async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(HEAD)
        // Whoever has said all they wanted to say still gets the answer.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .with_upgrades();
    // A page has left it by then: from its upgrade on, it is no connection of these.
    match timeout(LONGEST, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!("port: {error}"),
        Err(_) => tracing::debug!("port: a connection took too long"),
    }
}
