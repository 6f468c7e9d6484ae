//! A browser, driven over WebDriver.

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};

use crate::support::{PATIENCE, eventually, free_port, project, skipped};

/// A window of a headless Chromium.
pub struct Browser {
    driver: Child,
    pub client: Client,
}

impl Browser {
    /// `None`, with a line that says so, where there is no Chromium.
    pub async fn open(width: u32, height: u32) -> Option<Self> {
        let port = free_port();
        let mut command = Command::new("chromedriver");
        command.arg(format!("--port={port}")).stdout(Stdio::null()).stderr(Stdio::null());
        let Ok(driver) = command.spawn() else {
            skipped("no browser (make test-kiosk installs one)");
            return None;
        };
        eventually("chromedriver", || TcpStream::connect(("127.0.0.1", port)).ok());
        let size = format!("--window-size={width},{height}");
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--lang=en",
            "--force-device-scale-factor=1",
            &size,
        ];
        let options = json!({"goog:chromeOptions": {"args": arguments}});
        let capabilities = options.as_object().unwrap().clone();
        let address = format!("http://127.0.0.1:{port}");
        let client =
            ClientBuilder::new(HttpConnector::new()).capabilities(capabilities).connect(&address).await.unwrap();
        let browser = Self { driver, client };
        browser.resize(width, height).await;
        Some(browser)
    }

    /// Makes the page so large: the window has a frame, also when nobody sees it.
    pub async fn resize(&self, width: u32, height: u32) {
        self.client.set_window_size(width, height).await.unwrap();
        let frame = "return [window.outerWidth - window.innerWidth, window.outerHeight - window.innerHeight]";
        let frame = self.run(frame).await;
        let [across, down] = [0, 1].map(|side| frame[side].as_u64().unwrap() as u32);
        self.client.set_window_size(width + across, height + down).await.unwrap();
    }

    /// What a script gives.
    pub async fn run(&self, script: &str) -> Value {
        self.client.execute(script, Vec::new()).await.unwrap()
    }

    /// The text that can be read in an element.
    pub async fn text(&self, css: &str) -> String {
        self.client.find(Locator::Css(css)).await.unwrap().text().await.unwrap()
    }

    /// Waits until a script gives `true`; says how long that took.
    pub async fn until(&self, what: &str, script: &str) -> Duration {
        let start = Instant::now();
        while self.run(script).await != Value::Bool(true) {
            assert!(start.elapsed() < PATIENCE, "waited too long for {what}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        start.elapsed()
    }

    /// Waits until an element holds a text.
    pub async fn until_text(&self, css: &str, text: &str) -> Duration {
        let script = format!("return document.querySelector('{css}').innerText.includes({})", Value::from(text));
        self.until(&format!("{text:?} in {css}"), &script).await
    }

    /// Writes what is seen into the documentation, when that is asked for.
    pub async fn picture(&self, name: &str) {
        if is_wanted() {
            save(name, &self.client.screenshot().await.unwrap());
        }
    }

    /// The same of one element.
    pub async fn picture_of(&self, css: &str, name: &str) {
        if is_wanted() {
            save(name, &self.client.find(Locator::Css(css)).await.unwrap().screenshot().await.unwrap());
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser goes with the driver, if the driver is told.
        let _ = Command::new("kill").args(["-TERM", &self.driver.id().to_string()]).status();
        let _ = self.driver.wait();
    }
}

fn is_wanted() -> bool {
    std::env::var_os("UPDATE_DOCS").is_some()
}

fn save(name: &str, png: &[u8]) {
    std::fs::write(project().join("docs/pictures").join(name), png).unwrap();
}

/// The accessibility checker axe, which `make test-kiosk` fetches.
pub fn axe() -> Option<String> {
    let path: PathBuf = project().join(".deps/axe/axe.min.js");
    let found = std::fs::read_to_string(path).ok();
    if found.is_none() {
        skipped("no axe (make test-kiosk fetches it)");
    }
    found
}
