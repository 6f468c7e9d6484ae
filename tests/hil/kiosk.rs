//! The kiosk under test: a board or an emulated one, driven over ssh.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::common::wait;
use crate::guest::{Guest, Kind};

/// What is tested.
pub struct Kiosk {
    options: Vec<String>,
    destination: String,
    as_root: bool,
    /// Where its broker can be reached from here.
    pub broker: (String, u16),
    /// The power switch, where it is emulated.
    pub guest: Option<Guest>,
}

impl Kiosk {
    /// An emulated kiosk, switched on.
    pub fn emulated(kind: Kind) -> Result<Self> {
        let guest = Guest::start(kind)?;
        let kiosk = Self {
            options: guest.ssh_options(),
            destination: "root@127.0.0.1".into(),
            as_root: true,
            broker: ("127.0.0.1".into(), guest.mqtt_port),
            guest: Some(guest),
        };
        kiosk.wait_on()?;
        Ok(kiosk)
    }

    /// A board that has the package installed, and its broker on it. `destination` is `user@host`; the user may use sudo without
    /// a password.
    pub fn board(destination: &str) -> Result<Self> {
        let host = destination.rsplit('@').next().unwrap_or(destination);
        let port = std::env::var("MQTT_PORT").ok().map_or(Ok(1883), |port| port.parse()).context("MQTT_PORT")?;
        let options: Vec<String> =
            std::env::var("SSH_OPTIONS").unwrap_or_default().split_whitespace().map(str::to_owned).collect();
        let broker = (std::env::var("BROKER").unwrap_or_else(|_| host.to_owned()), port);
        let as_root = destination.starts_with("root@");
        let kiosk = Self { options, destination: destination.into(), as_root, broker, guest: None };
        kiosk
            .run("true")
            .with_context(|| format!("{destination} cannot be reached over ssh, or sudo asks for a password"))?;
        Ok(kiosk)
    }

    fn ssh(&self) -> Command {
        let mut command = Command::new("ssh");
        command.args(&self.options).args(["-o", "BatchMode=yes", "-o", "ConnectTimeout=5", "-o", "LogLevel=ERROR"]);
        if let Some(guest) = &self.guest {
            command.arg("-p").arg(guest.ssh_port.to_string());
        }
        command.arg(&self.destination);
        command
    }

    /// Runs a script with bash as root, and gives what it prints.
    pub fn run(&self, script: &str) -> Result<String> {
        let mut command = self.ssh();
        command.arg(if self.as_root { "bash -s" } else { "sudo -n bash -s" });
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let whole = format!("set -euo pipefail\n{script}\n");
        process.stdin.take().context("ssh takes no input")?.write_all(whole.as_bytes())?;
        let output = process.wait_with_output()?;
        let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "on the kiosk, {:?} failed: {} {}", script, out.trim(), error.trim());
        Ok(out.trim().to_owned())
    }

    /// The same, for a number.
    pub fn number<N: std::str::FromStr>(&self, script: &str) -> Result<N> {
        let text = self.run(script)?;
        let last = text.lines().last().unwrap_or_default().trim();
        last.parse().ok().with_context(|| format!("on the kiosk, {script:?} gave {text:?} instead of a number"))
    }

    /// Copies a file or the content of a folder to a folder of the kiosk.
    pub fn send(&self, from: &Path, to: &str) -> Result<()> {
        self.run(&format!("mkdir -p '{to}'"))?;
        let (folder, what) = match from.is_dir() {
            true => (from, "."),
            false => (
                from.parent().context("a file has a folder")?,
                from.file_name().and_then(|name| name.to_str()).context("a file has a name")?,
            ),
        };
        let mut tar = Command::new("tar").arg("-c").arg("-C").arg(folder).arg(what).stdout(Stdio::piped()).spawn()?;
        let mut command = self.ssh();
        command.arg(format!("{}tar -x --no-same-owner -C '{to}'", if self.as_root { "" } else { "sudo -n " }));
        let status = command.stdin(tar.stdout.take().context("tar gives nothing")?).status()?;
        ensure!(status.success() && tar.wait()?.success(), "{} could not be copied", from.display());
        Ok(())
    }

    /// Waits until somebody can log in.
    pub fn wait_on(&self) -> Result<()> {
        match wait(Duration::from_secs(300), || self.run("systemctl is-system-running --wait >/dev/null || true").ok())
        {
            Some(_) => Ok(()),
            None => {
                bail!("the kiosk does not come up; see {}", self.guest.as_ref().map_or(String::new(), Guest::console))
            }
        }
    }

    /// A property of the daemon's unit.
    pub fn unit(&self, property: &str) -> Result<String> {
        self.run(&format!("systemctl show -P {property} anemiad"))
    }

    /// Whether it is emulated.
    pub fn is_emulated(&self) -> bool {
        self.guest.is_some()
    }
}
