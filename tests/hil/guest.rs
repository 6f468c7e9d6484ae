//! The emulated kiosk: building it, and its power switch.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::common::{free_port, project, wait};

/// What is emulated.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A PC without a screen.
    Pc,
    /// A PC with a screen and a browser.
    Screen,
    /// A computer with an ARM processor.
    Arm,
}

/// A virtual machine with everything that it writes.
pub struct Guest {
    image: PathBuf,
    folder: tempfile::TempDir,
    logs: PathBuf,
    /// Where qemu listens for what happens before the screen, if the kiosk has one.
    screen: Option<PathBuf>,
    qemu: Option<Child>,
    pub ssh_port: u16,
    pub mqtt_port: u16,
}

/// Runs one of the scripts of tests/vm, and gives what it prints.
pub fn script(name: &str, arguments: &[&Path]) -> Result<String> {
    let output = Command::new(project().join(name)).args(arguments).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| name.to_owned())?;
    ensure!(output.status.success(), "{name} failed: {}", String::from_utf8_lossy(&output.stdout));
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

impl Guest {
    /// Builds what is missing, and switches it on for the first time.
    pub fn start(kind: Kind) -> Result<Self> {
        let option: &[&Path] = match kind {
            Kind::Pc => &[],
            Kind::Screen => &[Path::new("--screen")],
            Kind::Arm => &[Path::new("--arm")],
        };
        let digest = script("tests/vm/guest.sh", &[option, &[Path::new("--digest")]].concat())?;
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache
            .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))
            .context("HOME is not set")?;
        let image = cache.join("anemiad-vm").join(format!("guest-{digest}"));
        script("tests/vm/guest.sh", &[option, &[&image]].concat())?;
        let folder = tempfile::tempdir()?;
        let logs = std::env::var_os("LOGS").map_or_else(|| folder.path().to_owned(), PathBuf::from);
        std::fs::create_dir_all(&logs)?;
        let screen = (kind == Kind::Screen).then(|| folder.path().join("screen"));
        let (ssh_port, mqtt_port) = (free_port(), free_port());
        let mut guest = Self { image, folder, logs, screen, qemu: None, ssh_port, mqtt_port };
        guest.power_on()?;
        Ok(guest)
    }

    /// Gives it power.
    pub fn power_on(&mut self) -> Result<()> {
        let mut command = Command::new(project().join("tests/vm/boot.sh"));
        command.arg(&self.image).arg(self.folder.path().join("disk.raw"));
        command.args([self.ssh_port.to_string(), self.mqtt_port.to_string()]).arg(self.logs.join("console.log"));
        command.envs(self.screen.iter().map(|socket| ("SCREEN", socket)));
        self.qemu = Some(command.stdin(Stdio::null()).spawn().context("tests/vm/boot.sh")?);
        Ok(())
    }

    /// Takes its power away, from one moment to the next.
    pub fn power_off(&mut self) -> Result<()> {
        if let Some(mut qemu) = self.qemu.take() {
            qemu.kill()?;
            qemu.wait()?;
        }
        Ok(())
    }

    /// Waits until it switches itself off, which it also does instead of a reboot.
    pub fn wait_off(&mut self, patience: Duration) -> Result<bool> {
        let Some(qemu) = &mut self.qemu else { return Ok(true) };
        let is_off = wait(patience, || qemu.try_wait().ok()?.map(|_| ())).is_some();
        if is_off {
            self.qemu = None;
        }
        Ok(is_off)
    }

    /// How to log in.
    pub fn ssh_options(&self) -> Vec<String> {
        let known = self.image.join("known_hosts");
        let mut options = vec!["-i".into(), self.image.join("key").display().to_string()];
        for option in ["IdentitiesOnly=yes", &format!("UserKnownHostsFile={}", known.display()), "HostKeyAlias=kiosk"] {
            options.extend(["-o".to_owned(), option.to_owned()]);
        }
        options
    }

    /// A folder for files of this run.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The folder for what is to be looked at afterwards.
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// Where qemu listens, if the kiosk has a screen.
    pub fn screen(&self) -> Option<PathBuf> {
        self.screen.clone()
    }

    /// The file with everything that its kernel and its journal said.
    pub fn console(&self) -> String {
        self.logs.join("console.log").display().to_string()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Nothing can be done about a process that cannot be killed.
        let _ = self.power_off();
    }
}
