//! The page of the kiosk in a real browser (Chromium, headless), and what reaches its port besides browsers.
// A test whose stage cannot be set may panic. The modules are those of the system tests, of which these need a part.
#![allow(missing_docs, clippy::unwrap_used, dead_code, unused_imports)]

mod browser;
mod page;
mod port;

#[path = "../system/certificates.rs"]
mod certificates;
#[path = "../system/mqtt.rs"]
mod mqtt;
#[path = "../system/support.rs"]
mod support;
