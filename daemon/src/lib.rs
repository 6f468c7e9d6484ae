//! The daemon of the kiosk, as a library for its own program and tests.
//!
//! ```text
//! camera ─ capture ─▶ slot ─▶ pipeline ─▶ exam ─▶ keeper ─▶ outbox (disk) ─▶ link ─▶ MQTT broker
//! ```

pub mod allocator;
pub mod analyze;
pub mod board;
mod builds;
pub mod cameras;
pub mod capture;
mod change;
pub mod commands;
pub mod config;
pub mod control;
#[cfg(feature = "demo")]
pub mod demo;
pub mod doctor;
mod early;
pub mod engines;
pub mod exam;
pub mod figures;
pub mod history;
pub mod kiosk;
pub mod local;
pub mod locator;
pub mod machine;
mod metrics;
pub mod models;
mod output;
mod overlay;
pub mod phantoms;
pub mod pictures;
pub mod pipeline;
mod pixels;
mod port;
pub mod publish;
mod rebuild;
pub mod records;
pub mod report;
pub mod run;
pub mod service;
pub mod slot;
mod starts;
pub mod status;
pub mod stop;
