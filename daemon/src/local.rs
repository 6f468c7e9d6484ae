//! The socket for programs on this machine: `anemiad status`, and starting an exam by whatever can run a command.
//!
//! A line comes in (`status`, `start` or `cancel`), a line of JSON goes out. Who may write into the state folder's socket is
//! whoever owns it, and root.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::time::timeout;

use crate::board::State;
use crate::control::ExamControl;
use crate::publish::telemetry::{Meter, Sources, Telemetry};

const SOCKET: &str = "anemiad.sock";
/// How long either side may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest request.
const LONGEST: u64 = 64;

/// What `anemiad status` shows.
#[derive(Serialize)]
struct Status {
    device_id: String,
    state: State,
    figures: Telemetry,
}

/// Where the socket of a state folder is.
pub fn socket(state_dir: &Path) -> PathBuf {
    state_dir.join(SOCKET)
}

/// Answers for ever. The figures are those since the last request.
pub async fn serve(state_dir: PathBuf, device_id: String, sources: Sources, control: ExamControl) {
    let path = socket(&state_dir);
    // One that is left from a process that was killed. Two daemons cannot share a state folder, see the outbox.
    let _ = std::fs::remove_file(&path);
    let listener = match UnixListener::bind(&path) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!("{}: {error}; `anemiad status` will not work", path.display()),
    };
    if let Err(error) = std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660)) {
        tracing::warn!("{}: {error}", path.display());
    }
    let mut meter = Meter::new(&sources);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        // One after the other: nobody needs this fast, and a slow one is left after a while.
        let _ = timeout(PATIENCE, async {
            let mut stream = tokio::io::BufStream::new(stream);
            let mut line = String::new();
            (&mut stream).take(LONGEST).read_line(&mut line).await?;
            let answer = match line.trim() {
                "status" => status(&device_id, &sources, &mut meter).await,
                "start" => serde_json::json!({"refused": control.start().await.err().map(|why| why.to_string())}),
                "cancel" => serde_json::json!({"refused": control.cancel().await.err().map(|why| why.to_string())}),
                _ => serde_json::json!({"refused": "expected status, start or cancel"}),
            };
            stream.write_all(format!("{answer}\n").as_bytes()).await?;
            stream.flush().await
        })
        .await;
    }
}

async fn status(device_id: &str, sources: &Sources, meter: &mut Meter) -> Value {
    let state = sources.board.watch().borrow().clone();
    let outbox = sources.outbox.clone();
    let stock = tokio::task::spawn_blocking(move || outbox.stock().unwrap_or_default()).await.unwrap_or_default();
    let figures = meter.read(sources, device_id.to_owned(), stock);
    serde_json::to_value(Status { device_id: device_id.to_owned(), state, figures }).unwrap_or_default()
}

/// Asks the daemon of a state folder. The text of an error says what to do.
pub fn ask(state_dir: &Path, request: &str) -> Result<Value, String> {
    let path = socket(state_dir);
    let failed = |error: std::io::Error| {
        let hint = match error.kind() {
            std::io::ErrorKind::PermissionDenied => "run this as root or as the user of the daemon",
            _ => "is the daemon running?",
        };
        format!("{}: {error}; {hint}", path.display())
    };
    let stream = UnixStream::connect(&path).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    (&stream).write_all(format!("{request}\n").as_bytes()).map_err(failed)?;
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).map_err(failed)?;
    serde_json::from_str(&line).map_err(|error| format!("{}: {error}", path.display()))
}
