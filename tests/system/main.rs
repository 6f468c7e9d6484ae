//! System tests: the real program, real files, a real broker, real kills.
// A test whose stage cannot be set may panic.
#![allow(missing_docs, clippy::unwrap_used)]

mod analyze;
mod bundles;
mod certificates;
mod collector;
mod commands;
mod configuration;
mod engines;
#[path = "../../crates/tensorrt/tests/fake/mod.rs"]
mod fake;
mod faults;
mod mqtt;
mod orders;
mod proxy;
mod publishing;
mod service;
mod support;
mod tls;
mod units;
mod updates;
