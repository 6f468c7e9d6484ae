//! The port of the page: few connections, none of which may be slow.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::config::{self, read_small};
use crate::publish::tls;

/// Connections at the same time. A browser opens up to six for a page.
pub(super) const CONNECTIONS: usize = 200;
/// How long a request, and the beginning of TLS, may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most bytes of the head of a request.
const HEAD: usize = 16 << 10;

/// An open port, and what is needed for TLS.
pub struct Door {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
}

/// What is needed for TLS, if the settings want it.
pub(super) fn tls(settings: &config::Kiosk) -> Result<Option<TlsAcceptor>, String> {
    let acceptor = settings.tls.as_ref().map(|files| {
        let pem = read_small(&files.key).map_err(|error| format!("kiosk.tls: {error}"))?;
        let unusable = |error: &dyn std::fmt::Display| format!("kiosk.tls: {}: {error}", files.key.display());
        let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| unusable(&error))?;
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_no_client_auth()
            .with_single_cert(tls::certificates(&files.certificate)?, key)
            .map_err(|error| unusable(&error))?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    });
    acceptor.transpose()
}

/// Opens the port.
pub fn open(settings: &config::Kiosk) -> Result<Door, String> {
    let tls = tls(settings)?;
    let bind = || {
        let listener = std::net::TcpListener::bind(settings.listen)?;
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    };
    let listener = bind().map_err(|error: std::io::Error| format!("kiosk.listen {}: {error}", settings.listen))?;
    Ok(Door { listener, tls })
}

/// Answers for ever, as many at once as there is room for.
pub(super) async fn serve(door: Door, router: Router, room: Arc<Semaphore>) {
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
                tracing::debug!("kiosk: {error}");
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
    if let Err(error) = connection.await {
        tracing::debug!("kiosk: {error}");
    }
}
