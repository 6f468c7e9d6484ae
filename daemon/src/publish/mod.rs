//! From a finished exam to the broker.
//!
//! A result goes through three hands, and only one way: the keeper ([`keep`]) writes it into the [`Outbox`] (on disk, synced)
//! before anybody sees it; the [`Link`] sends what is in the outbox and takes it out when the broker has confirmed it.
//! If the program or the power dies anywhere between, the result is sent again after the start, with the same id. Telemetry and
//! answers to commands go the same way.

mod connection;
pub mod discovery;
mod keeper;
mod link;
mod outbox;
mod pace;
mod session;
pub mod telemetry;
pub(crate) mod tls;
mod topics;

pub use keeper::{keep, prune_hourly};
pub use link::Link;
pub(crate) use outbox::CLOCK_IS_SET;
pub use outbox::{Accepted, Kind, Outbox, OutboxError, Stock, Stored};
pub use topics::Topics;
