//! `anemiad model`: keys and signatures on the workstation, installing and rolling back on the kiosk.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anemia_bundle::{Bundle, MANIFEST, SIGNATURE, Task, read_public_key, verify_signature, write_file};
use clap::{Args, Subcommand};
use minisign::{KeyPair, SecretKeyBox};

use super::{Slots, install};
use crate::config::{self, Config};
use crate::engines::follow;
use crate::output::say;
use crate::service::Refusal;

/// Install newer models, roll them back, and sign them
#[derive(Args)]
pub struct Models {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install a newer model; the daemon takes it with the next reload
    Install {
        /// A folder or an .anemia file, or where one is served: https://…, file://…
        source: String,
        /// SHA-256 of the file; must be given for https
        #[arg(long)]
        sha256: Option<String>,
        /// The configuration file
        #[arg(long, default_value = config::FILE)]
        config: PathBuf,
    },
    /// Show which models are in use
    List {
        /// The configuration file
        #[arg(long, default_value = config::FILE)]
        config: PathBuf,
    },
    /// Take the model from before into use again; the daemon takes it with the next reload
    Rollback {
        /// Roll the locator back, not the classifier
        #[arg(long)]
        locator: bool,
        /// The configuration file
        #[arg(long, default_value = config::FILE)]
        config: PathBuf,
    },
    /// Check the files of a bundle, and with a key its signature
    Verify {
        /// Folder of the bundle
        bundle: PathBuf,
        /// The public key of whoever signed it
        #[arg(long)]
        key: Option<PathBuf>,
    },
    /// Make a pair of keys: NAME.key is secret, NAME.pub goes onto the kiosks
    Keygen {
        /// Path of both files without .key and .pub
        name: PathBuf,
    },
    /// Sign a bundle, and write it as one file
    Sign {
        /// Folder of the bundle
        bundle: PathBuf,
        /// The secret key
        #[arg(long)]
        key: PathBuf,
        /// The file to write, such as pallor-0.6.0.anemia
        #[arg(long)]
        out: PathBuf,
    },
}

fn failure(error: impl ToString) -> Refusal {
    Refusal::Failure(error.to_string())
}

fn load(path: &Path) -> Result<Config, Refusal> {
    config::load(path).map_err(|error| Refusal::Configuration(error.to_string()))
}

const HOW_TO_RELOAD: &str = "the daemon takes it with `systemctl reload anemiad`";

impl Models {
    /// Does what was asked for.
    pub fn run(&self) -> Result<(), Refusal> {
        match &self.command {
            Command::Install { source, sha256, config } => {
                let model = install(&load(config)?, source, sha256.as_deref(), &mut follow).map_err(failure)?;
                say(format_args!("{model} is installed; {HOW_TO_RELOAD}"));
                Ok(())
            }
            Command::List { config } => list(&load(config)?),
            Command::Rollback { locator, config } => {
                let task = if *locator { Task::Locate } else { Task::Classify };
                let config = load(config)?;
                config.check_installed().map_err(failure)?;
                let slots = Slots::new(&config.state_dir, task);
                let detail = slots.roll_back("by hand").map_err(failure)?;
                say(format_args!("{detail}; {HOW_TO_RELOAD}"));
                Ok(())
            }
            Command::Verify { bundle, .. } if bundle.is_file() => Err(failure(format!(
                "{}: is a file, and the folder of a bundle is verified: `tar -xf` unpacks it",
                bundle.display()
            ))),
            Command::Verify { bundle, key } => {
                if let Some(key) = key {
                    verify_signature(bundle, &read_public_key(key).map_err(failure)?).map_err(failure)?;
                }
                let found = Bundle::open(bundle).map_err(failure)?;
                found.verify().map_err(failure)?;
                let signed = if key.is_some() { "signed and whole" } else { "whole" };
                say(format_args!("{} {}: {signed}", found.manifest().name, found.manifest().version));
                Ok(())
            }
            Command::Keygen { name } => keygen(name),
            Command::Sign { bundle, key, out } => sign(bundle, key, out),
        }
    }
}

fn list(config: &Config) -> Result<(), Refusal> {
    config.check_installed().map_err(failure)?;
    for (task, shipped) in [(Task::Classify, config.model.bundle.clone()), (Task::Locate, config.locator.folder())] {
        let slots = Slots::new(&config.state_dir, task);
        let current = slots.current();
        let line = |folder: &Path, mark: &str| match Bundle::open(folder) {
            Ok(bundle) => {
                let manifest = bundle.manifest();
                say(format_args!("{mark} {:<10} {:<8} {}", manifest.name, manifest.version, folder.display()));
            }
            Err(error) => say(format_args!("{mark} {error}")),
        };
        let mark = |in_use: bool| if in_use { "*" } else { " " };
        line(&shipped, mark(current.is_none()));
        for folder in current.iter().chain(&slots.other()) {
            line(folder, mark(Some(folder) == current.as_ref()));
        }
        if let Some(trial) = slots.trial() {
            say(format_args!("  {} has to prove itself", trial.model));
        }
        if let Some(last) = slots.last().map(|(_, last)| last).filter(|last| last.rolled_back) {
            say(format_args!("  {}", last.detail));
        }
    }
    say("* in use");
    Ok(())
}

fn keygen(name: &Path) -> Result<(), Refusal> {
    let with = |end: &str| PathBuf::from(format!("{}.{end}", name.display()));
    let (secret, public) = (with("key"), with("pub"));
    for path in [&secret, &public] {
        if path.exists() {
            return Err(failure(format!("{} exists already; a lost key cannot be made again", path.display())));
        }
    }
    let pair = KeyPair::generate_unencrypted_keypair().map_err(failure)?;
    let text = pair.sk.to_box(Some("anemiad: secret key of model bundles")).map_err(failure)?.into_string();
    write_secret(&secret, &text).map_err(|error| failure(format!("{}: {error}", secret.display())))?;
    let text = pair.pk.to_box().map_err(failure)?.into_string();
    write_file(&public, text.as_bytes()).map_err(|error| failure(format!("{}: {error}", public.display())))?;
    let (secret, public) = (secret.display(), public.display());
    say(format_args!("{secret}: keep it secret, and a copy of it in a safe place\n{public}: goes onto the kiosks"));
    Ok(())
}

fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn sign(folder: &Path, key: &Path, out: &Path) -> Result<(), Refusal> {
    let bundle = Bundle::open(folder).map_err(failure)?;
    bundle.verify().map_err(failure)?;
    let manifest = bundle.manifest();
    let text = fs::read_to_string(key).map_err(|error| failure(format!("{}: {error}", key.display())))?;
    let unusable = |error: minisign::PError| failure(format!("{}: no secret key of minisign ({error})", key.display()));
    let boxed = SecretKeyBox::from_string(&text).map_err(unusable)?;
    // One with a password asks for it at the terminal.
    let secret = match boxed.clone().into_unencrypted_secret_key() {
        Ok(secret) => secret,
        Err(_) => boxed.into_secret_key(None).map_err(unusable)?,
    };
    let content = fs::read(bundle.path_of(MANIFEST)).map_err(|error| failure(format!("{MANIFEST}: {error}")))?;
    let comment = format!("{} {}", manifest.name, manifest.version);
    let signature = minisign::sign(None, &secret, content.as_slice(), Some(&comment), None).map_err(failure)?;
    write_file(&folder.join(SIGNATURE), signature.into_string().as_bytes())
        .map_err(|error| failure(format!("{}: {error}", folder.display())))?;
    let bytes = pack(&bundle).map_err(|error| failure(format!("{}: {error}", folder.display())))?;
    write_file(out, &bytes).map_err(|error| failure(format!("{}: {error}", out.display())))?;
    say(format_args!("{comment} is signed: {}\nsha256 {}", out.display(), anemia_bundle::Sha256::of(&bytes).as_str()));
    Ok(())
}

/// The bundle as a tar file, the same bytes each time.
fn pack(bundle: &Bundle) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let named = bundle.manifest().all_files().map(|(file, _)| file);
    for file in [MANIFEST, SIGNATURE].into_iter().chain(named) {
        let content = fs::read(bundle.path_of(file))?;
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, file, content.as_slice())?;
    }
    archive.into_inner()
}
