//! The connection of a page: state, results and pictures to it, wishes from it.
//!
//! To the page, text is JSON with one of the keys `state` (with `now` and `device_id`; after each change, and every second in any
//! case, so that silence means that the daemon is gone), `results` (the newest first) and `answer`; what is binary is a JPEG.
//! From the page comes `{"do": "start"}`, `{"do": "cancel"}`, or `{"look": true}` and `{"look": false}`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State as Shared;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use super::preview::Picture;
use super::{Kiosk, Served};
use crate::exam::NotNow;

/// The state comes at least so often.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// And at most so often.
const STATE_EVERY: Duration = Duration::from_millis(100);
/// A page that does not take a message for so long is gone.
const PATIENCE: Duration = Duration::from_secs(5);
/// What a page says is short.
const LONGEST: usize = 1 << 10;
/// What is sent in one piece. Thirty pages with what is usual for servers would take 8 MB.
const BUFFER: usize = 16 << 10;
/// Wishes in a second; who has more is no person.
const WISHES: u32 = 10;

#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Wish {
    Do(What),
    Look(bool),
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum What {
    Start,
    Cancel,
}

pub(super) async fn connect(Shared(served): Shared<Served>, upgrade: WebSocketUpgrade) -> Response {
    let Served { kiosk, room, mut open, .. } = served;
    let Ok(place) = room.try_acquire_owned() else { return StatusCode::SERVICE_UNAVAILABLE.into_response() };
    let upgrade = upgrade.max_message_size(LONGEST).max_frame_size(LONGEST);
    upgrade.read_buffer_size(LONGEST).write_buffer_size(BUFFER).on_upgrade(|socket| async move {
        let _place = place;
        // Nobody needs to know why a page went. When the daemon ends, the page must go to the next one: what this one would go
        // on to show is old.
        tokio::select! {
            _ = Page::new(kiosk, socket).run() => {}
            _ = open.changed() => {}
        }
    })
}

/// The page is gone.
struct Gone;

struct Page {
    kiosk: Kiosk,
    socket: WebSocket,
    pictures: Option<watch::Receiver<Picture>>,
    wishes: u32,
}

impl Page {
    fn new(kiosk: Kiosk, socket: WebSocket) -> Self {
        Self { kiosk, socket, pictures: None, wishes: 0 }
    }

    async fn run(mut self) -> Result<(), Gone> {
        let (mut state, mut results) = (self.kiosk.board.watch(), self.kiosk.history.watch());
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut due, mut sent) = (true, Instant::now() - STATE_EVERY);
        results.mark_changed();
        loop {
            let next = due.then(|| sent + STATE_EVERY);
            tokio::select! {
                () = until(next) => {
                    let now = jiff::Timestamp::now();
                    let json = json!({"state": &*state.borrow_and_update(), "now": now, "device_id": self.kiosk.device_id});
                    self.say(json).await?;
                    (due, sent) = (false, Instant::now());
                }
                Ok(()) = state.changed(), if !due => due = true,
                Ok(()) = results.changed() => {
                    let json = {
                        let newest = results.borrow_and_update();
                        json!({"results": newest.iter().map(Arc::as_ref).collect::<Vec<_>>()})
                    };
                    self.say(json).await?;
                }
                picture = next_picture(&mut self.pictures) => {
                    self.send(Message::Binary(axum::body::Bytes::from_owner(picture))).await?;
                }
                _ = heartbeat.tick() => {
                    self.wishes = 0;
                    due = true;
                }
                message = self.socket.recv() => match message {
                    Some(Ok(Message::Text(text))) => self.hear(&text).await?,
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    _ => return Err(Gone),
                },
            }
        }
    }

    async fn hear(&mut self, text: &str) -> Result<(), Gone> {
        self.wishes += 1;
        if self.wishes > WISHES {
            return Err(Gone);
        }
        match serde_json::from_str(text) {
            Ok(Wish::Look(true)) => {
                self.pictures.get_or_insert_with(|| self.kiosk.preview.watch());
                Ok(())
            }
            Ok(Wish::Look(false)) => {
                self.pictures = None;
                Ok(())
            }
            Ok(Wish::Do(what)) => {
                let done = match what {
                    What::Start => self.kiosk.control.start().await,
                    What::Cancel => self.kiosk.control.cancel().await,
                };
                let refusal: Option<NotNow> = done.err();
                self.say(json!({"answer": refusal.map(NotNow::code)})).await
            }
            Err(_) => Err(Gone),
        }
    }

    async fn say(&mut self, json: Value) -> Result<(), Gone> {
        self.send(Message::text(json.to_string())).await
    }

    async fn send(&mut self, message: Message) -> Result<(), Gone> {
        match timeout(PATIENCE, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Gone),
        }
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// The next picture; none comes to a page that does not look.
async fn next_picture(pictures: &mut Option<watch::Receiver<Picture>>) -> Picture {
    if let Some(pictures) = pictures
        && pictures.changed().await.is_ok()
    {
        return pictures.borrow_and_update().clone();
    }
    std::future::pending().await
}
