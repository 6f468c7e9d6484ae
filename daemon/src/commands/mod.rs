//! Commands that come over MQTT: what they may say, and the answers. docs/reference/topics.md describes them.
//!
//! A command names itself and says until when it is wanted. It is written to the disk before it is carried out, so that a
//! repeat is recognised even after a power cut, and it is answered once. None of them reads a file of this machine, runs a
//! program or changes the configuration.

mod clerk;

use anemia_bundle::Sha256;
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::publish::CLOCK_IS_SET;

pub use clerk::{Clerk, Open, Order};

/// How far ahead a command may expire: its id is remembered until then.
const LONGEST_DAYS: i64 = 7;
/// A command of this program is much shorter.
const MOST_BYTES: usize = 4096;

/// A command that may be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Names it; the answer has it, too.
    pub id: String,
    /// From then on it is not carried out any more.
    pub expires_at: Timestamp,
    /// What is to be done.
    pub verb: Verb,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Start an exam at once.
    Start,
    /// End the exam that is running, without a result.
    Cancel,
    /// Read the configuration again.
    Reload,
    /// Throw the plans of TensorRT away and build them again.
    EngineRebuild,
    /// Fetch and install a newer model.
    ModelUpdate(ModelUpdate),
    /// Show that it is this kiosk.
    Identify,
}

/// A newer model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelUpdate {
    /// Where it is: `https://…`.
    pub url: String,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
}

/// The answer to a command, as published on `anemia/<device_id>/response`.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Response {
    /// Version of these fields; 1.
    pub schema: u32,
    /// The id of the command; null where none could be read.
    pub id: Option<String>,
    /// The name of the command.
    pub command: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Why it was not carried out; null when it was.
    pub reason: Option<Reason>,
    /// The same in words, or what was found.
    pub detail: String,
    /// When, by the kiosk's clock, in UTC (RFC 3339).
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub at: Timestamp,
}

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was carried out.
    Done,
    /// It was not begun.
    Refused,
    /// It was begun and did not succeed; everything is as it was before.
    Failed,
}

/// Why a command was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// There is no such command.
    UnknownCommand,
    /// The message is not what this command needs.
    Malformed,
    /// It came too late.
    Expired,
    /// The clock of the kiosk is not set, so nobody knows whether it came too late.
    ClockNotSet,
    /// Too many others are remembered or under way.
    Busy,
    /// It cannot be done in the state that the kiosk is in.
    NotNow,
    /// The configuration does not allow it.
    NotAllowed,
    /// It was tried.
    Failed,
    /// The program or the power ended before it was done.
    Interrupted,
}

/// Why a message is no command that may be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its id, where one could be read.
    pub id: Option<String>,
    /// Why, for programs.
    pub reason: Reason,
    /// Why, for people.
    pub detail: String,
}

impl Verb {
    /// Its name, as the topic has it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Cancel => "cancel",
            Self::Reload => "reload",
            Self::EngineRebuild => "engine_rebuild",
            Self::ModelUpdate(_) => "model_update",
            Self::Identify => "identify",
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plain {
    id: String,
    expires_at: Timestamp,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Update {
    id: String,
    expires_at: Timestamp,
    url: String,
    sha256: String,
}

/// Only the id, to answer what is otherwise not understood.
#[derive(Deserialize)]
struct IdOnly {
    id: String,
}

/// Reads the message that came for the command `name`.
pub fn parse(name: &str, payload: &[u8], now: Timestamp) -> Result<Command, Refused> {
    if payload.len() > MOST_BYTES {
        let detail = format!("{} bytes are too many for a command", payload.len());
        return Err(Refused { id: None, reason: Reason::Malformed, detail });
    }
    let readable = serde_json::from_slice::<IdOnly>(payload).ok().map(|found| found.id).filter(|id| is_id(id));
    let refused = |reason, detail: String| Refused { id: readable.clone(), reason, detail };
    let malformed = |error: serde_json::Error| refused(Reason::Malformed, error.to_string());
    let plain = |verb| {
        let Plain { id, expires_at } = serde_json::from_slice(payload).map_err(malformed)?;
        Ok(Command { id, expires_at, verb })
    };
    let command = match name {
        "start" => plain(Verb::Start),
        "cancel" => plain(Verb::Cancel),
        "reload" => plain(Verb::Reload),
        "engine_rebuild" => plain(Verb::EngineRebuild),
        "identify" => plain(Verb::Identify),
        "model_update" => {
            let Update { id, expires_at, url, sha256 } = serde_json::from_slice(payload).map_err(malformed)?;
            if !url.starts_with("https://") {
                return Err(refused(Reason::Malformed, "url: only https:// is allowed here".into()));
            }
            if !Sha256::is_form_of(&sha256) {
                return Err(refused(Reason::Malformed, "sha256: expected 64 hexadecimal digits".into()));
            }
            let sha256 = sha256.to_ascii_lowercase();
            Ok(Command { id, expires_at, verb: Verb::ModelUpdate(ModelUpdate { url, sha256 }) })
        }
        _ => {
            let detail =
                "there is no such command; there are start, cancel, reload, engine_rebuild, model_update, identify";
            return Err(refused(Reason::UnknownCommand, detail.into()));
        }
    }?;
    if readable.is_none() {
        return Err(refused(Reason::Malformed, "id: expected 1 to 64 letters, digits, or one of _ . : -".into()));
    }
    if now.as_second() < CLOCK_IS_SET {
        return Err(refused(Reason::ClockNotSet, format!("the clock of the kiosk says {now:.0}")));
    }
    if command.expires_at <= now {
        let detail = format!("it was wanted until {:.0}; the clock of the kiosk says {now:.0}", command.expires_at);
        return Err(refused(Reason::Expired, detail));
    }
    if command.expires_at.duration_since(now) > SignedDuration::from_hours(24 * LONGEST_DAYS) {
        let detail = format!("expires_at: more than {LONGEST_DAYS} days ahead; the clock of the kiosk says {now:.0}");
        return Err(refused(Reason::Malformed, detail));
    }
    Ok(command)
}

fn is_id(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn now() -> Timestamp {
        "2026-11-25T18:00:00Z".parse().unwrap()
    }

    fn reason(name: &str, payload: &str) -> (Option<String>, Reason) {
        let refused = parse(name, payload.as_bytes(), now()).expect_err(payload);
        (refused.id, refused.reason)
    }

    #[test]
    fn a_command_names_itself_and_says_until_when_it_is_wanted() {
        let command = parse("start", br#"{"id":"a.1","expires_at":"2026-11-25T18:00:30+00:00"}"#, now()).unwrap();
        assert_eq!((command.id.as_str(), command.verb), ("a.1", Verb::Start));
        let digits = "AB".repeat(32);
        let text =
            format!(r#"{{"id":"b","expires_at":"2026-11-26T18:00:00Z","url":"https://x/y","sha256":"{digits}"}}"#);
        let command = parse("model_update", text.as_bytes(), now()).unwrap();
        let update = ModelUpdate { url: "https://x/y".into(), sha256: digits.to_lowercase() };
        assert_eq!(command.verb, Verb::ModelUpdate(update));
    }

    #[test]
    fn what_is_no_command_is_refused_with_its_id_and_a_reason() {
        let a = || Some("a".to_owned());
        let good = r#"{"id":"a","expires_at":"2026-11-25T18:01:00Z"}"#;
        assert_eq!(reason("format_disk", good), (a(), Reason::UnknownCommand));
        assert_eq!(reason("start", r#"{"id":"a"}"#), (a(), Reason::Malformed));
        assert_eq!(reason("start", "on"), (None, Reason::Malformed));
        assert_eq!(reason("start", r#"{"id":"a","expires_at":"2026-11-25T18:00:00Z"}"#), (a(), Reason::Expired));
        assert_eq!(reason("start", r#"{"id":"a","expires_at":"2026-12-25T18:00:00Z"}"#), (a(), Reason::Malformed));
        assert_eq!(reason("start", r#"{"id":"a b","expires_at":"2026-11-25T18:01:00Z"}"#), (None, Reason::Malformed));
        let other = r#"{"id":"a","expires_at":"2026-11-25T18:01:00Z","broker":"evil"}"#;
        assert_eq!(reason("reload", other), (a(), Reason::Malformed));
        for url in ["file:///etc/passwd", "http://x/y", "HTTPS"] {
            let digits = "0".repeat(64);
            let text = format!(r#"{{"id":"a","expires_at":"2026-11-25T18:01:00Z","url":"{url}","sha256":"{digits}"}}"#);
            assert_eq!(reason("model_update", &text), (a(), Reason::Malformed));
        }
        assert_eq!(reason("start", &" ".repeat(5000)), (None, Reason::Malformed));
        let unset = parse("start", good.as_bytes(), "1970-01-01T00:10:00Z".parse().unwrap()).unwrap_err();
        assert_eq!(unset.reason, Reason::ClockNotSet);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_command_or_refused(name in "[a-z_/+#]{0,20}", payload in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&name, &payload, now());
        }

        /// JSON that is nearly right, which random bytes never are.
        #[test]
        fn a_command_that_is_taken_has_an_id_and_an_end(
            name in "start|cancel|reload|identify|engine_rebuild|model_update",
            id in ".{0,70}",
            time in "(2026-11-25T18:00:0[0-9]Z|[0-9TZ:-]{0,24})",
            extra in "|,\"url\":\"https://.{0,9}\",\"sha256\":\"[0-9a-f]{63,65}\"",
        ) {
            let id = serde_json::to_string(&id).unwrap();
            let text = format!(r#"{{"id":{id},"expires_at":"{time}"{extra}}}"#);
            if let Ok(command) = parse(&name, text.as_bytes(), now()) {
                prop_assert!(is_id(&command.id) && command.expires_at > now());
                prop_assert_eq!(command.verb.name(), name);
            }
        }
    }
}
