//! The page of the kiosk: what the clinic sees, in a browser on this machine.
//!
//! One page, one connection. The page learns everything over a WebSocket and asks for everything over it, see `live.rs`; what
//! else can be fetched never changes. docs/design/kiosk.md says why.

mod guard;
mod live;
mod preview;
mod tls;
mod words;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::{Semaphore, watch};

use crate::board::Board;
use crate::config;
use crate::control::ExamControl;
use crate::history::History;
use crate::port::{self, Door};

pub use guard::Guard;
pub use preview::{Picture, Preview};
pub use words::Words;

/// Connections at the same time. A browser opens up to six for a page.
const CONNECTIONS: usize = 200;

/// What the page shows and asks for.
#[derive(Clone, Debug)]
pub struct Kiosk {
    /// The name of this kiosk.
    pub device_id: String,
    /// The state.
    pub board: Arc<Board>,
    /// The last results.
    pub history: Arc<History>,
    /// The picture.
    pub preview: Arc<Preview>,
    /// Start and cancel.
    pub control: ExamControl,
    /// All texts.
    pub words: Arc<Words>,
}

/// Looks at every file that the page needs.
pub fn check(settings: &config::Kiosk) -> Result<(), String> {
    Guard::new(settings)?;
    Words::load(settings.words.as_deref())?;
    tls::acceptor(settings)?;
    Ok(())
}

/// Opens the port of the page.
pub fn open(settings: &config::Kiosk) -> Result<Door, String> {
    Door::open("kiosk.listen", settings.listen, tls::acceptor(settings)?)
}

/// What all connections share.
#[derive(Clone)]
struct Served {
    kiosk: Kiosk,
    /// For connections. A page has a place of its own, from its upgrade on.
    room: Arc<Semaphore>,
    /// Closed when this daemon ends: pages outlive the connection that they began as.
    open: watch::Receiver<()>,
}

/// Answers requests, until it is dropped.
pub async fn serve(door: Door, settings: &config::Kiosk, kiosk: Kiosk) {
    let guard = match Guard::new(settings) {
        Ok(guard) => Arc::new(guard),
        Err(error) => return tracing::error!("kiosk: {error}"),
    };
    let (_open, open) = watch::channel(());
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let served = Served { kiosk, room: room.clone(), open };
    let router = Router::new()
        .route("/", get(|| async { fixed("text/html; charset=utf-8", include_str!("page/index.html")) }))
        .route("/style.css", get(|| async { fixed("text/css; charset=utf-8", include_str!("page/style.css")) }))
        .route("/script.js", get(|| async { fixed("text/javascript; charset=utf-8", include_str!("page/script.js")) }))
        .route("/icon.svg", get(|| async { fixed("image/svg+xml", include_str!("page/icon.svg")) }))
        .route("/words.json", get(words))
        .route("/live", get(live::connect))
        .with_state(served)
        .layer(middleware::from_fn_with_state(guard, guard::check));
    port::serve(door, router, room).await;
}

fn fixed(kind: &'static str, text: &'static str) -> Response {
    // A newer program may have a newer page: it is asked for each time, and is small.
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-cache")], text).into_response()
}

async fn words(State(served): State<Served>) -> Response {
    let json = serde_json::to_string(&*served.kiosk.words).unwrap_or_default();
    ([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-cache")], json).into_response()
}
