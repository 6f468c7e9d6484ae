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
use tokio_rustls::TlsAcceptor;

use crate::board::Board;
use crate::config;
use crate::control::ExamControl;
use crate::history::History;
use crate::port::{self, Door};

use guard::Guard;
pub use preview::Preview;
use words::Words;

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
}

/// Everything that the page needs of files.
struct Files {
    guard: Guard,
    words: Words,
    tls: Option<TlsAcceptor>,
}

impl Files {
    fn read(settings: &config::Kiosk) -> Result<Self, String> {
        Ok(Self {
            guard: Guard::new(settings)?,
            words: Words::load(settings.words.as_deref())?,
            tls: tls::acceptor(settings)?,
        })
    }
}

/// Looks at every file that the page needs.
pub fn check(settings: &config::Kiosk) -> Result<(), String> {
    Files::read(settings).map(drop)
}

/// A page whose port is open.
pub struct Opened {
    door: Door,
    guard: Guard,
    words: Words,
}

/// Reads every file that the page needs, and opens its port.
pub fn open(settings: &config::Kiosk) -> Result<Opened, String> {
    let Files { guard, words, tls } = Files::read(settings)?;
    Ok(Opened { door: Door::open("kiosk.listen", settings.listen, tls)?, guard, words })
}

/// What all connections share.
#[derive(Clone)]
struct Served {
    kiosk: Kiosk,
    words: Arc<Words>,
    /// For connections. A page has a place of its own, from its upgrade on.
    room: Arc<Semaphore>,
    /// Closed when this daemon ends: pages outlive the connection that they began as.
    open: watch::Receiver<()>,
}

/// Answers requests, until it is dropped.
pub async fn serve(page: Opened, kiosk: Kiosk) {
    let Opened { door, guard, words } = page;
    let (guard, words) = (Arc::new(guard), Arc::new(words));
    let (_open, open) = watch::channel(());
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let served = Served { kiosk, words, room: room.clone(), open };
    let router = Router::new()
        .route("/", get(|| async { fixed("text/html; charset=utf-8", include_str!("page/index.html")) }))
        .route("/style.css", get(|| async { fixed("text/css; charset=utf-8", include_str!("page/style.css")) }))
        .route("/script.js", get(|| async { fixed("text/javascript; charset=utf-8", include_str!("page/script.js")) }))
        .route("/icon.svg", get(|| async { fixed("image/svg+xml", include_str!("page/icon.svg")) }))
        .route("/words.json", get(all_words))
        .route("/live", get(live::connect))
        .with_state(served)
        .layer(middleware::from_fn_with_state(guard, guard::check));
    port::serve(door, router, room).await;
}

fn fixed(kind: &'static str, text: &'static str) -> Response {
    // A newer program may have a newer page: it is asked for each time, and is small.
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-cache")], text).into_response()
}

async fn all_words(State(served): State<Served>) -> Response {
    let json = serde_json::to_string(&*served.words).unwrap_or_default();
    ([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-cache")], json).into_response()
}
